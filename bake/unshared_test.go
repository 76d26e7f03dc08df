package bake

import (
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"aesthetic.computer/isofs/integration/testkit"
)

// A server that unmounts does not wait for a bake: the bake's tools have no
// copy of its mount.
func TestMountsOfIsofsAreLetGoOf(t *testing.T) {
	testkit.NeedTool(t, "unshare", "util-linux")
	device, err := os.OpenFile("/dev/fuse", os.O_RDWR, 0)
	if err != nil || os.Geteuid() != 0 {
		testkit.Lack(t, fmt.Sprintf("root and /dev/fuse: sudo go test ./bake (%v)", err))
	}
	defer device.Close()
	dir := t.TempDir()
	// No server answers behind this mount, so no process may look into it.
	if err := unix.Mount("isofs", dir, "fuse.isofs", 0, fmt.Sprintf("fd=%d,rootmode=40000,user_id=0,group_id=0", device.Fd())); err != nil {
		t.Fatal(err)
	}
	defer unix.Unmount(dir, unix.MNT_DETACH)
	out, err := exec.Command("unshare", slices.Concat(unshared, []string{"cat", "/proc/self/mountinfo"})...).CombinedOutput()
	if err != nil || !strings.Contains(string(out), " /proc ") || strings.Contains(string(out), dir) {
		t.Errorf("%v\n%s", err, out)
	}
	here, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil || !strings.Contains(string(here), dir) {
		t.Errorf("the mount itself is gone (%v)", err)
	}
}

package vfs

import (
	"errors"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"aesthetic.computer/isofs/fault"
	"aesthetic.computer/isofs/integration/testkit"
)

const nobody = 65534

// The parent mounts as root, a child without privileges serves.
func TestUnprivilegedServer(t *testing.T) {
	needMount(t)
	for _, allowOther := range []bool{true, false} {
		dir := mountFolder(t)
		device, err := OpenDevice(dir, nobody, nobody, allowOther)
		if err != nil {
			t.Fatal(err)
		}
		defer device.Close()
		cmd := asNobody(t, child(t, "serve", ""))
		cmd.ExtraFiles = []*os.File{device}
		lines := serveChild(t, cmd)
		device.Close()
		path := dir + "/child-os.iso"
		if got := run(t, "setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "stat", "-c", "%u %g %a %s", path); got != "65534 65534 444 100000" {
			t.Errorf("owner, mode, size: %s", got)
		}
		out, ok := try(t, "cat", path)
		if ok != allowOther || ok && differs([]byte(out), 9, 0) != nil {
			t.Errorf("allow_other %v: %v, %d bytes", allowOther, ok, len(out))
		}
		if err := RaiseReadAhead(dir); err != nil {
			t.Error(err)
		}
		if err := Recover(dir); err == nil || !strings.Contains(err.Error(), "another isofs serves it") {
			t.Errorf("alive, allow_other %v: %v", allowOther, err)
		}
		if allowOther {
			if err := UnmountPath(soon(t), dir); err != nil {
				t.Error(err)
			}
			if line, err := lines.ReadString('\n'); line != "gone\n" {
				t.Errorf("the child does not notice: %q, %v", line, err)
			}
			continue
		}
		cmd.Process.Kill()
		cmd.Wait()
		if err := Recover(dir); err != nil || isMounted(t, dir) {
			t.Errorf("dead, without allow_other: %v", err)
		}
	}
}

// A user without root's rights and without such a parent mounts by fusermount3.
func TestHelperMount(t *testing.T) {
	needMount(t)
	testkit.NeedTool(t, "fusermount3", "fuse3")
	dir := mountFolder(t)
	if err := os.Chown(dir, nobody, nobody); err != nil {
		t.Fatal(err)
	}
	// In the child's own mount namespace, all users may open /dev/fuse, as on
	// most systems.
	serve := asNobody(t, child(t, "serve", dir))
	t.Log(run(t, "unshare", "--mount", "sh", "-e", "-c", `
		mknod -m 666 $1.dev c 10 229
		mount --bind $1.dev /dev/fuse
		nobody='setpriv --reuid=65534 --regid=65534 --clear-groups'
		`+childMode+`=serve $nobody --pdeathsig KILL $2 $1 &
		until $nobody test -e $1/child-os.iso; do sleep 0.05; done
		test $($nobody cat $1/child-os.iso | wc -c) = 100000
		grep $1 /proc/mounts
		! $nobody dd if=/dev/zero of=$1/child-os.iso
		$nobody fusermount3 -u $1
		wait`, "sh", dir, serve.Path))
}

// asNobody makes cmd run without privileges, from a place that it can reach.
func asNobody(t testing.TB, cmd *exec.Cmd) *exec.Cmd {
	t.Helper()
	text, err := os.ReadFile(cmd.Path)
	if err != nil {
		t.Fatal(err)
	}
	place, err := os.MkdirTemp("", "vfs-test-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(place) })
	cmd.Path = filepath.Join(place, "vfs.test")
	if err := errors.Join(os.Chmod(place, 0o755), os.WriteFile(cmd.Path, text, 0o755)); err != nil {
		t.Fatal(err)
	}
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	return cmd
}

// A program that the server starts must not inherit the device: the mount of a
// killed server would then not fail.
func TestDeviceIsNotInherited(t *testing.T) {
	m := mountTree(t, newTree())
	if out := run(t, "ls", "-l", "/proc/self/fd"); strings.Contains(out, "fuse") {
		t.Errorf("inherited: %s", out)
	}
	m.stop(t)
}

func TestUnmountOfParentsMount(t *testing.T) {
	needMount(t)
	dir := mountFolder(t)
	device, err := OpenDevice(dir, 0, 0, false)
	if err != nil {
		t.Fatal(err)
	}
	s, err := Mount(Config{Device: device, Log: slog.New(slog.DiscardHandler)}, newTree())
	if err != nil {
		t.Fatal(err)
	}
	for _, err := range []error{s.Unmount(soon(t)), s.Detach()} {
		if !errors.Is(err, fault.Invalid) {
			t.Errorf("%v", err)
		}
	}
	if err := UnmountPath(soon(t), dir); err != nil {
		t.Fatal(err)
	}
	s.Wait()
}

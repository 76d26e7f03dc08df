//go:build linux

package ext4gen

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"aesthetic.computer/isofs/extent"
	"aesthetic.computer/isofs/integration/testkit"
	"golang.org/x/sys/unix"
)

// mount mounts a volume through a loop device, which disappears with the mount.
// It returns the mount point, the device, and a function that unmounts once.
func mount(t *testing.T, image, options string) (dir, device string, unmount func()) {
	t.Helper()
	if os.Geteuid() != 0 {
		testkit.Lack(t, "root, to mount")
	}
	if out, err := exec.Command("losetup", "--find").CombinedOutput(); err != nil {
		testkit.Lack(t, fmt.Sprintf("loop devices: %v: %s", err, out))
	}
	dir = t.TempDir()
	if out, err := exec.Command("mount", "-t", "ext4", "-o", "loop,"+options, image, dir).CombinedOutput(); err != nil {
		if bytes.Contains(out, []byte("permission denied")) {
			testkit.Lack(t, fmt.Sprintf("the permission to mount: %s", out))
		}
		t.Fatalf("mount: %v: %s", err, out)
	}
	mounted := true
	unmount = func() {
		if mounted {
			mounted = false
			run(t, "umount", dir)
		}
	}
	t.Cleanup(unmount)
	table, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(table)) {
		if f := strings.Fields(line); f[1] == dir {
			device = f[0]
		}
	}
	return dir, device, unmount
}

// kernelLog returns a function that returns the kernel's later log lines about
// trouble with the file system on a device.
func kernelLog(t *testing.T) func(device string) []string {
	t.Helper()
	log := func() []string {
		out, err := exec.Command("dmesg").Output()
		if err != nil {
			t.Logf("the kernel's log cannot be read: %v", err)
		}
		return strings.Split(string(out), "\n")
	}
	before := log()
	return func(device string) (lines []string) {
		for _, line := range log() {
			if !slices.Contains(before, line) && strings.Contains(line, filepath.Base(device)) &&
				(strings.Contains(line, "error") || strings.Contains(line, "warning")) {
				lines = append(lines, line)
			}
		}
		return lines
	}
}

func imageSum(t *testing.T, image string) [sha256.Size]byte {
	t.Helper()
	p, err := os.ReadFile(image)
	if err != nil {
		t.Fatal(err)
	}
	return sha256.Sum256(p)
}

// wantFiles compares every file below dir.
func wantFiles(t *testing.T, dir string, files []File) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != len(files)+1 {
		t.Errorf("%d entries, %v, want %d files and lost+found", len(entries), err, len(files))
	}
	for _, f := range files {
		got, err := os.ReadFile(filepath.Join(dir, f.Name))
		if err != nil || !bytes.Equal(got, content(t, f.Source)) {
			t.Errorf("%s: other bytes (%d of them), %v", f.Name, len(got), err)
		}
	}
}

func TestKernelMountsReadOnly(t *testing.T) {
	full := append(readable(), file("rest", 0))
	image := save(t, mustBuild(t, slot(), full...))
	before, logged := imageSum(t, image), kernelLog(t)
	dir, device, unmount := mount(t, image, "ro")
	wantFiles(t, dir, full)
	if info, err := os.Stat(filepath.Join(dir, "piece.html")); err != nil || info.Mode() != 0o644 || info.ModTime().Unix() != slot().Time {
		t.Errorf("piece.html: %v, %v", info, err)
	}
	unmount()
	if lines := logged(device); lines != nil {
		t.Errorf("the kernel logged %q", lines)
	}
	if imageSum(t, image) != before {
		t.Error("mounting it read-only changed the volume")
	}
}

func TestKernelMountsAFullDirectoryAndAFullVolume(t *testing.T) {
	for _, size := range []int64{MinSize, MaxSize} {
		o := slot()
		o.Size = size
		hole := Capacity(size) - 5000
		big, err := extent.New(Capacity(size), []extent.Extent{{Len: hole}, {Off: hole, Len: 5000, Source: extent.Bytes(noise(5000))}})
		if err != nil {
			t.Fatal(err)
		}
		files := append(named(335, 3), File{"twelve bytes", big})
		logged := kernelLog(t)
		dir, device, unmount := mount(t, save(t, mustBuild(t, o, files...)), "ro")
		wantFiles(t, dir, files)
		unmount()
		if lines := logged(device); lines != nil {
			t.Errorf("the kernel logged %q", lines)
		}
	}
}

func TestKernelWrites(t *testing.T) {
	files := pieceFiles()
	image := save(t, mustBuild(t, slot(), files...))
	logged := kernelLog(t)
	dir, device, unmount := mount(t, image, "rw")
	at := func(name string) string { return filepath.Join(dir, name) }
	for _, err := range []error{
		os.WriteFile(at("new"), noise(1_000_000), 0o600),
		os.MkdirAll(at("some/where"), 0o755),
		os.WriteFile(at("some/where/else"), noise(10), 0o600),
		os.Rename(at("piece.json"), at("some/where/renamed")),
		os.Remove(at("splash.png")),
		os.Truncate(at("piece.html"), 1000),
		os.WriteFile(at("empty"), noise(5000), 0o600),
	} {
		if err != nil {
			t.Error(err)
		}
	}
	for i := range 100 { // the directory outgrows its block
		if err := os.WriteFile(at(fmt.Sprintf("%0200d", i)), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	unix.Sync()
	unmount()
	if lines := logged(device); lines != nil {
		t.Errorf("the kernel logged %q", lines)
	}
	if out, err := exec.Command(testkit.NeedTool(t, "e2fsck", "e2fsprogs"), "-fn", image).CombinedOutput(); err != nil || bytes.Contains(out, []byte("? no")) {
		t.Errorf("e2fsck after writing: %v\n%s", err, out)
	}
	dir, _, unmount = mount(t, image, "ro")
	defer unmount()
	got, err := os.ReadFile(filepath.Join(dir, "some/where/renamed"))
	if err != nil || !bytes.Equal(got, content(t, files[1].Source)) {
		t.Errorf("piece.json after its renaming: other bytes (%d of them), %v", len(got), err)
	}
	got, err = os.ReadFile(filepath.Join(dir, "piece.html"))
	if err != nil || !bytes.Equal(got, content(t, files[0].Source)[:1000]) {
		t.Errorf("piece.html after its truncation: other bytes (%d of them), %v", len(got), err)
	}
}

func TestKernelReadsTheTimes(t *testing.T) {
	for _, seconds := range []int64{0, -1, minTime, 1 << 31, 1 << 32, maxTime} {
		o := slot()
		o.Time = seconds
		dir, _, unmount := mount(t, save(t, mustBuild(t, o, file("piece.html", 10))), "ro")
		for _, name := range []string{"", "lost+found", "piece.html"} {
			if info, err := os.Stat(filepath.Join(dir, name)); err != nil || info.ModTime().Unix() != seconds {
				t.Errorf("time %d of %q: %v, %v", seconds, name, info, err)
			}
		}
		unmount()
	}
}

// TestBlkidFindsTheLabel asks as a booting session does.
func TestBlkidFindsTheLabel(t *testing.T) {
	if os.Geteuid() != 0 {
		testkit.Lack(t, "root, for a loop device")
	}
	o := slot()
	o.Label = fmt.Sprintf("ISOFS-%d", os.Getpid()) // not another test's volume
	image := save(t, mustBuild(t, o, pieceFiles()...))
	out, err := exec.Command("losetup", "--find", "--show", "--read-only", image).CombinedOutput()
	if err != nil {
		testkit.Lack(t, fmt.Sprintf("loop devices: %v: %s", err, out))
	}
	device := strings.TrimSpace(string(out))
	t.Cleanup(func() { run(t, "losetup", "--detach", device) })
	if found := run(t, testkit.NeedTool(t, "blkid", "util-linux"), "-c", "/dev/null", "-L", o.Label); strings.TrimSpace(found) != device {
		t.Errorf("found %q, want %s", found, device)
	}
}

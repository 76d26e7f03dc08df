package integration

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"aesthetic.computer/isofs/integration/testkit"
	"golang.org/x/sys/unix"
)

// TestOutputIsNotAFile: -o names something other than a file. isofs writes to it or refuses, and
// does not replace it.
func TestOutputIsNotAFile(t *testing.T) {
	t.Parallel()
	needRoot(t)
	// The test makes its own: a mistake in isofs would replace the machine's.
	dir := readable(t)
	null, disk, fifo := filepath.Join(dir, "null"), filepath.Join(dir, "sdb"), filepath.Join(dir, "fifo")
	for _, err := range []error{
		unix.Mknod(null, unix.S_IFCHR|0o666, int(unix.Mkdev(1, 3))),
		unix.Mknod(disk, unix.S_IFBLK|0o660, int(unix.Mkdev(1, 0))),
		unix.Mkfifo(fifo, 0o600),
	} {
		if err != nil {
			testkit.Lack(t, "to make devices: "+err.Error())
		}
	}
	pack := []string{"pack", "notepat", "--base", baseDir, "--state", filepath.Join(dir, "state"), "-o"}
	image, link := filepath.Join(dir, "real.iso"), filepath.Join(dir, "link.iso")
	if err := os.Symlink("real.iso", link); err != nil {
		t.Fatal(err)
	}
	if status, _, stderr := isofsCommand(t, nil, append(pack, link)...); status != 0 {
		t.Fatal(stderr)
	}
	want := fileSum(t, image) // the file that the link points to

	var through bytes.Buffer
	reader := exec.Command("sha256sum", fifo)
	reader.Stdout = &through
	if err := reader.Start(); err != nil {
		t.Fatal(err)
	}
	if status, stdout, stderr := isofsCommand(t, nil, append(pack, fifo)...); status != 0 || !strings.Contains(stdout, want) {
		t.Errorf("to a FIFO: %d\n%s%s", status, stdout, stderr)
	}
	if now, err := os.Lstat(fifo); err != nil || now.Mode().Type() != os.ModeNamedPipe || t.Failed() {
		_ = reader.Process.Kill() // it may still wait for a writer
	}
	if err := reader.Wait(); err != nil || !strings.HasPrefix(through.String(), want) {
		t.Errorf("through the FIFO came %q (%v), not %s", through.String(), err, want)
	}
	if status, stdout, stderr := isofsCommand(t, nil, append(pack, "-")...); status != 0 || textSum(stdout) != want || !strings.Contains(stderr, want) {
		t.Errorf("to standard output: %d, %d bytes\n%s", status, len(stdout), stderr)
	}
	if status, stdout, stderr := isofsCommand(t, nil, append(pack, null)...); status != 0 || !strings.Contains(stdout, want) {
		t.Errorf("to a null device: %d\n%s%s", status, stdout, stderr)
	}
	index := []string{"base", "index", filepath.Join(baseDir, "base.iso"), "-o"}
	if status, stdout, stderr := isofsCommand(t, nil, append(index, null)...); status != 0 {
		t.Errorf("a manifest to a null device: %d\n%s%s", status, stdout, stderr)
	}
	for _, args := range [][]string{append(pack, disk), append(index, disk), append(pack, dir),
		{"boot-test", image, "--piece", "notepat", "--json", disk}, {"key", "new", "--name", "x", "--email", "x@y.example", "--out", null}} {
		if status, stdout, stderr := isofsCommand(t, nil, args...); status != misused || strings.Contains(stderr, "goroutine") {
			t.Errorf("%q: %d\n%s%s", args, status, stdout, stderr)
		}
	}
	for path, want := range map[string]os.FileMode{null: os.ModeDevice | os.ModeCharDevice, disk: os.ModeDevice, fifo: os.ModeNamedPipe, link: os.ModeSymlink} {
		if fi, err := os.Lstat(path); err != nil || fi.Mode().Type() != want {
			t.Errorf("%s is %v now (%v)", path, fi, err)
		}
	}
	if left, err := filepath.Glob(filepath.Join(dir, "*")); err != nil || len(left) != 6 {
		t.Errorf("there are %q", left)
	}
}

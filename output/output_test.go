package output

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"aesthetic.computer/isofs/fault"
)

// lacks skips a test that lacks a right, by name; in CI it fails.
func lacks(t *testing.T, what string) {
	t.Helper()
	if os.Getenv("CI") != "" {
		t.Fatal("needs " + what)
	}
	t.Skip("needs " + what)
}

// node makes a device, which only root can.
func node(t *testing.T, name string, mode uint32, major, minor uint32) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := unix.Mknod(path, mode|0o600, int(unix.Mkdev(major, minor))); err != nil {
		lacks(t, "to make devices: "+err.Error())
	}
	return path
}

// kind returns what there is at a name, a link not followed.
func kind(t *testing.T, path string) os.FileMode {
	t.Helper()
	fi, err := os.Lstat(path)
	if err != nil {
		t.Fatal(err)
	}
	return fi.Mode()
}

func content(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// A device is written into, and never becomes a file; nor does a link to one.
func TestDevices(t *testing.T) {
	null := node(t, "null", unix.S_IFCHR, 1, 3)
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(null, link); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{null, link} {
		if err := WriteFile(t.Context(), name, []byte("x")); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if full := node(t, "full", unix.S_IFCHR, 1, 7); !errors.Is(WriteFile(t.Context(), full, []byte("x")), unix.ENOSPC) {
		t.Error("to a device that takes nothing: no error")
	}
	disk := node(t, "sdb", unix.S_IFBLK, 1, 0)
	if err := WriteFile(t.Context(), disk, []byte("x")); !errors.Is(err, fault.Invalid) {
		t.Errorf("to a disk: %v", err)
	}
	if kind(t, null).Type() != os.ModeDevice|os.ModeCharDevice || kind(t, disk).Type() != os.ModeDevice || kind(t, link).Type() != os.ModeSymlink {
		t.Errorf("they are %v, %v and %v now", kind(t, null), kind(t, disk), kind(t, link))
	}
}

func TestFIFO(t *testing.T) {
	fifo := filepath.Join(t.TempDir(), "fifo")
	if err := unix.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	got := make(chan string)
	go func() {
		data, err := os.ReadFile(fifo)
		if err != nil {
			t.Error(err)
		}
		got <- string(data)
	}()
	if err := WriteFile(t.Context(), fifo, []byte("through")); err != nil || kind(t, fifo).Type() != os.ModeNamedPipe {
		t.Fatalf("it is %v now: %v", kind(t, fifo), err)
	}
	if text := <-got; text != "through" {
		t.Errorf("%q came", text)
	}
	// No program reads: waiting ends with the command.
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Create(ctx, fifo); !errors.Is(err, context.Canceled) {
		t.Errorf("without a reader: %v", err)
	}
}

func TestStandardOutput(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	was := os.Stdout
	os.Stdout = w
	t.Cleanup(func() { os.Stdout = was })
	t.Chdir(t.TempDir())
	err = errors.Join(WriteFile(t.Context(), "-", []byte("one ")), WriteNew("-", []byte("two")), w.Close())
	data, readErr := io.ReadAll(r)
	if err := errors.Join(err, readErr); err != nil || string(data) != "one two" {
		t.Errorf("%q came: %v", data, err)
	}
	if names, err := os.ReadDir("."); err != nil || len(names) != 0 {
		t.Errorf("files: %v (%v)", names, err)
	}
}

// A link stays, and the file that it points to is replaced, or made.
func TestLinks(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	if err := errors.Join(os.MkdirAll("far/away", 0o755), os.WriteFile("far/file", []byte("old"), 0o640),
		os.Symlink("far/file", "link"), os.Symlink("../file", "far/away/up"), os.Symlink("far/away", "short"),
		os.Symlink("short/up", "twice"), os.Symlink("far/new", "dangling"), os.Symlink("round", "round")); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"link", "far/away/up", "short/../file", "twice", filepath.Join(dir, "link")} {
		if err := WriteFile(t.Context(), name, []byte(name)); err != nil {
			t.Errorf("%s: %v", name, err)
		} else if got := content(t, "far/file"); got != name {
			t.Errorf("%s: the file has %q", name, got)
		}
	}
	if err := WriteFile(t.Context(), "dangling", []byte("new")); err != nil || content(t, "far/new") != "new" {
		t.Errorf("where it points to there is nothing: %v", err)
	}
	for _, name := range []string{"link", "far/away/up", "short", "twice", "dangling"} {
		if kind(t, name).Type() != os.ModeSymlink {
			t.Errorf("%s is %v now", name, kind(t, name))
		}
	}
	if err := WriteFile(t.Context(), "round", nil); fault.Kind(err) == nil {
		t.Errorf("a link to itself: %v", err)
	}
	if os.Geteuid() != 0 {
		return
	}
	// The owner of the link decides which file it is.
	if err := errors.Join(os.Symlink("far/file", "theirs"), os.Lchown("theirs", 65534, 65534)); err != nil {
		t.Fatal(err)
	}
	before := content(t, "far/file")
	if err := WriteFile(t.Context(), "theirs", []byte("x")); !errors.Is(err, fault.Invalid) || content(t, "far/file") != before || kind(t, "theirs").Type() != os.ModeSymlink {
		t.Errorf("a link of somebody else's: %v", err)
	}
}

func TestFiles(t *testing.T) {
	dir := t.TempDir()
	name := filepath.Join(dir, "file")
	was := unix.Umask(0o077)
	defer unix.Umask(was)
	f, err := Create(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.To.WriteString("half"); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Lstat(name); err == nil {
		t.Error("it has its name before it is whole")
	}
	f.Abort()
	if names, err := os.ReadDir(dir); err != nil || len(names) != 0 {
		t.Errorf("an abort leaves %v (%v)", names, err)
	}
	for _, share := range []bool{false, true, false} {
		f, err := Create(t.Context(), name)
		if err != nil {
			t.Fatal(err)
		}
		want := os.FileMode(0o600)
		if share {
			err = f.Share()
		}
		if share || kindOf(name) == 0o644 {
			want = 0o644 // an existing file keeps its mode
		}
		if err := errors.Join(err, f.Commit()); err != nil || kind(t, name) != want {
			t.Errorf("shared %v: %v, %v", share, kind(t, name), err)
		}
		f.Abort()
	}
	socket, err := net.Listen("unix", filepath.Join(dir, "socket"))
	if err != nil {
		t.Fatal(err)
	}
	defer socket.Close()
	for _, wrong := range []string{dir, dir + "/", dir + "/none/", filepath.Join(dir, "socket")} {
		if err := WriteFile(t.Context(), wrong, nil); !errors.Is(err, fault.Invalid) {
			t.Errorf("%s: %v", wrong, err)
		}
	}
	if err := WriteFile(t.Context(), filepath.Join(dir, "none", "file"), nil); !errors.Is(err, fault.Unavailable) {
		t.Errorf("in no folder: %v", err)
	}
}

// kindOf returns the mode of a file, 0 if it does not exist.
func kindOf(path string) os.FileMode {
	fi, err := os.Lstat(path)
	if err != nil {
		return 0
	}
	return fi.Mode()
}

func TestNewFiles(t *testing.T) {
	dir := t.TempDir()
	name, link := filepath.Join(dir, "key"), filepath.Join(dir, "link")
	if err := WriteNew(name, []byte("secret")); err != nil || content(t, name) != "secret" || kind(t, name) != 0o600 {
		t.Errorf("%v, %v", kind(t, name), err)
	}
	if err := os.Symlink(filepath.Join(dir, "elsewhere"), link); err != nil {
		t.Fatal(err)
	}
	for _, there := range []string{name, link, os.DevNull} {
		if err := WriteNew(there, []byte("other")); !errors.Is(err, fault.Invalid) {
			t.Errorf("%s: %v", there, err)
		}
	}
	if content(t, name) != "secret" || kindOf(filepath.Join(dir, "elsewhere")) != 0 {
		t.Error("something that was there was written to")
	}
}

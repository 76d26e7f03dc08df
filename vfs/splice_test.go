package vfs

import (
	"bytes"
	"errors"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/hanwen/go-fuse/v2/splice"
	"golang.org/x/sys/unix"
)

// TestPipesRunOut: while the user's other programs have all that pipes may take,
// reads are copied, and are spliced again afterwards. The log says both. It does
// not matter whether pipes were short when this program started.
func TestPipesRunOut(t *testing.T) {
	switch os.Getenv(pipesRunOut) {
	case "":
		asUser(t)
		return
	case "from the start":
		if !splice.Resizable() {
			t.Error("go-fuse goes by what it saw as the program started")
		}
		return
	}
	img := newImage(t, "notepat-os.iso", 1, 4<<20, 0)
	log := &bytes.Buffer{}
	s := newSplicer(slog.New(slog.NewTextHandler(log, nil)))
	s.pause = 0
	splice.ClearSplicePool()
	taken := takePipes(t)
	startAgain(t)
	const n = 600_000
	if r := s.load(img.file, shift, n, func() {}); r != nil {
		t.Fatal("spliced without pipes that are large enough")
	}
	s.pause = time.Hour
	s.load(img.file, shift, n, func() {})
	for _, f := range taken {
		f.Close()
	}
	if r := s.load(img.file, shift, n, func() {}); r != nil {
		t.Error("tried again at once")
	}
	s.copyUntil.Store(1) // the hour is over
	r := s.load(img.file, shift, n, func() {})
	if r == nil {
		t.Fatal("not spliced any more")
	}
	r.Done()
	if logged := log.String(); strings.Count(logged, "level=WARN") != 1 || strings.Count(logged, "spliced again") != 1 {
		t.Errorf("the log says %s", logged)
	}
}

// pipesRunOut is set where a test runs as a user with few pipes.
const pipesRunOut = "ISOFS_TEST_PIPES"

// asUser runs this test again, as a user without other processes.
func asUser(t *testing.T) {
	t.Helper()
	needMount(t) // root, who can become another user
	const user = 47114
	dir, err := os.MkdirTemp("", "isofs-pipes")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	self, err := os.ReadFile("/proc/self/exe")
	program := filepath.Join(dir, "vfs.test")
	if err := errors.Join(err, os.WriteFile(program, self, 0o755), os.Chmod(program, 0o755), os.Chown(dir, user, user)); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(program, "-test.run", "^"+t.Name()+"$", "-test.v")
	cmd.Env = append(os.Environ(), pipesRunOut+"=later", "TMPDIR="+dir)
	cmd.Dir = dir
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: user, Gid: user}}
	if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), "--- PASS") {
		t.Fatalf("by a user: %v\n%s", err, out)
	}
}

// startAgain runs this test in another process, which starts without pipes.
func startAgain(t *testing.T) {
	t.Helper()
	cmd := exec.Command("/proc/self/exe", "-test.run", "^"+t.Name()+"$", "-test.v")
	cmd.Env = append(os.Environ(), pipesRunOut+"=from the start")
	if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), "--- PASS") {
		t.Errorf("started without pipes: %v\n%s", err, out)
	}
}

// takePipes takes all that the pipes of this user may have.
func takePipes(t *testing.T) []*os.File {
	t.Helper()
	var all []*os.File
	for range 2000 {
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, r, w)
		size, err := unix.FcntlInt(w.Fd(), unix.F_SETPIPE_SZ, splice.MaxPipeSize())
		for err != nil && size > 4096 {
			size, err = unix.FcntlInt(w.Fd(), unix.F_SETPIPE_SZ, size/2)
		}
		if _, err := unix.FcntlInt(w.Fd(), unix.F_SETPIPE_SZ, splice.MaxPipeSize()); err != nil {
			return all
		}
	}
	t.Fatal("pipes have no bound here")
	return nil
}

package vfs

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"aesthetic.computer/isofs/fault"
	"aesthetic.computer/isofs/integration/testkit"

	"golang.org/x/sys/unix"
)

// A read that fails in the middle of a file is an error to its reader, with
// each kind of failure, spliced or copied.
func TestReadFails(t *testing.T) {
	eachProfile(t, func(t *testing.T, profile func(*Config)) {
		const bad = 5<<20 + 1
		for _, test := range []struct {
			err  error
			tail int64
			want string
		}{
			{fmt.Errorf("block 5 of base: %w", fault.Corrupt), 0, "Input/output error"},
			{fmt.Errorf("block 5 of base: %w", fault.Unavailable), bigBytes, "Input/output error"},
			{fmt.Errorf("block 5 of base: %w", fault.NotFound), 0, "Input/output error"},
			{errors.New("unclassified"), bigBytes, "Input/output error"},
			{fmt.Errorf("block 5 of base: %w", fault.Invalid), 0, "Invalid argument"},
			{io.EOF, bigBytes, "Input/output error"},
			{context.Canceled, bigBytes, "Input/output error"}, // another reader's
		} {
			img := newImage(t, "notepat-os.iso", 1, bigBytes, test.tail)
			img.before = func(_ context.Context, off, n int64) error {
				if off <= bad && bad < off+n {
					return test.err
				}
				return nil
			}
			m := mountTree(t, newTree(img), profile)
			out, ok := try(t, "dd", "if="+m.path("notepat-os.iso"), "of=/dev/null", "bs=64k")
			want := test.want
			if ok || !strings.Contains(out, want) {
				// The page cache has one error only.
				if strings.Contains(out, "Input/output error") && m.server.core.flags&1 == 0 {
					continue
				}
				t.Errorf("%v: %s", test.err, out)
			}
			if log := m.log.String(); !strings.Contains(log, test.err.Error()) || !strings.Contains(log, img.id) {
				t.Errorf("%v: not in the log: %s", test.err, log)
			}
			m.stop(t, img)
		}
	})
}

func TestLookupFails(t *testing.T) {
	tree := newTree()
	tree.wait = func(_ context.Context, name string) error {
		switch name {
		case "down-os.iso":
			return fmt.Errorf("oven: %w", fault.Unavailable)
		case "bad-os.iso":
			return fmt.Errorf("piece name: %w", fault.Invalid)
		}
		return nil
	}
	m := mountTree(t, tree)
	for name, want := range map[string]string{
		"down-os.iso": "Input/output error", "bad-os.iso": "No such file", "none-os.iso": "No such file",
	} {
		if out, ok := try(t, "stat", m.path(name)); ok || !strings.Contains(out, want) {
			t.Errorf("%s: %s", name, out)
		}
	}
	if log := m.log.String(); !strings.Contains(log, "down-os.iso") || strings.Contains(log, "bad-os.iso") {
		t.Errorf("log: %s", log)
	}
	// The kernel does not remember that it was unavailable.
	asked := tree.timesAsked("down-os.iso")
	try(t, "stat", m.path("down-os.iso"))
	if tree.timesAsked("down-os.iso") == asked {
		t.Error("the kernel answered by itself")
	}
}

// A name whose image does not come fails after the limit, and holds up neither
// other names nor the listing meanwhile.
func TestSlowLookup(t *testing.T) {
	img := newImage(t, "notepat-os.iso", 1, 4096, 0)
	slow := newImage(t, "slow-os.iso", 2, 4096, 0)
	tree := newTree(img, slow)
	waiting := make(chan struct{}, 10)
	tree.wait = func(ctx context.Context, name string) error {
		if name != "slow-os.iso" {
			return nil
		}
		waiting <- struct{}{}
		<-ctx.Done()
		return fmt.Errorf("oven: %w: %w", fault.Unavailable, ctx.Err())
	}
	m := mountTree(t, tree)
	hung := program(t, "stat", m.path("slow-os.iso"))
	if err := hung.Start(); err != nil {
		t.Fatal(err)
	}
	<-waiting
	run(t, "cat", m.path("notepat-os.iso"))
	run(t, "stat", m.path("s/"+slow.id+"/slow-os.iso"))
	if got := run(t, "ls", m.dir); got != "notepat-os.iso\nnotepat-os.iso.sha256\ns\nslow-os.iso" {
		t.Errorf("listing: %s", got)
	}
	hung.Process.Kill()
	hung.Wait()
	m.stop(t, img, slow)

	m = mountTree(t, tree, func(c *Config) { c.LookupTimeout = 50 * time.Millisecond })
	if out, ok := try(t, "stat", m.path("slow-os.iso")); ok || !strings.Contains(out, "Input/output error") {
		t.Errorf("after the limit: %s", out)
	}
}

// hangingImage is an image whose reads wait until they are given up or
// released.
func hangingImage(t testing.TB) (img *fakeImage, hanging, givenUp, letGo chan struct{}) {
	img = newImage(t, "hangs-os.iso", 7, 1<<20, 1<<20)
	hanging, givenUp, letGo = make(chan struct{}, 100), make(chan struct{}, 100), make(chan struct{})
	img.before = func(ctx context.Context, _, _ int64) error {
		hanging <- struct{}{}
		select {
		case <-ctx.Done():
			givenUp <- struct{}{}
			return fmt.Errorf("wait for block 0: %w", ctx.Err())
		case <-letGo:
			return nil
		}
	}
	return img, hanging, givenUp, letGo
}

// A reader that is killed while its read hangs ends, and so does the read.
// Other readers do not wait for it.
func TestKilledReader(t *testing.T) {
	for _, sig := range []syscall.Signal{syscall.SIGKILL, syscall.SIGTERM, syscall.SIGQUIT} {
		img, hanging, givenUp, _ := hangingImage(t)
		other := newImage(t, "notepat-os.iso", 1, someBytes, 1<<20)
		m := mountTree(t, newTree(img, other))
		reader := program(t, "dd", "if="+m.path("hangs-os.iso"), "of=/dev/null", "bs=1M")
		if err := reader.Start(); err != nil {
			t.Fatal(err)
		}
		<-hanging
		if err := differs([]byte(runOut(t, "cat", m.path("notepat-os.iso"))), 1, 0); err != nil {
			t.Error(err)
		}
		reader.Process.Signal(sig)
		if err := reader.Wait(); err == nil || reader.ProcessState.Exited() {
			t.Errorf("reader, sent %v: %v", sig, err)
		}
		<-givenUp
		if strings.Contains(m.log.String(), "cannot read") {
			t.Errorf("a read given up was logged: %s", m.log)
		}
		m.stop(t, img, other)
	}
}

// A harmless signal does not fail a reader's read.
func TestStoppedReader(t *testing.T) {
	img, hanging, givenUp, letGo := hangingImage(t)
	m := mountTree(t, newTree(img))
	reader := program(t, "cat", m.path("hangs-os.iso"))
	content, _ := reader.StdoutPipe()
	if err := reader.Start(); err != nil {
		t.Fatal(err)
	}
	<-hanging
	reader.Process.Signal(syscall.SIGTSTP)
	reader.Process.Signal(syscall.SIGCONT)
	time.Sleep(3 * look) // a wrongly cancelled read would have failed by now
	close(letGo)
	data, _ := io.ReadAll(content)
	if err := reader.Wait(); err != nil || len(givenUp) > 0 || len(data) != 1<<20 {
		t.Errorf("reader: %v, %d bytes, given up %d times", err, len(data), len(givenUp))
	}
	m.stop(t, img)
}

// When the mount is removed by force, hanging reads are given up, although
// their readers live on.
func TestMountAborted(t *testing.T) {
	img, hanging, givenUp, _ := hangingImage(t)
	m := mountTree(t, newTree(img))
	reader := child(t, "stay", m.path("hangs-os.iso"))
	stay, _ := reader.StdinPipe()
	if err := reader.Start(); err != nil {
		t.Fatal(err)
	}
	<-hanging
	if err := unix.Unmount(m.dir, unix.MNT_FORCE|unix.MNT_DETACH); err != nil {
		t.Fatal(err)
	}
	<-givenUp
	m.server.Wait()
	if img.opened.Load() != img.closed.Load() {
		t.Error("a handle is left open")
	}
	stay.Close()
	if err := reader.Wait(); err != nil {
		t.Errorf("the reader did not live on: %v", err)
	}
}

func TestWritesRefused(t *testing.T) {
	img := newImage(t, "notepat-os.iso", 1, 4096, 0)
	m := mountTree(t, newTree(img))
	check := func(when string) {
		t.Helper()
		for line := range strings.SplitSeq(strings.TrimSpace(runChild(t, "write", m.dir, "notepat-os.iso")), "\n") {
			if !strings.HasSuffix(line, "read-only file system") {
				t.Errorf("%s: %s", when, line)
			}
		}
	}
	check("mounted read-only")
	if err := unix.Mount("", m.dir, "", unix.MS_REMOUNT|unix.MS_NOSUID|unix.MS_NODEV, ""); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(run(t, "grep", m.dir, "/proc/mounts"), " rw,") {
		t.Fatal("not remounted")
	}
	check("remounted writable")
}

func TestFaultLog(t *testing.T) {
	book := &testkit.Buffer{}
	clock := time.Unix(0, 0)
	l := newFaultLog(slog.New(slog.NewTextHandler(book, nil)))
	l.now = func() time.Time { return clock }
	for range 1000 {
		l.report(slog.LevelWarn, "read a", "cannot read", "name", "a")
	}
	l.report(slog.LevelWarn, "read b", "cannot read", "name", "b")
	if got := strings.Count(book.String(), "\n"); got != 2 {
		t.Errorf("%d lines, want 2: %s", got, book)
	}
	clock = clock.Add(quiet)
	l.report(slog.LevelWarn, "read a", "cannot read", "name", "a")
	if !strings.Contains(book.String(), "more_like_it=999") {
		t.Errorf("what was left out is not told: %s", book)
	}
	before := strings.Count(book.String(), "\n")
	for i := range 100 * mostKeys {
		l.report(slog.LevelWarn, fmt.Sprint("read ", i), "cannot read")
	}
	if got := strings.Count(book.String(), "\n") - before; got > mostKeys+1 || len(l.seen) > mostKeys+1 {
		t.Errorf("%d lines, %d keys, want at most %d", got, len(l.seen), mostKeys+1)
	}
}

func TestDeadly(t *testing.T) {
	for _, test := range []struct {
		what, status string
		want         bool
	}{
		{"killed", "State:\tS\nSigPnd:\t0000000000000100\nShdPnd:\t0\nSigBlk:\t0\nSigIgn:\t0\nSigCgt:\t0\n", true},
		{"killed, and blocks all", "SigPnd:\t0000000000000100\nSigBlk:\tfffffffffffffeff\nSigCgt:\tffffffffffffffff\n", true},
		{"quit", "ShdPnd:\t0000000000000004\nSigBlk:\t0\nSigIgn:\t0\nSigCgt:\t0\n", true},
		{"quit, which it catches", "ShdPnd:\t0000000000000004\nSigCgt:\t0000000000000004\n", false},
		{"quit, which it blocks", "ShdPnd:\t0000000000000004\nSigBlk:\t0000000000000004\n", false},
		{"quit, which it ignores", "ShdPnd:\t0000000000000004\nSigIgn:\t0000000000000004\n", false},
		{"a child ended", "ShdPnd:\t0000000000010000\n", false},
		{"stopped", "SigPnd:\t0\nShdPnd:\t0000000000080000\n", false},
		{"nothing", "State:\tS (sleeping)\nSigPnd:\t0000000000000000\n", false},
		{"dead", "State:\tZ (zombie)\n", true},
	} {
		if got := deadly([]byte(test.status)); got != test.want {
			t.Errorf("%s: %v", test.what, got)
		}
	}
	self, err := os.ReadFile("/proc/self/status")
	if err != nil || deadly(self) {
		t.Errorf("this process is dying: %v", err)
	}
}

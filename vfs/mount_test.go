package vfs

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"aesthetic.computer/isofs/integration/testkit"
)

// patience bounds what must happen. It is long, as machines may be loaded, and
// a test that passes does not wait for it.
const patience = 60 * time.Second

// needMount skips a test that needs a real mount, by name, but not in CI.
func needMount(t testing.TB) {
	t.Helper()
	if _, err := os.Stat("/dev/fuse"); err == nil && os.Geteuid() == 0 {
		return
	}
	testkit.Lack(t, "root and /dev/fuse: sudo go test ./vfs")
}

// A testMount is a mount in its own folder.
type testMount struct {
	dir    string
	server *Server
	log    *testkit.Buffer
}

func (m testMount) path(name string) string { return filepath.Join(m.dir, name) }

// mountTree mounts tree until the test ends, however it does.
func mountTree(t testing.TB, tree Tree, change ...func(*Config)) testMount {
	t.Helper()
	needMount(t)
	m := testMount{dir: mountFolder(t), log: &testkit.Buffer{}}
	c := Config{
		Mountpoint: m.dir, AllowOther: true,
		Log: slog.New(slog.NewTextHandler(m.log, &slog.HandlerOptions{Level: slog.LevelDebug})),
	}
	for _, f := range change {
		f(&c)
	}
	server, err := Mount(c, tree)
	if err != nil {
		t.Fatal(err)
	}
	m.server = server
	return m
}

// mountFolder makes a folder that is unmounted in the end.
func mountFolder(t testing.TB) string {
	t.Helper()
	parent := t.TempDir()
	// Unprivileged users must reach it.
	for dir := parent; dir != os.TempDir() && dir != "/"; dir = filepath.Dir(dir) {
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	dir := filepath.Join(parent, "mnt")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for range mostMounts {
			if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
				break
			}
		}
	})
	return dir
}

func withProfile(p Profile) func(*Config) { return func(c *Config) { c.Profile = p } }

// eachProfile runs f with each read profile.
func eachProfile(t *testing.T, f func(t *testing.T, profile func(*Config))) {
	for _, p := range []Profile{Direct, PageCache} {
		t.Run(string(p), func(t *testing.T) { f(t, withProfile(p)) })
	}
}

// program makes a command that dies with the test and after patience. Other
// processes must read the mount, not the one that serves it.
func program(t testing.TB, name string, args ...string) *exec.Cmd {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env = append(os.Environ(), "LC_ALL=C")
	cmd.WaitDelay = time.Second
	return cmd
}

// try runs a program and returns what it printed and whether it succeeded.
func try(t testing.TB, name string, args ...string) (output string, ok bool) {
	t.Helper()
	out, err := program(t, name, args...).CombinedOutput()
	if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
		t.Fatalf("%s %q: %v", name, args, err)
	}
	return string(out), err == nil
}

// run is try for commands that must succeed. It returns the output without the
// line's end.
func run(t testing.TB, name string, args ...string) string {
	t.Helper()
	out, ok := try(t, name, args...)
	if !ok {
		t.Fatalf("%s %q failed: %s", name, args, out)
	}
	return strings.TrimSpace(out)
}

// child makes a command that runs this test program as one of children.
func child(t testing.TB, mode string, args ...any) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	var words []string
	for _, arg := range args {
		words = append(words, fmt.Sprint(arg))
	}
	cmd := program(t, self, words...)
	cmd.Env = append(cmd.Env, childMode+"="+mode)
	return cmd
}

// runChild runs one of children, which must succeed.
func runChild(t testing.TB, mode string, args ...any) string {
	t.Helper()
	out, err := child(t, mode, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %v: %v: %s", mode, args, err, out)
	}
	return string(out)
}

// stop unmounts, and reports what was left open.
func (m testMount) stop(t testing.TB, images ...*fakeImage) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := m.server.Unmount(ctx); err != nil {
		t.Fatal(err)
	}
	for _, img := range images {
		if o, c := img.opened.Load(), img.closed.Load(); o != c {
			t.Errorf("%s: %d handles opened, %d closed", img.name, o, c)
		}
		if p, r := img.pins.Load(), img.released.Load(); p != r {
			t.Errorf("%s: %d pins, %d released", img.name, p, r)
		}
	}
}

package border

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"aesthetic.computer/isofs/fault"
)

// other is the user that must stay out of root's directories.
const other = 65534

// site makes a directory of root's that all can enter, below sticky /var/tmp.
func site(t *testing.T) string {
	t.Helper()
	if os.Geteuid() != 0 {
		if os.Getenv("CI") != "" {
			t.Fatal("needs root")
		}
		t.Skip("needs root")
	}
	dir, err := os.MkdirTemp("/var/tmp", "isofs-border-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	do(t, os.Chmod(dir, 0o755))
	return dir
}

func do(t *testing.T, errs ...error) {
	t.Helper()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
}

func stat(t *testing.T, path string) *syscall.Stat_t {
	t.Helper()
	fi, err := os.Lstat(path)
	if err != nil {
		t.Fatal(err)
	}
	return fi.Sys().(*syscall.Stat_t)
}

// layout makes what the tests of names need: root's directories, those of
// another user, and links between them.
func layout(t *testing.T) string {
	dir := site(t)
	in := func(name string) string { return filepath.Join(dir, name) }
	for _, name := range []string{"own", "own/sub", "own/empty", "theirs", "theirs/sub", "sticky", "open", "group"} {
		do(t, os.Mkdir(in(name), 0o755))
	}
	do(t, os.Chown(in("theirs"), other, other),
		os.Chmod(in("sticky"), 0o777|os.ModeSticky), os.Chmod(in("open"), 0o777),
		os.Chown(in("group"), 0, other), os.Chmod(in("group"), 0o775),
		os.WriteFile(in("sticky/mine"), nil, 0o644),
		os.WriteFile(in("sticky/foreign"), nil, 0o644), os.Chown(in("sticky/foreign"), other, other),
		os.WriteFile(in("own/file"), nil, 0o644), os.Chown(in("own/file"), other, other),
		os.Symlink(in("own/sub"), in("link")), os.Symlink("own/../own/./sub", in("relative")),
		os.Symlink(in("own"), in("theirs/link")), os.Symlink(in("theirs/sub"), in("leads-out")),
		os.Symlink("loop", in("loop")),
		// To root's through their directory, and back by "..".
		os.Symlink(in("theirs/sub"), in("out")), os.Symlink(dir+"/out/../../own", in("and-back")))
	return dir
}

func TestWhatIsRoots(t *testing.T) {
	dir := layout(t)
	for name, says := range map[string]string{
		"own": "", "own/sub": "", "own/sub/missing/deeper": "", "own/file": "", "missing": "",
		"theirs": "", // the name is root's; what it names is not
		"link":   "", "link/missing": "", "relative/missing": "",
		"sticky": "", "sticky/mine": "", "sticky/missing": "",
		"theirs/sub": "theirs belongs to the user nobody", "theirs/missing": "theirs belongs to the user nobody",
		"theirs/link/sub":  "theirs belongs to the user nobody",
		"leads-out":        "theirs belongs to the user nobody",
		"and-back":         "theirs belongs to the user nobody",
		"sticky/foreign":   "sticky can be written by others than root (mode 1777)",
		"open/missing":     "open can be written by others than root (mode 0777)",
		"group/missing":    "group can be written by others than root (mode 0775)",
		"loop":             "too many levels of symbolic links",
		"own/file/missing": "not a directory",
	} {
		err := Check(filepath.Join(dir, name))
		if says == "" {
			if err != nil {
				t.Errorf("%s: %v", name, err)
			}
			continue
		}
		if err == nil || !strings.Contains(err.Error(), says) || !errors.Is(err, fault.Invalid) {
			t.Errorf("%s: %v, want %q", name, err, says)
		}
	}
	if err := Check("own"); !errors.Is(err, fault.Invalid) {
		t.Errorf("a relative path: %v", err)
	}
}

func TestOwn(t *testing.T) {
	dir := layout(t)
	defer unix.Umask(unix.Umask(0o077))
	for _, name := range []string{"own/a/b", "link/c", "sticky/d"} {
		path := filepath.Join(dir, name)
		for range 2 { // made, and there
			do(t, Own(path))
		}
		if st := stat(t, path); st.Uid != 0 || st.Mode&0o7777 != 0o755 {
			t.Errorf("%s: user %d, mode %o", name, st.Uid, st.Mode)
		}
	}
	for _, name := range []string{"theirs", "theirs/sub", "open", "group", "sticky", "leads-out", "sticky/foreign", "own/file"} {
		before := stat(t, filepath.Join(dir, name))
		if err := Own(filepath.Join(dir, name)); !errors.Is(err, fault.Invalid) {
			t.Errorf("%s is root's: %v", name, err)
		}
		if after := stat(t, filepath.Join(dir, name)); after.Uid != before.Uid || after.Mode != before.Mode {
			t.Errorf("%s was changed", name)
		}
	}
}

func TestGive(t *testing.T) {
	dir := layout(t)
	defer unix.Umask(unix.Umask(0o077))
	give := func(name string) *syscall.Stat_t {
		t.Helper()
		do(t, Give(filepath.Join(dir, name), other, other))
		return stat(t, filepath.Join(dir, name))
	}
	for _, name := range []string{"own/a/b", "link/c", "sticky/d", "own/empty"} {
		if st := give(name); st.Uid != other || st.Gid != other || st.Mode&0o777 != 0o755 {
			t.Errorf("%s: user %d, mode %o", name, st.Uid, st.Mode)
		}
	}
	if st := stat(t, filepath.Join(dir, "own/a")); st.Uid != 0 {
		t.Error("what lies above was given away, too")
	}
	// What has something in it, or leads out of root's directories, stays.
	do(t, os.Mkdir(filepath.Join(dir, "full"), 0o700), os.WriteFile(filepath.Join(dir, "full/secret"), nil, 0o600),
		os.Symlink(filepath.Join(dir, "full"), filepath.Join(dir, "theirs/swapped")),
		os.Mkdir(filepath.Join(dir, "private"), 0o700), os.Symlink(filepath.Join(dir, "private"), filepath.Join(dir, "theirs/empty")))
	for _, name := range []string{"full", "theirs/swapped", "theirs/empty", "leads-out", "own/file"} {
		give(name)
	}
	for _, name := range []string{"full", "private", "theirs/sub"} {
		if st := stat(t, filepath.Join(dir, name)); st.Uid != 0 {
			t.Errorf("%s was given away", name)
		}
	}
	do(t, Give(filepath.Join(dir, "theirs/new"), other, other))
	if _, err := os.Lstat(filepath.Join(dir, "theirs/new")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("root made something in their directory: %v", err)
	}
}

// TestSwappedMeanwhile: the other user exchanges a directory for a link to one
// of root's, again and again, while root gives away and owns.
func TestSwappedMeanwhile(t *testing.T) {
	dir := layout(t)
	secret := filepath.Join(dir, "secret")
	do(t, os.Mkdir(secret, 0o700))
	loop := exec.Command("sh", "-c", `cd "$1" && while :; do mkdir cache 2>/dev/null; rmdir cache; ln -s ../secret cache; rm cache; done`, "sh", filepath.Join(dir, "theirs"))
	loop.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: other, Gid: other}}
	do(t, loop.Start())
	defer func() { _ = loop.Process.Kill(); _ = loop.Wait() }()
	for range 2000 {
		do(t, Give(filepath.Join(dir, "theirs/cache"), other, other))
		if Own(filepath.Join(dir, "theirs/cache")) == nil || Check(filepath.Join(dir, "theirs/cache/x")) == nil {
			t.Fatal("taken for root's")
		}
	}
	if st := stat(t, secret); st.Uid != 0 {
		t.Error("root's directory was given away")
	}
}

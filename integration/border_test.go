package integration

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"aesthetic.computer/isofs/integration/testkit"
)

// Root's border (DESIGN.md, invariant 11): these tests act as the user that isofs runs as, or as
// another program of that user. They may do all that the user may.

// servingUser is the user that root's isofs runs as.
func servingUser(t *testing.T) *syscall.Credential {
	t.Helper()
	needRoot(t)
	u, err := user.Lookup("isofs")
	if err != nil {
		testkit.Lack(t, "the user isofs; scripts/setup serve makes it")
	}
	uid, _ := strconv.Atoi(u.Uid)
	gid, _ := strconv.Atoi(u.Gid)
	return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
}

// byUser runs a shell script as the serving user. The words are $1, $2 and so on.
func byUser(t *testing.T, script string, words ...string) (string, error) {
	t.Helper()
	cmd := exec.Command("sh", append([]string{"-c", script, "sh"}, words...)...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: servingUser(t)}
	cmd.Dir = "/"
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// theirs makes a directory that belongs to the serving user.
func (s *server) theirs(name string) string {
	s.t.Helper()
	as := servingUser(s.t)
	if err := errors.Join(os.MkdirAll(s.path(name), 0o755), os.Chown(s.path(name), int(as.Uid), int(as.Gid))); err != nil {
		s.t.Fatal(err)
	}
	return s.path(name)
}

// secret makes a directory of root, and returns a check that it is unchanged.
func (s *server) secret() (dir string, untouched func()) {
	s.t.Helper()
	dir = s.path("secret")
	if err := errors.Join(os.Mkdir(dir, 0o700), os.WriteFile(filepath.Join(dir, "key"), []byte("root's"), 0o600)); err != nil {
		s.t.Fatal(err)
	}
	return dir, func() {
		s.t.Helper()
		entries, err := os.ReadDir(dir)
		if err != nil || len(entries) != 1 {
			s.t.Errorf("root's directory has %v now (%v)", entries, err)
		}
		for _, path := range []string{dir, filepath.Join(dir, "key")} {
			if fi, err := os.Stat(path); err != nil || fi.Sys().(*syscall.Stat_t).Uid != 0 || fi.Mode().Perm()&0o077 != 0 {
				s.t.Errorf("%s is not root's alone any more: %v, %v", path, fi.Mode(), err)
			}
		}
		if text, err := os.ReadFile(filepath.Join(dir, "key")); err != nil || string(text) != "root's" {
			s.t.Errorf("root's file says %q (%v)", text, err)
		}
	}
}

// TestBorderOfState: links that the user puts into STATE lead root nowhere.
func TestBorderOfState(t *testing.T) {
	t.Parallel()
	for name, attack := range map[string]string{
		"a link for the cache":      `ln -s "$2" "$1/cache"`,
		"a link for the lock":       `ln -s "$2/new" "$1/isofs.lock"`,
		"a link for the lock's key": `ln -s "$2/key" "$1/isofs.lock"`,
		"a pipe for the lock":       `mkfifo "$1/isofs.lock"`,
		"links for all folders":     `for d in bases bundles snapshots splashes clients.log clients.salt bases.json; do ln -s "$2" "$1/$d"; done`,
		"a link to a link":          `ln -s loop "$1/loop"; ln -s "$2" "$1/a"; ln -s a "$1/cache"`,
	} {
		t.Run(name, func(t *testing.T) {
			s := newServer(t)
			secret, untouched := s.secret()
			if out, err := byUser(t, attack, s.theirs("state"), secret); err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			s.launch()
			s.servesOrRefuses()
			s.stop()
			untouched()
		})
	}
}

// servesOrRefuses waits until a start has succeeded or failed.
func (s *server) servesOrRefuses() {
	s.t.Helper()
	testkit.Eventually(s.t, "it to serve, or to refuse", func() bool {
		select {
		case <-s.ended:
			return true
		default:
			return strings.Contains(s.log.String(), "msg=serving")
		}
	})
}

// TestBorderOfHardLinks: a file of root that also has a name in STATE stays root's.
func TestBorderOfHardLinks(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	secret, untouched := s.secret()
	state := s.theirs("state")
	// Root makes the links here. Where fs.protected_hardlinks is 0, any user may.
	for _, name := range []string{"isofs.lock", "clients.salt", "cache"} {
		if err := os.Link(filepath.Join(secret, "key"), filepath.Join(state, name)); err != nil {
			t.Fatal(err)
		}
	}
	s.launch()
	s.wait()
	untouched()
}

// TestBorderIsRefused: isofs refuses at once to keep root's files where the user can write. The
// error names the directory and what to do.
func TestBorderIsRefused(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		attack string   // what the user does, in DIR
		flags  []string // DIR stands for a directory of the user
	}{
		"RUN is theirs":                   {"true", []string{"--run", "DIR"}},
		"RUN is below theirs":             {"true", []string{"--run", "DIR/run"}},
		"RUN is a link of theirs":         {`ln -s "$2" run`, []string{"--run", "DIR/run"}},
		"the log's directory is theirs":   {"true", []string{"--access-log", "DIR/access.log"}},
		"the log is a link of theirs":     {`ln -s "$2/key" access.log`, []string{"--access-log", "DIR/access.log"}},
		"the mount point is below theirs": {"mkdir mnt", []string{"--mount", "DIR/mnt"}},
		"the mount point is a link":       {`ln -s "$2" mnt`, []string{"--mount", "DIR/mnt"}},
	} {
		t.Run(name, func(t *testing.T) {
			s := newServer(t)
			secret, untouched := s.secret()
			dir := s.theirs("theirs")
			if out, err := byUser(t, `cd "$1" && `+c.attack, dir, secret); err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			s.args = append(s.args, strings.Replace(c.flags[1], "DIR", dir, 1))
			s.args = append(s.args[:len(s.args)-1], c.flags[0], s.args[len(s.args)-1])
			s.fails(dir + " belongs to the user isofs")
			untouched()
			if _, err := os.Stat(filepath.Join(dir, "nginx")); err == nil {
				t.Error("root made something there")
			}
		})
	}
	// RUN belonged to the user before, and has files that the user put there.
	s := newServer(t)
	if err := os.Mkdir(s.path("run"), 0o755); err != nil {
		t.Fatal(err)
	}
	s.theirs("run/nginx")
	s.fails(s.path("run/nginx") + " belongs to the user isofs")
}

// TestBorderWhileItRuns: the user cannot change anything that root reads, runs or writes while
// isofs runs.
func TestBorderWhileItRuns(t *testing.T) {
	t.Parallel()
	s := serve(t, "--access-log", "")
	s.stop()
	s.args = append(s.args, "--access-log", s.path("log/access.log"))
	s.start()
	s.get("/notepat-os.iso.sha256")
	for _, attack := range []string{
		`mv "$1/run/nginx" "$1/run/mine"`, `mv "$1/run" "$1/mine"`, `echo >"$1/run/nginx/nginx.conf.new"`, `echo >>"$1/run/nginx/nginx.conf"`,
		`rm "$1/run/api.sock"`, `ln -s /etc/passwd "$1/run/x"`, `rm "$1/run/isofs.lock"`, `mv "$1/run/nginx/proxy_temp" "$1/run/nginx/x"`, `rm -f "$1/run/nginx/nginx.pid"`,
		`mv "$1/log/access.log" "$1/log/x"`, `ln -s /etc/passwd "$1/log/x"`, `mv "$1/mnt" "$1/mine"`, `mv "$1/state" "$1/mine"`, `rmdir "$1/mnt"`,
	} {
		if out, err := byUser(t, attack, s.dir); err == nil {
			t.Errorf("the user can %s: %s", attack, out)
		}
	}
	for _, path := range []string{"run", "run/nginx", "run/nginx/nginx.conf", "run/isofs.lock", "log", "mnt/.."} {
		if fi, err := os.Stat(s.path(path)); err != nil || fi.Sys().(*syscall.Stat_t).Uid != 0 {
			t.Errorf("%s is not root's: %v", path, err)
		}
	}
	// The serving processes have no rights of root, and no terminal to push input into.
	for _, pid := range descendants(s.cmd.Process.Pid) {
		status, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
		stat, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if strings.Contains(string(status), "\nUid:\t0") {
			continue // nginx's master
		}
		if fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:])); len(fields) < 5 || fields[4] != "0" {
			t.Errorf("process %d has a terminal: %s", pid, stat)
		}
		if !strings.Contains(string(status), "CapEff:\t0000000000000000") {
			t.Errorf("process %d has rights of root's:\n%s", pid, status)
		}
	}
	s.endsClean()
}

// TestBorderWithASwapper: the user keeps replacing what is in STATE by links, while root starts and
// stops isofs.
func TestBorderWithASwapper(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	secret, untouched := s.secret()
	state := s.theirs("state")
	loop := exec.Command("sh", "-c", `cd "$1" && while :; do
		for name in cache isofs.lock bases; do rm -rf "$name.old"; mv "$name" "$name.old"; ln -s "$2" "$name"; rm -f "$name"; mkdir "$name"; done 2>/dev/null
	done`, "sh", state, secret)
	loop.SysProcAttr = &syscall.SysProcAttr{Credential: servingUser(t)}
	if err := loop.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = loop.Process.Kill(); _ = loop.Wait() }()
	for range 2 {
		s.launch()
		s.servesOrRefuses()
		s.stop()
	}
	untouched()
}

// TestBorderAllowsLinksOfRoots: root may make STATE a link, for example to another disk.
func TestBorderAllowsLinksOfRoots(t *testing.T) {
	t.Parallel()
	servingUser(t)
	s := newServer(t)
	if err := errors.Join(os.Mkdir(s.path("disk"), 0o755), os.Mkdir(s.path("disk/mnt"), 0o755),
		os.Symlink("disk/state", s.path("state")), os.Symlink(s.path("disk/run"), s.path("run")), os.Symlink("disk/mnt", s.path("mnt"))); err != nil {
		t.Fatal(err)
	}
	s.args = append(withoutFlags(s.args, "--mount"), "--mount", s.path("mnt"))
	s.start()
	if _, body := s.get("/notepat-os.iso"); digest(body) != s.published("/notepat-os.iso") {
		t.Error("the download does not have the published digest")
	}
	if fi, err := os.Stat(s.path("disk/state/cache")); err != nil || fi.Sys().(*syscall.Stat_t).Uid != servingUser(t).Uid {
		t.Errorf("the cache is not the user's: %v", err)
	}
	s.stop()
}

// TestNoUser: if the user does not exist, a start fails at once and prints the command that adds
// it. No other user takes its place.
func TestNoUser(t *testing.T) {
	t.Parallel()
	needRoot(t)
	s := newServer(t, "--user", "isofs-none")
	s.fails("useradd --system --user-group --no-create-home --home-dir /var/lib/isofs --shell /usr/sbin/nologin")
	if _, err := os.Stat(s.path("run")); err == nil {
		t.Error("it made directories")
	}
}

// TestRootsOtherCommands: root's other commands write a state as the user that serve runs as, so
// that serve can open it. The file that pack writes belongs to root.
func TestRootsOtherCommands(t *testing.T) {
	t.Parallel()
	as := servingUser(t)
	s := newServer(t)
	image := s.path("packed.iso")
	for _, args := range [][]string{
		{"warm", "--base", baseDir, "--state", s.path("state")},
		{"pack", "notepat", "--base", baseDir, "--state", s.path("state"), "-o", image},
		{"inspect", "notepat", "--base", baseDir, "--state", s.path("state")},
	} {
		if status, _, stderr := isofsCommand(t, nil, args...); status != 0 {
			t.Fatalf("isofs %q: %s", args, stderr)
		}
	}
	err := filepath.WalkDir(s.path("state"), func(path string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		fi, err := d.Info()
		if err == nil && fi.Sys().(*syscall.Stat_t).Uid != as.Uid {
			t.Errorf("%s is not the user's", path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if fi, err := os.Stat(image); err != nil || fi.Sys().(*syscall.Stat_t).Uid != 0 || fi.Mode().Perm() != 0o644 {
		t.Errorf("the packed image: %v, %v", fi, err)
	}
	// The base is deleted here. All of it is in the cache.
	s.start()
	s.says("msg=serving")
	if strings.Contains(s.log.String(), "without keeping its blocks") {
		t.Error("serve cannot use the cache")
	}
	if got := s.published("/notepat-os.iso"); got != fileSum(t, image) {
		t.Error("serve has another image than pack")
	}
	s.stop()
}

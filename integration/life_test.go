package integration

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"aesthetic.computer/isofs/integration/testkit"
	"github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

// hangup sends SIGHUP, as logrotate, systemd's reload and a closed terminal do. It waits until the
// log says words.
func (s *server) hangup(words string) {
	s.t.Helper()
	before := len(s.log.String())
	if err := s.cmd.Process.Signal(syscall.SIGHUP); err != nil {
		s.t.Fatal(err)
	}
	testkit.Eventually(s.t, fmt.Sprintf("the log to say %q", words), func() bool { return strings.Contains(s.log.String()[before:], words) })
}

// TestHangup: SIGHUP ends no process. isofs opens the access log again by its name and uses new
// limits. It names settings that need a restart, and rejects a wrong file as a whole.
func TestHangup(t *testing.T) {
	t.Parallel()
	needRoot(t)
	s := newServer(t)
	config, log := s.path("isofs.toml"), s.path("log/access.log")
	settings := func(text string) {
		t.Helper()
		write(t, config, fmt.Sprintf("access-log = %q\n%s\n", log, text))
	}
	settings("")
	// The file has a setting only if no flag has it.
	s.args = append(withoutFlags(s.args, "--access-log", "--limit-requests"), "--config", config)
	s.start()
	web, serving := s.named("nginx"), s.named("isofs")
	logged := func(path string) func() bool {
		return func() bool {
			s.get("/healthz")
			text, _ := os.ReadFile(log)
			return bytes.Contains(text, []byte(path))
		}
	}
	testkit.Eventually(t, "the access log", logged("/healthz"))
	if err := os.Rename(log, log+".1"); err != nil {
		t.Fatal(err)
	}
	s.hangup("nginx opened its log again")
	testkit.Eventually(t, "the new access log", logged("/healthz"))

	settings("limit-requests = 1\nlimit-burst = 0\nlimit-new = 2\ncache-size = \"1GiB\"\nlisten = [\"127.0.0.1:1\"]")
	s.hangup("nginx has new settings")
	if logged := s.log.String(); !strings.Contains(logged, "settings=cache-size") || !strings.Contains(logged, "limit-new") {
		t.Error("the log does not say that cache-size needs a restart, or which settings are new")
	}
	testkit.Eventually(t, "the new limit", func() bool {
		resp, _ := s.get("/os-status")
		return resp.StatusCode == 429
	})
	for _, wrong := range []string{"limit-requests = -1", "no-such-setting = 1", "limit-requests = "} {
		settings(wrong)
		s.hangup("the settings are wrong, and stay as they were")
	}
	settings("")
	s.hangup("nginx has new settings")
	s.hangup("read again: the limits")
	if s.named("nginx") != web || s.named("isofs") != serving {
		t.Error("a hangup ended a process")
	}
	s.endsClean()
}

// withoutFlags removes flags and their values from arguments.
func withoutFlags(args []string, flags ...string) []string {
	var rest []string
	for i := 0; i < len(args); i++ {
		if len(flags) > 0 && strings.Contains(" "+strings.Join(flags, " ")+" ", " "+args[i]+" ") {
			i++
			continue
		}
		rest = append(rest, args[i])
	}
	return rest
}

// TestHangupOfAUser: SIGHUP also works where isofs is one process, and for isofs mount.
func TestHangupOfAUser(t *testing.T) {
	t.Parallel()
	need(t, "nginx", "fusermount3")
	openFuse(t)
	s := newServer(t)
	s.asNobody()
	s.start()
	s.hangup("nginx opened its log again")
	s.hangup("read again: the limits")
	s.endsClean()

	m := newServer(t)
	m.args = []string{"mount", m.mount(), "--base", baseDir, "--state", m.path("state"), "--run", m.path("run")}
	m.launch()
	testkit.Eventually(t, "the mount", func() bool {
		return strings.Contains(m.log.String(), "serving") || strings.Contains(m.log.String(), "msg=mounted")
	})
	testkit.Eventually(t, "the mount", m.mounted)
	m.hangup("read again: the limits")
	m.endsClean()
}

// newcomers sends requests, each on a new connection, until stop. stop returns the requests that
// failed, or got a status other than 200. dying is odd from before a kill until the parent has
// noticed it. Only requests under way in that time may be cut, since nginx was reading their files.
func (s *server) newcomers(dying *atomic.Int32) (stop func() []string) {
	var mu sync.Mutex
	var failed []string
	var wait sync.WaitGroup
	done := make(chan struct{})
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 2 * patience}
	for range 2 {
		wait.Go(func() {
			for {
				select {
				case <-done:
					return
				case <-time.After(5 * time.Millisecond):
				}
				began := dying.Load()
				resp, err := client.Get(s.url("/notepat-os.iso.sha256"))
				if err == nil {
					resp.Body.Close()
				}
				underWay := began%2 == 1 || dying.Load() != began
				if underWay && (errors.Is(err, io.EOF) || err == nil && resp.StatusCode == 503) {
					continue
				}
				if err != nil || resp.StatusCode != 200 {
					mu.Lock()
					failed = append(failed, fmt.Sprint(resp, err))
					mu.Unlock()
				}
			}
		})
	}
	return func() []string { close(done); wait.Wait(); return failed }
}

// another waits for a serving process other than the one before.
func (s *server) another(before int) int {
	s.t.Helper()
	now := 0
	testkit.Eventually(s.t, "another serving process", func() bool {
		now = s.child("isofs")
		return now != 0 && now != before
	})
	return now
}

// TestChildDiesWithoutRefusals: requests wait while the parent replaces a serving process. A
// download by Chromium survives three kills.
func TestChildDiesWithoutRefusals(t *testing.T) {
	t.Parallel()
	needRoot(t)
	need(t, "node", "chromium")
	if _, err := os.Stat("browser/node_modules/playwright-core"); err != nil {
		testkit.Lack(t, "what browser/package.json names; npm ci in integration/browser installs it")
	}
	s := serve(t, "--limit-rate", "6MiB")
	dir := t.TempDir()
	cmd := exec.Command("node", "download.mjs")
	cmd.Dir = "browser"
	cmd.Env = append(os.Environ(), "ISOFS_ADDRESS="+s.url("/notepat-os.iso"), "ISOFS_DOWNLOADS="+dir, "ISOFS_CHROMIUM=/usr/bin/chromium")
	out := &testkit.Buffer{}
	cmd.Stdout, cmd.Stderr = out, out
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.WaitDelay = 10 * time.Second
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	t.Cleanup(func() { _ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) })
	size := func() int64 {
		files, _ := filepath.Glob(filepath.Join(dir, "*"))
		var most int64
		for _, f := range files {
			if fi, err := os.Stat(f); err == nil {
				most = max(most, fi.Size())
			}
		}
		return most
	}
	var dying atomic.Int32
	stop := s.newcomers(&dying)
	serving, before := s.named("isofs"), int64(0)
	for n := range 3 {
		testkit.Eventually(t, "the download to go on", func() bool { return size() > before+4<<20 || len(ended) > 0 })
		before = size()
		dying.Add(1)
		kill(t, serving)
		testkit.Eventually(t, "the parent to notice", func() bool { return strings.Count(s.log.String(), "starting another") > n })
		dying.Add(1)
		if serving = s.another(serving); n == 2 {
			testkit.Eventually(t, "the last one to serve", func() bool { return strings.Count(s.log.String(), "msg=mounted") == 4 })
		}
	}
	select {
	case err := <-ended:
		if want := s.published("/notepat-os.iso"); err != nil || strings.TrimSpace(out.String()) != want {
			t.Errorf("Chromium: %v, %s, want %s", err, out.String(), want)
		}
	case <-time.After(3 * patience):
		t.Errorf("Chromium does not end:\n%s", out.String())
	}
	if failed := stop(); len(failed) > 0 {
		t.Errorf("%d newcomers were refused, such as: %s", len(failed), failed[0])
	}
}

// TestChildHangs: the parent finds and replaces a serving process that is stopped. Clients get an
// answer to the requests of that time.
func TestChildHangs(t *testing.T) {
	t.Parallel()
	needRoot(t)
	s := serve(t)
	serving := s.named("isofs")
	if err := syscall.Kill(serving, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	if resp, _ := s.get("/notepat-os.iso.sha256"); resp.StatusCode != 200 {
		t.Errorf("a request to one that hangs: %s", resp.Status)
	}
	if now := s.named("isofs"); now == serving {
		t.Error("it was not replaced")
	}
	s.says("does not answer; starting another")
	// isofs also ends in bounded time if the serving process hangs.
	if err := syscall.Kill(s.named("isofs"), syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	s.endsClean()
}

// loopback is a mode of this program, in which it is a file system that shows another folder. The
// file system hangs when the program is stopped.
const loopback = "ISOFS_TEST_LOOPBACK"

// serveLoopback shows the first folder at the second until it is unmounted.
func serveLoopback(folders string) error {
	from, at, _ := strings.Cut(folders, ":")
	root, err := fs.NewLoopbackRoot(from)
	if err != nil {
		return err
	}
	none := time.Duration(0)
	server, err := fs.Mount(at, root, &fs.Options{
		EntryTimeout: &none, AttrTimeout: &none,
		MountOptions: fuse.MountOptions{AllowOther: true, FsName: "hanging", DirectMount: true, Options: []string{"default_permissions"}},
	})
	if err != nil {
		return err
	}
	server.Wait()
	return nil
}

// TestStateHangs: a file system below --state stops answering. isofs reports that and can still be
// stopped. It continues when the file system answers again.
func TestStateHangs(t *testing.T) {
	t.Parallel()
	needRoot(t)
	s := newServer(t)
	for _, dir := range []string{"disk", "state"} {
		if err := os.Mkdir(s.path(dir), 0o777); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(s.path(dir), 0o777); err != nil {
			t.Fatal(err)
		}
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	disk := exec.Command(self)
	disk.Env = append(os.Environ(), loopback+"="+s.path("disk")+":"+s.path("state"))
	if err := disk.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = disk.Process.Signal(syscall.SIGCONT)
		_ = unix.Unmount(s.path("state"), unix.MNT_DETACH)
		_ = disk.Process.Kill()
		_ = disk.Wait()
	})
	testkit.Eventually(t, "the file system", func() bool {
		mounts, _ := os.ReadFile("/proc/self/mountinfo")
		return bytes.Contains(mounts, []byte(" "+s.path("state")+" "))
	})
	s.start()
	s.get("/notepat-os.iso", "Range: bytes=0-99")
	hang := func(signal syscall.Signal) {
		t.Helper()
		if err := disk.Process.Signal(signal); err != nil {
			t.Fatal(err)
		}
	}
	hang(syscall.SIGSTOP)
	testkit.Eventually(t, "the log to say that it hangs", func() bool { return strings.Contains(s.log.String(), "waiting for the file systems of --state") })
	hang(syscall.SIGCONT)
	if resp, _ := s.get("/notepat-os.iso.sha256"); resp.StatusCode != 200 {
		t.Errorf("when it answers again: %s", resp.Status)
	}
	testkit.Eventually(t, "the next one to serve", func() bool { return strings.Count(s.log.String(), "msg=mounted") >= 2 })

	hang(syscall.SIGSTOP)
	_ = s.cmd.Process.Signal(syscall.SIGTERM)
	s.wait()
	hang(syscall.SIGCONT)
	if s.mounted() {
		t.Error("it left its mount")
	}
}

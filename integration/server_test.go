package integration

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"aesthetic.computer/isofs/integration/testkit"
	"golang.org/x/sys/unix"
)

// patience bounds every wait. No test measures time with it.
const patience = 60 * time.Second

// A server is a running isofs serve.
type server struct {
	t     *testing.T
	bin   string // the program
	dir   string // state, mount and run are in it
	addr  string // of nginx
	args  []string
	as    *syscall.Credential // nil: the user that runs the test
	cmd   *exec.Cmd
	log   *testkit.Buffer
	ended chan struct{}
	err   error // set before ended is closed
}

// serve starts isofs serve with more flags, on a new mount and port, and stops it when the test
// ends.
func serve(t *testing.T, flags ...string) *server {
	t.Helper()
	need(t, "nginx")
	s := newServer(t, flags...)
	s.start()
	return s
}

// newServer is serve without the start.
func newServer(t *testing.T, flags ...string) *server {
	t.Helper()
	dir, err := os.MkdirTemp(workDir, "serve-")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	s := &server{t: t, bin: isofs, dir: dir, addr: freeAddress(t)}
	s.args = append([]string{
		"serve", "--base", baseDir, "--state", s.path("state"), "--mount", s.mount(), "--run", s.path("run"),
		"--listen", s.addr, "--access-log", "off", "--limit-requests", "0", "--limit-connections", "0", "--limit-network", "0", "--limit-costly", "0", "--limit-new-burst", "1000",
		"--grace", "1s", "--log-level", "debug",
	}, flags...)
	t.Cleanup(func() {
		s.stop()
		// No mount stays, whatever happened.
		for unix.Unmount(s.mount(), unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW) == nil {
		}
		if s.log != nil && strings.Contains(s.log.String(), "WARNING: DATA RACE") {
			t.Error("the race detector found something in isofs")
		}
		if t.Failed() && s.log != nil {
			t.Logf("the output of isofs:\n%s", s.log.String())
		}
		os.RemoveAll(dir)
	})
	return s
}

func (s *server) path(name string) string { return filepath.Join(s.dir, name) }
func (s *server) mount() string           { return s.path("mnt") }
func (s *server) url(path string) string  { return "http://" + s.addr + path }

// start runs the program, and waits until it answers.
func (s *server) start() {
	s.t.Helper()
	s.launch()
	deadline := time.Now().Add(patience)
	for time.Now().Before(deadline) {
		select {
		case <-s.ended:
			s.t.Fatalf("isofs ended: %v\n%s", s.err, s.log.String())
		default:
		}
		if resp, err := http.Get(s.url("/healthz")); err == nil {
			resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return
			}
		}
		time.Sleep(20 * time.Millisecond)
	}
	s.t.Fatalf("isofs does not answer:\n%s", s.log.String())
}

// launch runs the program and does not wait.
func (s *server) launch() {
	s.t.Helper()
	s.log = &testkit.Buffer{}
	s.cmd = exec.Command(s.bin, s.args...)
	s.cmd.Stdout, s.cmd.Stderr = s.log, s.log
	if s.as != nil {
		s.cmd.SysProcAttr = &syscall.SysProcAttr{Credential: s.as}
		s.cmd.Dir = s.dir
	}
	// Helpers that inherited the output must not delay Wait.
	s.cmd.WaitDelay = time.Second
	if err := s.cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	ended := make(chan struct{})
	s.ended = ended
	cmd := s.cmd
	go func() {
		s.err = cmd.Wait()
		close(ended)
	}()
}

// stop ends the program as an operator does.
func (s *server) stop() {
	if s.cmd == nil {
		return
	}
	_ = s.cmd.Process.Signal(syscall.SIGTERM) // it may have ended
	s.wait()
}

// kill ends it as the kernel does when memory runs out.
func (s *server) kill() {
	s.t.Helper()
	if err := s.cmd.Process.Kill(); err != nil {
		s.t.Fatal(err)
	}
	s.wait()
}

func (s *server) wait() {
	select {
	case <-s.ended:
	case <-time.After(patience):
		_ = s.cmd.Process.Kill()
		s.t.Errorf("isofs did not end:\n%s", s.log.String())
		<-s.ended
	}
}

// get fetches a path whole. Header lines are "Name: value".
func (s *server) get(path string, header ...string) (*http.Response, []byte) {
	s.t.Helper()
	return s.request(http.MethodGet, path, header...)
}

func (s *server) request(method, path string, header ...string) (*http.Response, []byte) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*patience)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, s.url(path), nil)
	if err != nil {
		s.t.Fatal(err)
	}
	for _, line := range header {
		name, value, _ := strings.Cut(line, ": ")
		req.Header.Set(name, value)
	}
	resp, err := noRedirects.Do(req)
	if err != nil {
		s.t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := bodyOf(resp)
	if err != nil {
		s.t.Fatalf("%s %s: %v", method, path, err)
	}
	return resp, body
}

// bodyOf is io.ReadAll with room for the whole body from the start, so that an image is copied
// once.
func bodyOf(resp *http.Response) ([]byte, error) {
	var body bytes.Buffer
	if resp.ContentLength > 0 && resp.Request.Method != http.MethodHead {
		body.Grow(int(resp.ContentLength) + bytes.MinRead)
	}
	_, err := body.ReadFrom(resp.Body)
	return body.Bytes(), err
}

var noRedirects = &http.Client{
	Transport:     &http.Transport{DisableCompression: true},
	CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
}

// hosts counts the loopback addresses that freeAddress returned.
var hosts atomic.Uint32

// freeAddress returns a loopback address on which no other program listens or will listen: each
// caller gets its own host. On 127.0.0.1 any connection of a test could take the port before isofs
// does.
func freeAddress(t *testing.T) string {
	t.Helper()
	n := hosts.Add(1)
	l, err := net.Listen("tcp", fmt.Sprintf("127.77.%d.%d:0", n>>8&0xff, n&0xff))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// readable makes a folder that the user of root's isofs can enter.
func readable(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp(workDir, "dir-")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// pieces makes a folder of bundles that isofs can read: name -> html.
func pieces(t *testing.T, bundles map[string]string) string {
	t.Helper()
	dir := readable(t)
	for name, html := range bundles {
		write(t, filepath.Join(dir, name+".html"), html)
	}
	return dir
}

// write replaces a file in one step, as a careful publisher does.
func write(t *testing.T, path, text string) {
	t.Helper()
	tmp := path + ".new"
	if err := errors.Join(os.WriteFile(tmp, []byte(text), 0o644), os.Rename(tmp, path)); err != nil {
		t.Fatal(err)
	}
}

// page is a bundle of about size bytes.
func page(title string, size int) string {
	return fmt.Sprintf("<!doctype html><title>%s</title>\n<!--%s-->\n", title, strings.Repeat(title+" ", size/(len(title)+1)))
}

package nginx

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"aesthetic.computer/isofs/fault"
	"aesthetic.computer/isofs/integration/testkit"
)

func (r *rig) master() int { return r.server.current().master.Pid }

// answers reports whether a new connection gets the image.
func (r *rig) answers() bool {
	conn, err := net.Dial("tcp", r.addr)
	if err != nil {
		return false
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(10 * time.Second))
	fmt.Fprintf(conn, "GET %s HTTP/1.0\r\nRange: bytes=0-\r\n\r\n", image)
	got, _ := io.ReadAll(conn)
	return strings.HasSuffix(string(got), body)
}

// alive reports whether pid runs; init may be slow to reap those that ended.
func alive(pid int) bool {
	for _, p := range processes() {
		if p.pid == pid {
			return p.title != ""
		}
	}
	return false
}

func TestStopLetsDownloadsFinish(t *testing.T) {
	r := newRig(t, nil)
	_, response := r.open("GET", big, "Range: bytes=0-")
	stopped := make(chan error)
	go func() { stopped <- r.server.Stop(context.Background()) }()
	testkit.Eventually(t, "new connections refused", func() bool {
		conn, err := net.Dial("tcp", r.addr)
		if err == nil {
			conn.Close()
		}
		return err != nil
	})
	if n, err := io.Copy(io.Discard, response.Body); n != bigLen || err != nil {
		t.Errorf("the download got %d bytes: %v", n, err)
	}
	if err := <-stopped; err != nil {
		t.Error(err)
	}
	<-r.server.Done()
	if err := r.server.Err(); err != nil {
		t.Errorf("Err after Stop: %v", err)
	}
	if err := r.server.Stop(within(t, time.Minute)); err != nil {
		t.Errorf("a second Stop: %v", err)
	}
}

func TestStopCutsWhenTheTimeIsOver(t *testing.T) {
	r := newRig(t, nil)
	pid := r.master()
	_, response := r.open("GET", big, "Range: bytes=0-")
	workers := workersOf(pid) // there are some, as one of them answered
	if err := r.server.Stop(within(t, 200*time.Millisecond)); err != nil {
		t.Error(err)
	}
	if n, err := io.Copy(io.Discard, response.Body); n == bigLen || err == nil {
		t.Errorf("the download got %d bytes: %v", n, err)
	}
	for worker := range workers {
		if alive(worker) {
			t.Errorf("worker %d is alive", worker)
		}
	}
	if alive(pid) || len(workers) == 0 {
		t.Errorf("master %d is alive, or it had no workers: %v", pid, workers)
	}
}

// Under load: the old worker finishes its download, new ones follow the new limits.
func TestReloadKeepsDownloads(t *testing.T) {
	r := newRig(t, nil)
	_, response := r.open("GET", big, "Range: bytes=0-")
	c := r.config
	c.Listen = append(c.Listen, freeAddress(t))
	c.Limits.Connections = 1
	c.Profile = PageCache
	if err := r.server.Reload(c); err != nil {
		t.Fatal(err)
	}
	r.addr = c.Listen[1]
	// The zone is new, so the old download is not counted in it.
	testkit.Eventually(t, "the new limit", func() bool {
		first, _ := r.open("GET", big, "Range: bytes=0-")
		defer first.Close()
		return r.do("GET", image, "Range: bytes=0-").StatusCode == 429
	})
	if n, err := io.Copy(io.Discard, response.Body); n != bigLen || err != nil {
		t.Errorf("the download got %d bytes: %v", n, err)
	}
}

func TestReloadRefused(t *testing.T) {
	r := newRig(t, nil)
	conf := filepath.Join(r.config.RunDir, confFile)
	before, err := os.ReadFile(conf)
	if err != nil {
		t.Fatal(err)
	}
	busy, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer busy.Close()
	tests := []struct {
		name   string
		change func(*Config)
		kind   error
		want   string
	}{
		{"invalid", func(c *Config) { c.Mount = "relative" }, fault.Invalid, "not an absolute path"},
		{"another run directory", func(c *Config) { c.RunDir += "2" }, fault.Invalid, "restart isofs instead"},
		{"refused by nginx -t", func(c *Config) { c.AccessLog = "/nonexistent/log" }, fault.Invalid, `open() "/nonexistent/log" failed`},
		{"refused by the running nginx", func(c *Config) { c.Listen = append(c.Listen, busy.Addr().String()) }, fault.Unavailable, busy.Addr().String() + " is in use by another program"},
	}
	for _, tt := range tests {
		c := r.config
		tt.change(&c)
		if err := r.server.Reload(c); !errors.Is(err, tt.kind) || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v", tt.name, err)
		}
		if after, _ := os.ReadFile(conf); string(after) != string(before) {
			t.Errorf("%s: the old configuration is gone", tt.name)
		}
		if !r.answers() {
			t.Errorf("%s: nginx does not answer any more", tt.name)
		}
	}
	if err := r.server.Reload(r.config); err != nil {
		t.Errorf("then the old one again: %v", err)
	}
}

func TestStartWithUsedPort(t *testing.T) {
	testkit.NeedTool(t, "nginx", "nginx-light")
	c := configIn(t, t.TempDir())
	busy, err := net.Listen("tcp", c.Listen[0])
	if err != nil {
		t.Fatal(err)
	}
	defer busy.Close()
	_, err = Start(within(t, time.Minute), "nginx", c, slog.New(slog.DiscardHandler))
	if !errors.Is(err, fault.Unavailable) || !strings.Contains(err.Error(), c.Listen[0]+" is in use by another program; stop that one") {
		t.Errorf("got %v", err)
	}
	c.Mount = ""
	if _, err = Start(within(t, time.Minute), "nginx", c, slog.New(slog.DiscardHandler)); !errors.Is(err, fault.Invalid) {
		t.Errorf("without mount: %v", err)
	}
}

func TestStartEndsWithItsContext(t *testing.T) {
	testkit.NeedTool(t, "nginx", "nginx-light")
	// One that never listens.
	binary := script(t, `case "$*" in *-V*|*-t*) exec nginx "$@";; esac; exec sleep 1000`)
	_, err := Start(within(t, time.Second), binary, configIn(t, t.TempDir()), slog.New(slog.DiscardHandler))
	if !errors.Is(err, fault.Unavailable) || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
}

func TestRunDirIsTakenOnce(t *testing.T) {
	r := newRig(t, nil)
	c := r.config
	c.Listen = []string{freeAddress(t)}
	if _, err := Start(within(t, time.Minute), "nginx", c, slog.New(slog.DiscardHandler)); !errors.Is(err, fault.Unavailable) || !strings.Contains(err.Error(), "another isofs runs nginx there") {
		t.Errorf("got %v", err)
	}
	if !r.answers() {
		t.Error("the first does not answer any more")
	}
}

// A master killed by force leaves workers that would hold the port: they must end,
// and a new nginx start.
func TestRestart(t *testing.T) {
	r := newRig(t, nil)
	for range 2 {
		killed := r.master()
		workers := workersOf(killed)
		if err := syscall.Kill(killed, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		testkit.Eventually(t, "a new nginx", func() bool { return r.master() != killed && r.answers() })
		for worker := range workers {
			if alive(worker) {
				t.Errorf("the old worker %d is alive", worker)
			}
		}
	}
	if !strings.Contains(r.log.String(), "nginx ended unexpectedly") {
		t.Errorf("nothing is said: %s", r.log)
	}
	select {
	case <-r.server.Done():
		t.Error("it is done")
	default:
	}
	// A reload meets the new one.
	if err := r.server.Reload(r.config); err != nil {
		t.Error(err)
	}
}

func TestGivenUp(t *testing.T) {
	testkit.NeedTool(t, "nginx", "nginx-light")
	c := configIn(t, t.TempDir())
	broken := filepath.Join(t.TempDir(), "broken")
	binary := script(t, fmt.Sprintf(`if [ -e %q ]; then echo "nginx: [emerg] broken for good" >&2; exit 1; fi; exec nginx "$@"`, broken))
	policy := restarts{first: time.Millisecond, longest: 4 * time.Millisecond, most: 3, steady: time.Hour}
	s := &Server{binary: binary, log: slog.New(slog.DiscardHandler), stdout: io.Discard, policy: policy}
	if err := s.start(within(t, time.Minute), c); err != nil {
		t.Fatal(err)
	}
	write(t, broken, "")
	syscall.Kill(s.current().master.Pid, syscall.SIGTERM)
	<-s.Done()
	if err := s.Err(); !errors.Is(err, fault.Unavailable) || !strings.Contains(err.Error(), "4 times in a row: broken for good") {
		t.Errorf("Err: %v", err)
	}
	if err := s.Stop(within(t, time.Minute)); err != nil {
		t.Errorf("Stop of one that was given up: %v", err)
	}
}

// Stop during the pause before a restart ends that, too.
func TestStopBetweenRestarts(t *testing.T) {
	testkit.NeedTool(t, "nginx", "nginx-light")
	policy := restarts{first: time.Hour, longest: time.Hour, most: 3, steady: time.Hour}
	s := &Server{binary: "nginx", log: slog.New(slog.DiscardHandler), stdout: io.Discard, policy: policy}
	if err := s.start(within(t, time.Minute), configIn(t, t.TempDir())); err != nil {
		t.Fatal(err)
	}
	dead := s.current()
	syscall.Kill(dead.master.Pid, syscall.SIGKILL)
	<-dead.exited
	if err := s.Stop(within(t, time.Minute)); err != nil {
		t.Error(err)
	}
	if err := s.Reload(s.config); !errors.Is(err, fault.Unavailable) {
		t.Errorf("Reload after Stop: %v", err)
	}
}

// An access log at /dev/stdout comes out of our own, also when that is not a file.
func TestAccessLogToStdout(t *testing.T) {
	testkit.NeedTool(t, "nginx", "nginx-light")
	c := configIn(t, t.TempDir())
	c.AccessLog = "/dev/stdout"
	var out testkit.Buffer
	s := &Server{binary: "nginx", log: slog.New(slog.DiscardHandler), stdout: &out, policy: usualRestarts}
	if err := s.start(within(t, time.Minute), c); err != nil {
		t.Fatal(err)
	}
	r := &rig{t: t, addr: c.Listen[0], log: &testkit.Buffer{}, server: s}
	r.answers()
	testkit.Eventually(t, "a line of the access log", func() bool { return strings.Contains(out.String(), `"piece":"notepat","status":206`) })
	// A reload opens it again.
	if err := s.Reload(c); err != nil {
		t.Error(err)
	}
	if err := s.Stop(within(t, time.Minute)); err != nil {
		t.Error(err)
	}
}

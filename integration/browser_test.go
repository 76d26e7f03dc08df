package integration

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"aesthetic.computer/isofs/integration/testkit"
)

// TestBrowser runs browser/*.test.mjs: a real Chromium opens the pages, from the real nginx and
// isofs.
func TestBrowser(t *testing.T) {
	t.Parallel()
	need(t, "node", "chromium")
	if _, err := os.Stat("browser/node_modules/playwright-core"); err != nil {
		testkit.Lack(t, "what browser/package.json names; npm ci in integration/browser installs it")
	}
	spy := newSpy(t)
	hostile, err := os.ReadFile("testdata/hostile.html")
	if err != nil {
		t.Fatal(err)
	}
	gates := newGates()
	o := newOven(t, map[string]http.HandlerFunc{
		"piece=gated":         gates.behind("gated", baked(page("a gated piece", 100_000))),
		"piece=lost":          baked(page("lost and found", 1000)),
		"piece=hostile":       baked(strings.NewReplacer("LEAK", spy.url(), "UDP", spy.udp.LocalAddr().String()).Replace(string(hostile))),
		"piece=@jeffrey/tone": baked(page("tone", 1000)),
		"code=abc":            baked(page("$abc", 1000)),
		"piece=@sixteen.letters1/a-piece-with-the-longest-name-that-one-may-have-on-this-computer": baked(page("long", 1000)),
		"piece=huge": baked(unlike(1, 21<<20)),
		"piece=broken": func(w http.ResponseWriter, _ *http.Request) {
			http.Error(w, "out of memory", http.StatusInternalServerError)
		},
		"piece=dead": func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
		"piece=busy": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Retry-After", "77")
			http.Error(w, "busy", http.StatusServiceUnavailable)
		},
	})
	s := serve(t, "--oven", o.URL)
	control := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var answer any = true
		switch r.URL.Path {
		case "/hold":
			gates.hold(r.FormValue("piece"))
		case "/open":
			gates.open(r.FormValue("piece"))
		case "/leaks":
			answer = spy.saw()
		case "/forget":
			spy.forget()
		default:
			http.NotFound(w, r)
			return
		}
		_ = json.NewEncoder(w).Encode(answer) // the test may be over
	}))
	t.Cleanup(control.Close)
	t.Cleanup(gates.openAll)
	shots, err := filepath.Abs("../build/screenshots")
	if err != nil {
		t.Fatal(err)
	}
	runNode(t, map[string]string{
		"ISOFS_URL": s.url(""), "ISOFS_CONTROL": control.URL, "ISOFS_LEAK": spy.url(), "ISOFS_LEAK_UDP": spy.udp.LocalAddr().String(),
		"ISOFS_PACKED_SHA256": packedSHA256(t, "notepat"), "ISOFS_SCREENSHOTS": shots, "ISOFS_CHROMIUM": "/usr/bin/chromium",
	})
}

// packedSHA256 is the SHA-256 of the image that isofs pack makes.
func packedSHA256(t *testing.T, piece string) string {
	t.Helper()
	dir := readable(t)
	path := filepath.Join(dir, "packed.iso")
	// The state is new. One in which the piece had another base would give the image a later time.
	if err := command(isofs, "pack", piece, "-o", path, "--base", baseDir, "--state", filepath.Join(dir, "state")); err != nil {
		t.Fatal(err)
	}
	image, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("%x", sha256.Sum256(image))
}

// runNode runs the tests in browser.
func runNode(t *testing.T, env map[string]string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 4*patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, "node", "--test", "--test-reporter=spec", "pages.test.mjs")
	cmd.Dir = "browser"
	cmd.Env = os.Environ()
	for key, value := range env {
		cmd.Env = append(cmd.Env, key+"="+value)
	}
	out := &testkit.Buffer{}
	cmd.Stdout, cmd.Stderr = out, out
	// After the timeout SIGTERM makes node close its browser. WaitDelay kills a node that hangs.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM) }
	cmd.WaitDelay = 10 * time.Second
	if err := cmd.Run(); err != nil {
		t.Fatalf("node --test: %v\n%s", err, out.String())
	}
	t.Logf("%s", out.String())
}

// gates hold answers of the oven until the test opens them.
type gates struct {
	mu   sync.Mutex
	held map[string]chan struct{} // guarded by mu
}

func newGates() *gates { return &gates{held: map[string]chan struct{}{}} }

func (g *gates) hold(piece string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.held[piece] = make(chan struct{})
}

func (g *gates) open(piece string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if gate := g.held[piece]; gate != nil {
		close(gate)
		delete(g.held, piece)
	}
}

func (g *gates) openAll() {
	g.mu.Lock()
	defer g.mu.Unlock()
	for piece, gate := range g.held {
		close(gate)
		delete(g.held, piece)
	}
}

func (g *gates) behind(piece string, answer http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		g.mu.Lock()
		gate := g.held[piece]
		g.mu.Unlock()
		if gate != nil {
			select {
			case <-gate:
			case <-r.Context().Done():
				return
			}
		}
		answer(w, r)
	}
}

// A spy listens over TCP and UDP at the addresses that a hostile piece would call.
type spy struct {
	web *httptest.Server
	udp net.PacketConn

	mu   sync.Mutex // guards seen
	seen sightings
}

// sightings are the requests and packets that arrived.
type sightings struct {
	Requests    []string `json:"requests"`
	Connections int      `json:"connections"`
	Packets     int      `json:"packets"`
}

func newSpy(t *testing.T) *spy {
	t.Helper()
	s := &spy{}
	s.forget()
	s.web = httptest.NewUnstartedServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		s.note(func(seen *sightings) { seen.Requests = append(seen.Requests, r.URL.Path) })
	}))
	s.web.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			s.note(func(seen *sightings) { seen.Connections++ })
		}
	}
	s.web.Start()
	t.Cleanup(s.web.Close)
	var err error
	if s.udp, err = net.ListenPacket("udp", "127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.udp.Close() })
	go func() {
		for buf := make([]byte, 2048); ; {
			if _, _, err := s.udp.ReadFrom(buf); err != nil {
				return // the cleanup closed it
			}
			s.note(func(seen *sightings) { seen.Packets++ })
		}
	}()
	return s
}

func (s *spy) url() string { return s.web.URL }

func (s *spy) note(change func(*sightings)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change(&s.seen)
}

func (s *spy) forget() { s.note(func(seen *sightings) { *seen = sightings{Requests: []string{}} }) }

func (s *spy) saw() sightings {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.seen
}

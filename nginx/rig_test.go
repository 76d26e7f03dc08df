package nginx

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"aesthetic.computer/isofs/integration/testkit"
)

const (
	id     = "0123456789abcdef0123456789abcdef"
	other  = "ffffffffffffffffffffffffffffffff" // no such snapshot
	image  = "/s/" + id + "/notepat-os.iso"
	big    = "/s/" + id + "/big-os.iso" // more than sockets buffer
	bigLen = 48 << 20
	body   = "the bytes of an image, some thirty-nine." // 40 bytes
)

// A rig is a real nginx before a directory, which plays the mount, and a fake API.
type rig struct {
	t      *testing.T
	config Config
	server *Server
	log    *testkit.Buffer // what the Server says to slog
	addr   string

	mu      sync.Mutex
	asked   []*http.Request // what reached the API
	handler http.HandlerFunc
	hold    chan struct{} // /hold answers when it is closed
	held    chan struct{} // receives once per request that /hold got
}

// configIn returns a small Config in dir, with a mount that has one snapshot.
func configIn(t *testing.T, dir string) Config {
	t.Helper()
	c := Config{
		Listen: []string{freeAddress(t)}, Mount: filepath.Join(dir, "mo unt"), APISocket: filepath.Join(dir, "api.sock"),
		RunDir: filepath.Join(dir, "ru n"), AccessLog: filepath.Join(dir, "access.log"), Workers: 1, Threads: 4,
	}
	if os.Geteuid() == 0 {
		c.User = "root" // other users cannot enter the test's directories
	}
	s := filepath.Join(c.Mount, "s", id)
	if err := os.MkdirAll(s, 0o755); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(s, "notepat-os.iso"), body)
	write(t, filepath.Join(s, "$39j-os.iso"), body)
	write(t, filepath.Join(s, "notepat-piece.img"), body)
	write(t, filepath.Join(s, "notepat-piece.img.sha256"), "abc  notepat-piece.img\n")
	write(t, filepath.Join(s, "notepat-os.iso.sha256"), "abc  notepat-os.iso\n")
	write(t, filepath.Join(s, "notepat-os.iso.bmap.asc"), "signature\n")
	write(t, filepath.Join(s, "notepat-os.iso.zsync"), "zsync\n")
	write(t, filepath.Join(s, "big-os.iso"), "")
	write(t, filepath.Join(s, ".whole"), "")
	if err := os.Truncate(filepath.Join(s, "big-os.iso"), bigLen); err != nil {
		t.Fatal(err)
	}
	return c
}

// newRig starts everything; change may alter the Config before.
func newRig(t *testing.T, change func(*Config)) *rig {
	t.Helper()
	testkit.NeedTool(t, "nginx", "nginx-light")
	r := &rig{t: t, log: &testkit.Buffer{}, hold: make(chan struct{}), held: make(chan struct{}, 100), config: configIn(t, t.TempDir())}
	if change != nil {
		change(&r.config)
	}
	r.startAPI()
	log := slog.New(slog.NewTextHandler(r.log, nil))
	var err error
	for range 5 { // another program may take the port between freeAddress and nginx
		if r.server, err = Start(within(t, 60*time.Second), "nginx", r.config, log); err == nil || !strings.Contains(err.Error(), "is in use by another program") {
			break
		}
		r.config.Listen = []string{freeAddress(t)}
	}
	if err != nil {
		t.Fatalf("Start: %v\n%s", err, r.log)
	}
	t.Cleanup(func() {
		ended, cancel := context.WithCancel(context.Background())
		cancel()
		r.server.Stop(ended)
		if t.Failed() {
			t.Logf("log:\n%s", r.log)
		}
	})
	r.addr = r.config.Listen[0]
	return r
}

func (r *rig) startAPI() {
	l, err := net.Listen("unix", r.config.APISocket)
	if err != nil {
		r.t.Fatal(err)
	}
	api := &http.Server{Handler: http.HandlerFunc(r.serveAPI)}
	go api.Serve(l)
	r.t.Cleanup(func() { api.Close() })
}

// serveAPI sends images to the mount, with all the headers that must survive.
func (r *rig) serveAPI(w http.ResponseWriter, q *http.Request) {
	r.mu.Lock()
	r.asked = append(r.asked, q)
	handler := r.handler
	r.mu.Unlock()
	file := filepath.Base(q.URL.Path)
	switch {
	case handler != nil:
		handler(w, q)
	case q.URL.Path == "/hold":
		r.held <- struct{}{}
		<-r.hold
	case q.Method == "POST":
		b, err := io.ReadAll(q.Body)
		fmt.Fprintf(w, "posted %d %v", len(b), err)
	case strings.HasPrefix(q.URL.Path, "/s/"+id+"/") || file == q.URL.Path[1:] && file != "":
		if _, err := os.Stat(filepath.Join(r.config.Mount, "s", id, file)); err != nil {
			http.Error(w, "no such piece: "+q.RequestURI, http.StatusNotFound)
			return
		}
		h := w.Header()
		h.Set("X-Accel-Redirect", "/_mount/"+id+"/"+file)
		h.Set("Content-Type", "application/octet-stream")
		if file != "bad-os.iso" { // see TestUnreadable
			h.Set("Content-Disposition", `attachment; filename="`+file+`"`)
		}
		h.Set("Cache-Control", "no-cache")
		h.Set("Digest", "SHA-256=abc=")
		h.Set("Repr-Digest", "sha-256=:abc=:")
		h.Set("Link", "<"+image+`>; rel="canonical"`)
		h.Set("Vary", "X-Real-IP")
		h.Set("Access-Control-Allow-Origin", "*")
		h.Set("Access-Control-Expose-Headers", "Digest")
		h.Set("X-Isofs-Piece", "the-piece")
		h.Set("X-Isofs-Snapshot", id)
		h.Set("ETag", `"of the API"`)
		h.Set("Last-Modified", "Thu, 01 Jan 1970 00:00:00 GMT")
	default:
		http.Error(w, "no such thing: "+q.RequestURI, http.StatusNotFound)
	}
}

// requests returns what reached the API since the last call.
func (r *rig) requests() []*http.Request {
	r.mu.Lock()
	defer r.mu.Unlock()
	got := r.asked
	r.asked = nil
	return got
}

// A reply is a response that was read to its end.
type reply struct {
	*http.Response
	body string
	err  error // of reading the body
}

// do sends one request, byte for byte, on its own connection. Headers are "Name:
// value".
func (r *rig) do(method, target string, headers ...string) reply {
	r.t.Helper()
	conn, response := r.open(method, target, headers...)
	defer conn.Close()
	b, err := io.ReadAll(response.Body)
	return reply{response, string(b), err}
}

// open is do without reading the body.
func (r *rig) open(method, target string, headers ...string) (net.Conn, *http.Response) {
	r.t.Helper()
	conn, err := net.Dial("tcp", r.addr)
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { conn.Close() })
	conn.SetDeadline(time.Now().Add(2 * time.Minute))
	headers = append([]string{method + " " + target + " HTTP/1.1", "Host: isofs.test", "Connection: close"}, headers...)
	if _, err := io.WriteString(conn, strings.Join(headers, "\r\n")+"\r\n\r\n"); err != nil {
		r.t.Fatal(err)
	}
	response, err := http.ReadResponse(bufio.NewReader(conn), &http.Request{Method: method})
	if err != nil {
		r.t.Fatalf("%s %s: %v\n%s", method, target, err, r.log)
	}
	return conn, response
}

func (r *rig) path(name string) string { return filepath.Join(r.config.Mount, "s", id, name) }

// hosts counts the loopback addresses that were given away.
var hosts atomic.Uint32

// freeAddress returns a loopback address where no program listens, nor will: each
// caller has its own host. On 127.0.0.1 every connection that a test makes may
// take the port before nginx listens on it.
func freeAddress(t *testing.T) string {
	t.Helper()
	n := hosts.Add(1)
	l, err := net.Listen("tcp", fmt.Sprintf("127.78.%d.%d:0", n>>8&0xff, n&0xff))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func within(t *testing.T, d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), d)
	t.Cleanup(cancel)
	return ctx
}

// script makes an executable shell script.
func script(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "nginx")
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"+text), 0o755); err != nil {
		t.Fatal(err)
	}
	if _, err := exec.LookPath("sh"); err != nil {
		t.Fatal(err)
	}
	return path
}

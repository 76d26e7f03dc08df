package integration

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// An oven is a fake oven that records its requests.
type oven struct {
	*httptest.Server
	mu    sync.Mutex
	asked []string // queries; guarded by mu
}

// newOven starts an oven. Its answers are by query: "piece=x" or "code=x". For any other piece it
// says that the piece does not exist.
func newOven(t *testing.T, answers map[string]http.HandlerFunc) *oven {
	t.Helper()
	o := &oven{}
	o.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		q := r.URL.Query()
		what := "piece=" + q.Get("piece")
		if q.Has("code") {
			what = "code=" + q.Get("code")
		}
		o.mu.Lock()
		o.asked = append(o.asked, r.URL.Path+"?"+what)
		o.mu.Unlock()
		if answer := answers[what]; answer != nil {
			answer(w, r)
			return
		}
		// This is the real oven's answer.
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusInternalServerError)
		fmt.Fprintf(w, `{"error":"Piece '%s' not found at disks/x.mjs"}`, q.Get("piece"))
	}))
	t.Cleanup(o.Close)
	return o
}

func (o *oven) requests() []string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return slices.Clone(o.asked)
}

// baked answers with a bundle.
func baked(html string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		w.Header().Set("Content-Length", fmt.Sprint(len(html)))
		_, _ = io.WriteString(w, html) // the client may have closed the connection
	}
}

// TestNames requests pieces that exist and pieces that do not.
func TestNames(t *testing.T) {
	t.Parallel()
	const tooLarge = 21 << 20
	o := newOven(t, map[string]http.HandlerFunc{
		"piece=tone":         baked(page("tone", 1000)),
		"piece=Tone":         baked(page("Tone", 1000)),
		"piece=-x":           baked(page("dash", 1000)),
		"piece=@jeff.b/tone": baked(page("of jeff", 1000)),
		"code=39j":           baked(page("lisp", 1000)),
		"piece=huge":         baked(unlike(1, tooLarge)),
		"piece=broken": func(w http.ResponseWriter, _ *http.Request) {
			http.Error(w, "out of memory at 10.0.0.7", http.StatusInternalServerError)
		},
		"piece=busy": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Retry-After", "7")
			http.Error(w, "busy", http.StatusServiceUnavailable)
		},
		"piece=cut": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "text/html")
			w.Header().Set("Content-Length", "1000")
			_, _ = io.WriteString(w, "<html>")
		},
		"piece=json": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			_, _ = io.WriteString(w, "{}")
		},
	})
	s := serve(t, "--oven", o.URL)
	for _, c := range []struct {
		file   string
		status int
		asked  string // the request to the oven; "": none
		says   string
		bundle string // of the served image; "": not compared
	}{
		{"notepat-os.iso", 200, "", "", ""}, // embedded
		{"tone-os.iso", 200, "piece=tone", "", page("tone", 1000)},
		{"Tone-os.iso", 200, "piece=Tone", "", page("Tone", 1000)},
		{"piece.-x-os.iso", 200, "piece=-x", "", page("dash", 1000)},
		{"at.jeff.b.tone-os.iso", 200, "piece=@jeff.b/tone", "", page("of jeff", 1000)},
		{"kidlisp.39j-os.iso", 200, "code=39j", "", page("lisp", 1000)},
		{"unknown-os.iso", 404, "piece=unknown", "unknown", ""},
		{"unknown-os.iso.sha256", 404, "", "unknown", ""}, // isofs remembers it
		{"huge-os.iso", 413, "piece=huge", "larger than the 20", ""},
		{"broken-os.iso", 502, "piece=broken", "try again", ""},
		{"busy-os.iso", 503, "piece=busy", "again", ""},
		{"cut-os.iso", 502, "piece=cut", "try again", ""},
		{"json-os.iso", 502, "piece=json", "try again", ""},
		{"notepat-os.iso.zip", 404, "", "no sidecar", ""},
		{"notepat.html", 404, "", "named like /notepat-os.iso", ""},
		{"-x-os.iso", 400, "", "piece.-x-os.iso", ""},
		{"@jeff.b-os.iso", 400, "", "@handle/piece", ""},
		{"$39j-os.iso", 400, "", "kidlisp.39j-os.iso", ""},
		{"at.Jeff.B.tone-os.iso", 400, "", "at.jeff.b.tone-os.iso", ""},
		{"-os.iso", 400, "", "empty", ""},
	} {
		before := len(o.requests())
		resp, body := s.get("/" + c.file)
		if resp.StatusCode != c.status || c.status != 200 && !strings.Contains(string(body), c.says) {
			t.Errorf("%s: %s, want %d and %q\n%.300s", c.file, resp.Status, c.status, c.says, body)
			continue
		}
		if c.status != 200 && strings.Contains(string(body), "10.0.0.7") {
			t.Errorf("%s: a stranger gets the text of the oven: %s", c.file, body)
		}
		var want []string
		if c.asked != "" {
			want = []string{"/pack-html?" + c.asked}
		}
		if got := o.requests()[before:]; !slices.Equal(got, want) {
			t.Errorf("%s: the oven got the requests %q, want %q", c.file, got, want)
		}
		if c.bundle != "" && !bytes.Contains(body, []byte(c.bundle)) {
			t.Errorf("%s: the bundle is not in it", c.file)
		}
	}
}

// TestHostileNames: a stranger's request line cannot reach a file outside of the mount, or the
// oven, and cannot break isofs.
func TestHostileNames(t *testing.T) {
	t.Parallel()
	o := newOven(t, nil)
	s := serve(t, "--oven", o.URL)
	id := s.snapshot("notepat")
	for _, target := range []string{
		"/../etc/passwd", "/../../../../etc/passwd-os.iso", "/%2e%2e/etc/passwd", "/%2e%2e%2fetc%2fpasswd-os.iso", "/..-os.iso",
		"/..%2f..%2fnotepat-os.iso", "/a%2fb-os.iso", "/a%5cb-os.iso", "/.-os.iso", "/.hidden-os.iso",
		"/notepat%00-os.iso", "/notepat-os.iso%00.sha256", "/%00", "/notepat%0a-os.iso", "/notepat%0d%0aX-Evil:%201-os.iso",
		"/n%c3%b6tepat-os.iso", "/%f0%9f%8e%b9-os.iso", "/%ff%fe-os.iso", "/n\xc3\xb6tepat-os.iso", "/%e2%80%aegnp-os.iso",
		"/" + strings.Repeat("a", 65) + "-os.iso", "/" + strings.Repeat("a", 4000) + "-os.iso", "/" + strings.Repeat("a", 20000) + "-os.iso",
		"/at." + strings.Repeat("a", 17) + ".x-os.iso", "/notepat-os.iso/", "/notepat-os.iso/../../etc/passwd", "/notepat-os.iso." + strings.Repeat("a", 1000),
		"/_mount/" + id + "/notepat-os.iso", "/s/" + id + "/../../etc/passwd", "/s/" + id + "/other-os.iso", "/s/" + id, "/s/" + id + "/",
		"/s/" + id + "/%2e%2e/" + id + "/other-os.iso", "/s/" + strings.Repeat("0", 32) + "/notepat-os.iso", "/s/../notepat-os.iso%00", "/s//notepat-os.iso",
		"/s/" + strings.ToUpper(id) + "/notepat-os.iso", "/s/" + id + "/notepat-os.iso.sha256.sha256.sha256", "/%25%32%65-os.iso", "/notepat%20-os.iso", "/ notepat-os.iso",
		"/os:..", "/os:../etc/passwd", "/os:..%2f..%2fetc%2fpasswd", "/os:%00", "/os:a%0d%0aX-Evil:%201", "/os:" + strings.Repeat("a", 20000), "/os:@a/../../b",
		"/s/" + id + "/preview/", "/s/" + id + "/preview/x", "/s/" + strings.Repeat("0", 32) + "/preview", "/s/../preview", "/s/" + id + "/preview.sha256",
	} {
		status, body := s.raw(target)
		// The router redirects with 307 from a path with dots or double slashes to the clean path.
		if status < 400 && status != http.StatusTemporaryRedirect || status > http.StatusRequestURITooLong {
			t.Errorf("GET %.80q: status %d\n%.200s", target, status, body)
		}
		if strings.Contains(body, "root:x:") {
			t.Errorf("GET %.80q shows /etc/passwd", target)
		}
	}
	if asked := o.requests(); len(asked) > 0 {
		t.Errorf("the oven got the requests %q", asked)
	}
	for _, name := range []string{"..-os.iso", "nötepat-os.iso", "notepat-os.iso.", "notepat-os.ISO", "s/" + id + "/other-os.iso", "s/0", ".Trash", "autorun.inf", strings.Repeat("a", 248) + "-os.iso"} {
		if _, err := os.Stat(filepath.Join(s.mount(), name)); err == nil {
			t.Errorf("the mount has %q", name)
		}
	}
	// isofs still serves.
	if resp, _ := s.get("/notepat-os.iso"); resp.StatusCode != http.StatusOK {
		t.Errorf("after all that: %s", resp.Status)
	}
}

// raw sends a request line unchanged. A client library would correct it.
func (s *server) raw(target string) (status int, body string) {
	s.t.Helper()
	conn, err := net.Dial("tcp", s.addr)
	if err != nil {
		s.t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		s.t.Fatal(err)
	}
	if _, err := fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n", target); err != nil {
		s.t.Fatal(err)
	}
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		s.t.Fatalf("GET %.80q: %v", target, err)
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil {
		s.t.Fatalf("GET %.80q: %v", target, err)
	}
	return resp.StatusCode, string(data)
}

// TestDeadOven: isofs serves the pieces that it has. For others the client gets an explanation.
func TestDeadOven(t *testing.T) {
	t.Parallel()
	o := newOven(t, map[string]http.HandlerFunc{"piece=tone": baked(page("tone", 1000))})
	// For each request the bundle is too old, and isofs requests a newer one.
	s := serve(t, "--oven", o.URL, "--refresh", "1ns")
	_, first := s.get("/tone-os.iso")
	o.Close()
	resp, again := s.get("/tone-os.iso")
	if resp.StatusCode != http.StatusOK || !bytes.Equal(first, again) {
		t.Errorf("a known piece: %s, %d bytes, were %d", resp.Status, len(again), len(first))
	}
	resp, text := s.get("/other-os.iso")
	if resp.StatusCode != http.StatusBadGateway || resp.Header.Get("Retry-After") == "" || !strings.Contains(string(text), "the source of the piece does not deliver it") {
		t.Errorf("an unknown piece: %s, Retry-After %q\n%.300s", resp.Status, resp.Header.Get("Retry-After"), text)
	}
	resp, text = s.get("/another-os.iso", "Accept: application/json")
	if !strings.HasPrefix(string(text), `{"error":"`) || resp.Header.Get("Content-Type") != "application/json" {
		t.Errorf("as JSON: %s %q\n%.300s", resp.Status, resp.Header.Get("Content-Type"), text)
	}
	resp, _ = s.get("/notepat-os.iso")
	if resp.StatusCode != http.StatusOK {
		t.Errorf("an embedded piece: %s", resp.Status)
	}
}

// TestHangingOven: only requests for the piece that the oven holds wait.
func TestHangingOven(t *testing.T) {
	t.Parallel()
	reached, release := make(chan struct{}, 64), make(chan struct{})
	o := newOven(t, map[string]http.HandlerFunc{
		"piece=slow": func(w http.ResponseWriter, r *http.Request) {
			reached <- struct{}{}
			select {
			case <-release:
			case <-r.Context().Done():
			}
		},
	})
	defer close(release)
	s := serve(t, "--oven", o.URL)
	type answer struct {
		status int
		err    error
	}
	waiting := make(chan answer, 1)
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	go func() {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.url("/slow-os.iso"), nil)
		if err != nil {
			waiting <- answer{err: err}
			return
		}
		resp, err := noRedirects.Do(req)
		if err != nil {
			waiting <- answer{err: err}
			return
		}
		resp.Body.Close()
		waiting <- answer{status: resp.StatusCode}
	}()
	select {
	case <-reached:
	case <-ctx.Done():
		t.Fatal("the oven got no request")
	}
	_, viaHTTP := s.get("/notepat-os.iso")
	viaMount, err := os.ReadFile(filepath.Join(s.mount(), "notepat-os.iso"))
	if err != nil || len(viaHTTP) == 0 || !bytes.Equal(viaHTTP, viaMount) {
		t.Errorf("meanwhile: %d bytes by HTTP, %d in the mount (%v)", len(viaHTTP), len(viaMount), err)
	}
	select {
	case got := <-waiting:
		t.Errorf("the request did not wait for the oven: %+v", got)
	default:
	}
	o.CloseClientConnections()
	if got := <-waiting; got.status != http.StatusBadGateway {
		t.Errorf("the oven hung up: status %d (%v)", got.status, got.err)
	}
}

// TestOneFetchForMany: the oven packs a new piece once, however many clients request it at the same
// time.
func TestOneFetchForMany(t *testing.T) {
	t.Parallel()
	const many = 30
	release := make(chan struct{})
	o := newOven(t, map[string]http.HandlerFunc{
		"piece=new": func(w http.ResponseWriter, r *http.Request) {
			<-release
			baked(page("new", 100_000))(w, r)
		},
	})
	s := serve(t, "--oven", o.URL)
	digests := make(chan string, many)
	var sent, done sync.WaitGroup
	sent.Add(many)
	for i := range many {
		done.Go(func() {
			conn, err := net.Dial("tcp", s.addr)
			if err == nil {
				defer conn.Close()
				_, err = fmt.Fprintf(conn, "GET /new-os.iso HTTP/1.1\r\nHost: test\r\nUser-Agent: client %d\r\nRange: bytes=0-99999\r\nConnection: close\r\n\r\n", i)
			}
			sent.Done()
			if err != nil {
				t.Error(err)
				return
			}
			resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
			if err != nil {
				t.Error(err)
				return
			}
			defer resp.Body.Close()
			body, err := io.ReadAll(resp.Body)
			if err != nil || resp.StatusCode != http.StatusPartialContent || len(body) != 100_000 {
				t.Errorf("client %d: %s, %d bytes (%v)", i, resp.Status, len(body), err)
			}
			digests <- resp.Header.Get("Digest")
		})
	}
	sent.Wait()
	close(release)
	done.Wait()
	close(digests)
	resp, _ := s.request(http.MethodHead, "/new-os.iso")
	for digest := range digests {
		if want := resp.Header.Get("Digest"); digest != want || want == "" {
			t.Errorf("a client got %q, not %q", digest, want)
		}
	}
	if got := o.requests(); len(got) != 1 {
		t.Errorf("the oven got %d requests", len(got))
	}
}

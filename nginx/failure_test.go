package nginx

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// A mount that fails must never look like a file.
func TestUnreadable(t *testing.T) {
	for _, profile := range []Profile{Direct, PageCache} {
		t.Run(string(profile), func(t *testing.T) {
			r := newRig(t, func(c *Config) { c.Profile = profile })
			// Opening a socket fails with ENXIO: not one of the errors that mean "not there".
			l, err := net.Listen("unix", filepath.Join(t.TempDir(), "s"))
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			if err := os.Symlink(l.Addr().String(), r.path("bad-os.iso")); err != nil {
				t.Fatal(err)
			}
			// A file of sysfs claims 4096 bytes, and reads end early.
			if err := os.Symlink("/sys/kernel/mm/transparent_hugepage/enabled", r.path("short-os.iso")); err != nil {
				t.Fatal(err)
			}
			for _, target := range []string{"/s/" + id + "/bad-os.iso", "/bad-os.iso"} {
				got := r.do("GET", target, "Range: bytes=0-")
				if got.StatusCode != 503 || got.Header.Get("Retry-After") != "5" || !strings.Contains(got.body, "cannot be read") ||
					!strings.Contains(fmt.Sprint(got.Header["Cache-Control"]), "no-store") || got.Header.Get("Content-Type") != "text/plain" || got.Header.Get("Content-Disposition") != "" {
					t.Errorf("%s: %d %v %q", target, got.StatusCode, got.Header, got.body)
				}
			}
			r.requests()
			conn, err := net.Dial("tcp", r.addr)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			conn.SetDeadline(time.Now().Add(time.Minute))
			fmt.Fprintf(conn, "GET /s/%s/short-os.iso HTTP/1.1\r\nHost: x\r\nRange: bytes=0-\r\n\r\n", id)
			got, err := io.ReadAll(conn) // to the end: the connection must not be kept
			head, rest, _ := strings.Cut(string(got), "\r\n\r\n")
			if strings.Contains(head, " 206 ") && (!strings.Contains(head, "Content-Length: 4096") || len(rest) >= 4096) {
				t.Errorf("a short file looks whole: %v\n%s\n%d bytes", err, head, len(rest))
			}
			// The API names a file that the mount does not have (any more).
			r.mu.Lock()
			r.handler = func(w http.ResponseWriter, q *http.Request) {
				w.Header().Set("X-Accel-Redirect", "/_mount/"+other+"/notepat-os.iso")
			}
			r.mu.Unlock()
			if got := r.do("GET", "/notepat-os.iso"); got.StatusCode != 503 || !strings.Contains(got.body, "cannot be read") {
				t.Errorf("a file that only the API knows: %d %q", got.StatusCode, got.body)
			}
			if n := len(r.requests()); n != 1 {
				t.Errorf("the API was asked %d times", n)
			}
		})
	}
}

func TestAPIDown(t *testing.T) {
	r := newRig(t, nil)
	if err := os.Remove(r.config.APISocket); err != nil {
		t.Fatal(err)
	}
	// The third is not in the mount: one failure after another.
	for _, target := range []string{"/notepat-os.iso", image, "/s/" + other + "/notepat-os.iso.sha256"} {
		got := r.do("GET", target)
		if got.StatusCode != 502 || got.Header.Get("Retry-After") == "" || !strings.Contains(got.body, "does not answer") || got.Header.Get("Content-Type") != "text/plain" {
			t.Errorf("%s: %d %v %q", target, got.StatusCode, got.Header, got.body)
		}
		got = r.do("GET", target, "Accept: application/json")
		var message struct{ Error string }
		if err := json.Unmarshal([]byte(got.body), &message); err != nil || message.Error == "" || got.StatusCode != 502 || got.Header.Get("Content-Type") != "application/json" {
			t.Errorf("%s as JSON: %d %q: %v", target, got.StatusCode, got.body, err)
		}
	}
	// A request for fixed bytes needs no API.
	if got := r.do("GET", image, "Range: bytes=0-"); got.StatusCode != 206 || got.body != body {
		t.Errorf("a continued download without API: %d %q", got.StatusCode, got.body)
	}
}

// One worker, an API that does not answer: downloads go on.
func TestSlowAPI(t *testing.T) {
	r := newRig(t, nil)
	done := make(chan reply)
	go func() { done <- r.do("GET", "/hold") }()
	<-r.held
	if got := r.do("GET", image, "Range: bytes=0-"); got.StatusCode != 206 {
		t.Errorf("status %d while the API waits", got.StatusCode)
	}
	if got := r.do("GET", "/notepat-os.iso"); got.StatusCode != 200 {
		t.Errorf("status %d of another request to the API", got.StatusCode)
	}
	close(r.hold)
	if got := <-done; got.StatusCode != 200 {
		t.Errorf("the slow one: status %d", got.StatusCode)
	}
}

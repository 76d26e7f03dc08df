package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"

	"aesthetic.computer/isofs/bundle"
	"aesthetic.computer/isofs/catalog"
	"aesthetic.computer/isofs/fault"
	"aesthetic.computer/isofs/piece"
)

const secret = "/srv/secret"

// The three forms of each error: its status, its Retry-After, and a text
// without secrets of the machine.
func TestErrors(t *testing.T) {
	name, err := piece.ParseName("notepat")
	if err != nil {
		t.Fatal(err)
	}
	inside := func(err error) error { return fmt.Errorf("read notepat.html of %s at 10.0.0.1: %w", secret, err) }
	for _, c := range []struct {
		err    error // of the source
		path   string
		status int
		retry  string
		text   string
	}{
		{nil, "/none-os.iso", 404, "", "there is no piece named none"},
		{nil, "/at.jeffrey.none-os.iso", 404, "", "no piece named @jeffrey/none"},
		{nil, "/a$b-os.iso", 400, "", "use letters, digits, - and _"},
		{nil, "/notepat.iso", 404, "", "images are named like /notepat-os.iso"},
		{nil, "/notepat-os.iso.bmap", 404, "", "no sidecar of that kind; there is .sha256"},
		{nil, "/s/0123/notepat-os.iso", 404, "", "is not kept here, or never was; the latest image is at /notepat-os.iso"},
		{nil, "/s/0123/other", 404, "", "is not kept here, or never was"},
		{inside(&bundle.TooLargeError{Name: name, Limit: 12345}), "/notepat-os.iso", 413, "", "larger than the 12345 bytes"},
		{inside(fault.NotFound), "/notepat-os.iso", 404, "", "there is no piece named notepat"},
		{inside(fault.Invalid), "/notepat-os.iso", 400, "", "no image can be made of this piece"},
		{inside(fault.Unavailable), "/notepat-os.iso", 502, "30", "the source of the piece does not deliver it"},
		{inside(fault.Corrupt), "/notepat-os.iso", 502, "30", "the source of the piece does not deliver it"},
		{inside(errors.New("of no kind")), "/notepat-os.iso", 502, "30", "the source of the piece does not deliver it"},
		{inside(&bundle.BusyError{Name: name, After: 90 * time.Second}), "/notepat-os.iso", 503, "90", "try again in 90 seconds"},
		{inside(&bundle.BusyError{Name: name}), "/notepat-os.iso", 503, "30", "try again in 30 seconds"},
	} {
		r := newRig(t, catalog.Limits{})
		r.shop.err = c.err
		for accept, contentType := range map[string]string{
			"*/*":                               "text/plain; charset=utf-8",
			"":                                  "text/plain; charset=utf-8",
			"application/json, text/plain, */*": "application/json",
			"text/html,application/xhtml+xml":   "text/html; charset=utf-8",
		} {
			got := r.ask("GET", c.path, "Accept: "+accept)
			h, body := got.Header(), got.Body.String()
			if got.Code != c.status || h.Get("Retry-After") != c.retry || h.Get("Cache-Control") != "no-store" || h.Get("Content-Type") != contentType {
				t.Errorf("%s after %v for %q: %d, %v; want %d", c.path, c.err, accept, got.Code, h, c.status)
			}
			if contentType == "application/json" {
				var message struct{ Error string }
				if err := json.Unmarshal([]byte(body), &message); err != nil || message.Error == "" {
					t.Errorf("%s: %q is not the JSON of an error (%v)", c.path, body, err)
				}
			}
			if !strings.Contains(body, c.text) || strings.Contains(body, secret) || strings.Contains(body, "10.0.0.1") {
				t.Errorf("%s for %q says %q, want %q", c.path, accept, body, c.text)
			}
			if h.Get("X-Accel-Redirect") != "" || h.Get("X-Content-Type-Options") != "nosniff" {
				t.Errorf("%s for %q: %v", c.path, accept, h)
			}
		}
		if c.status >= 500 && !strings.Contains(r.log.String(), secret) {
			t.Errorf("the operator's log does not say why: %s", r.log)
		}
	}
}

func TestAStaleResume(t *testing.T) {
	r := newRig(t, catalog.Limits{})
	resume := fmt.Sprintf("Range: bytes=%d-", slotStart+1)
	if got := r.ask("GET", "/notepat-os.iso", resume); got.Code != 412 || !strings.Contains(got.Body.String(), "delete the partial file") {
		t.Errorf("%d, %q", got.Code, got.Body)
	}
	got := r.ask("GET", "/notepat-os.iso", resume, "Accept: text/html")
	if got.Code != 412 || !strings.Contains(got.Body.String(), `<a class="button" href="/notepat-os.iso" download>`) {
		t.Errorf("%d, %q", got.Code, got.Body)
	}
}

func TestAFullHouse(t *testing.T) {
	r := newRig(t, catalog.Limits{Builds: 1})
	r.shop.gate, r.shop.fetching = make(chan struct{}), make(chan string, 10)
	done := make(chan *httptest.ResponseRecorder)
	go func() { done <- r.ask("GET", "/notepat-os.iso") }()
	<-r.shop.fetching
	got := r.ask("GET", "/other-os.iso")
	if seconds, err := strconv.Atoi(got.Header().Get("Retry-After")); got.Code != 503 || err != nil || seconds < 1 || seconds > 30 {
		t.Errorf("%d, Retry-After %q", got.Code, got.Header().Get("Retry-After"))
	}
	close(r.shop.gate)
	if got := <-done; got.Code != 200 {
		t.Errorf("the one before: %d", got.Code)
	}
}

func TestNoClientToAnswer(t *testing.T) {
	r := newRig(t, catalog.Limits{})
	r.shop.gate, r.shop.fetching = make(chan struct{}), make(chan string, 1)
	ctx, leave := context.WithCancel(t.Context())
	req := httptest.NewRequestWithContext(ctx, "GET", "/notepat-os.iso", nil)
	w := httptest.NewRecorder()
	done := make(chan struct{})
	go func() {
		defer close(done)
		r.handler.ServeHTTP(w, req)
	}()
	<-r.shop.fetching
	leave()
	<-done
	defer close(r.shop.gate)
	if w.Body.Len() != 0 || strings.Contains(r.log.String(), "request failed") {
		t.Errorf("%d, %q; log: %s", w.Code, w.Body, r.log)
	}
}

func TestMethods(t *testing.T) {
	r := newRig(t, catalog.Limits{})
	for _, path := range []string{"/", "/healthz", "/notepat-os.iso", "/s/0/x", "/a/b/c"} {
		for _, method := range []string{"POST", "PUT", "DELETE", "PATCH", "TRACE"} {
			if got := r.ask(method, path); got.Code != 405 || got.Header().Get("Allow") != methods {
				t.Errorf("%s %s: %d, Allow %q", method, path, got.Code, got.Header().Get("Allow"))
			}
		}
		got := r.ask("OPTIONS", path, "Origin: https://elsewhere.example", "Access-Control-Request-Method: GET")
		if h := got.Header(); got.Code != 204 || h.Get("Access-Control-Allow-Origin") != "*" || !strings.Contains(h.Get("Access-Control-Allow-Headers"), "If-Range") {
			t.Errorf("OPTIONS %s: %d, %v", path, got.Code, h)
		}
	}
}

// Paths of hostile clients. None may reach the mount.
func TestOddPaths(t *testing.T) {
	r := newRig(t, catalog.Limits{})
	s := r.current("notepat", 0)
	for path, want := range map[string]int{
		"/s/x/y":                                             404,
		"/s/" + s.ID():                                       404,
		"/s/" + s.ID() + "/":                                 404,
		"/s/" + s.ID() + "/x":                                404,
		"/s/" + s.ID() + "/tone-os.iso":                      404,
		"/s/" + s.ID() + "/notepat-os.iso.asc":               404,
		"/s/" + s.ID() + "/notepat-os.iso/":                  404,
		"/s/" + s.ID() + "/..%2f..%2fetc%2fpasswd":           404,
		"/s/" + strings.ToUpper(s.ID()) + "x/notepat-os.iso": 404,
		"/s/%00/notepat-os.iso":                              404,
		"/notepat-os.iso%00":                                 404,
		"/%00-os.iso":                                        400,
		"/..%2fnotepat-os.iso":                               400,
		"/a%2fb-os.iso":                                      400,
		"/-os.iso":                                           400,
		"/-x-os.iso":                                         400, // its image is called piece.-x-os.iso
		"/at.JEFFREY.tone-os.iso":                            400,
		"/%f0%28%8c%28-os.iso":                               400,
		"/%0d%0aX-Evil:1-os.iso":                             400,
		"/" + strings.Repeat("a", 100_000) + "-os.iso":       400,
		"/" + strings.Repeat("a", 100_000):                   404,
		"/notepat-os.iso.":                                   404,
		"/notepat-os.iso.-os.iso.x":                          400,
		"/notepat-os.iso.sha256.asc":                         404,
		"/notepat-os.iso.%00":                                404,
		"/robots.txt":                                        404,
		"/_mount/" + s.ID() + "/notepat-os.iso":              404,
	} {
		for _, accept := range []string{"*/*", "text/html"} {
			got := r.ask("GET", path, "Accept: "+accept)
			if got.Code != want || got.Header().Get("X-Accel-Redirect") != "" || got.Body.Len() > 20_000 {
				t.Errorf("%.80s: %d (%q, %d bytes), want %d", path, got.Code, got.Header().Get("X-Accel-Redirect"), got.Body.Len(), want)
			}
			for key, values := range got.Header() {
				if strings.ContainsAny(strings.Join(values, ""), "\r\n\x00") || key == "X-Evil" {
					t.Errorf("%.80s: header %s: %q", path, key, values)
				}
			}
		}
	}
	for _, path := range []string{"/../notepat-os.iso", "//notepat-os.iso", "/s/../notepat-os.iso"} {
		got := r.ask("GET", path)
		if location := got.Header().Get("Location"); got.Code/100 != 3 || location != "/notepat-os.iso" {
			t.Errorf("%s: %d to %q", path, got.Code, location)
		}
	}
}

func TestHealth(t *testing.T) {
	r := newRig(t, catalog.Limits{})
	if got := r.ask("GET", "/healthz"); got.Code != 200 || got.Body.String() != "ok\n" || got.Header().Get("Cache-Control") != "no-store" {
		t.Errorf("%d, %q", got.Code, got.Body)
	}
	r.sick = errors.New("the mount at " + secret + " is gone")
	got := r.ask("GET", "/healthz")
	if got.Code != 503 || got.Header().Get("Retry-After") == "" || strings.Contains(got.Body.String(), secret) || !strings.Contains(r.log.String(), secret) {
		t.Errorf("%d, %q; log: %s", got.Code, got.Body, r.log)
	}
	got = httptest.NewRecorder()
	New(Config{Catalog: r.catalog}).ServeHTTP(got, httptest.NewRequest("HEAD", "/healthz", nil))
	if got.Code != 200 {
		t.Errorf("without Healthy: %d", got.Code)
	}
}

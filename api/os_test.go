package api

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"aesthetic.computer/isofs/bundle"
	"aesthetic.computer/isofs/catalog"
	"aesthetic.computer/isofs/fault"
	"aesthetic.computer/isofs/piece"
)

// Packs makes a shop an oven.
func (s *shop) Packs(piece.Name) bool { return true }

func TestOSRedirects(t *testing.T) {
	for _, path := range []string{"/os", "/api/os"} {
		for query, piece := range map[string]string{
			"piece=notepat":                                "notepat",
			"piece=notepat&code=39j":                       "notepat",
			"piece=&code=39j":                              "$39j",
			"code=39j":                                     "$39j",
			"code=$39j":                                    "$39j",
			"code=%2439j":                                  "$39j",
			"piece=%2439j":                                 "$39j",
			"piece=@Jeffrey/tone":                          "@jeffrey/tone",
			"piece=%40jeffrey%2Ftone":                      "@jeffrey/tone",
			"piece=notepat&format=download":                "notepat",
			"piece=notepat&format=&density=&flavor=":       "notepat",
			"piece=notepat&density=8":                      "notepat",
			"piece=notepat&flavor=tiny&arch=amd64":         "notepat",
			"piece=notepat&arch=x86_64&utm_source=nowhere": "notepat",
		} {
			r := newRig(t, catalog.Limits{})
			s := r.current(piece, 0)
			for _, method := range []string{"GET", "HEAD"} {
				got := r.ask(method, path+"?"+query, "X-Forwarded-Proto: https")
				h := got.Header()
				if got.Code != 302 || h.Get("Location") != "https://isofs.example/s/"+s.ID()+"/"+s.FileName() || h.Get("Cache-Control") != "no-cache" ||
					h.Get("X-Isofs-Snapshot") != s.ID() || h.Get("Access-Control-Allow-Origin") != "*" || h.Get("X-Accel-Redirect") != "" {
					t.Errorf("%s %s?%s: %d, %v", method, path, query, got.Code, h)
				}
			}
		}
	}
}

func TestOSKnowsItsAddress(t *testing.T) {
	r := newRig(t, catalog.Limits{})
	r.current("notepat", 0)
	r.handler = New(Config{Catalog: r.catalog, PublicURL: "https://oven.example/images/"})
	if got := r.ask("GET", "/os?piece=notepat"); !strings.HasPrefix(got.Header().Get("Location"), "https://oven.example/images/s/") {
		t.Errorf("%v", got.Header())
	}
}

func TestOSMisused(t *testing.T) {
	r := newRig(t, catalog.Limits{})
	for query, text := range map[string]string{
		"":                          "Missing 'code' or 'piece' parameter.",
		"piece=":                    "Missing 'code' or 'piece' parameter.",
		"format=stream":             "Missing 'code' or 'piece' parameter.",
		"piece=a%zz":                "cannot be read",
		"piece=../../etc/passwd":    "cannot be in it",
		"piece=a%00b":               "cannot be in it",
		"piece=@jeffrey":            "@handle/piece",
		"code=$$39j":                "cannot be in a KidLisp code",
		"code=$":                    "KidLisp code",
		"code=nötepat":              "cannot be in a KidLisp code",
		"piece=notepat&format=json": "Use 'download' or 'stream'",
		"piece=notepat&density=0":   "from 1 to 16",
		"piece=notepat&density=17":  "from 1 to 16",
		"piece=notepat&density=-1":  "from 1 to 16",
		"piece=notepat&density=8.5": "from 1 to 16",
		"piece=notepat&density=1e1": "from 1 to 16",
		"piece=notepat&flavor=fedora&format=stream": "Invalid flavor \"fedora\". Use 'tiny'",
		"piece=notepat&arch=aarch64":                "Invalid arch \"arm64\". Use 'amd64'",
		"piece=notepat&arch=mips":                   "Use 'amd64'",
		"piece=" + strings.Repeat("a", 5000):        "at most 64",
	} {
		got := r.ask("GET", "/os?"+query)
		var body struct {
			Error string
			Usage map[string]string
		}
		if err := json.Unmarshal(got.Body.Bytes(), &body); err != nil || got.Code != 400 || got.Header().Get("Content-Type") != "application/json" ||
			!strings.Contains(body.Error, text) || len(body.Error) > 400 || body.Usage["kidlisp"] != "/os?code=39j" || body.Usage["javascript"] != "/os?piece=notepat" {
			t.Errorf("%.80s: %d, %s (%v)", query, got.Code, got.Body, err)
		}
	}
	if want := `{"error":"Missing 'code' or 'piece' parameter.","usage":{"javascript":"/os?piece=notepat","kidlisp":"/os?code=39j"}}` + "\n"; r.ask("GET", "/os").Body.String() != want {
		t.Errorf("the oven's words are %s", r.ask("GET", "/os").Body)
	}
	if got := r.ask("GET", "/os?piece=%3Cscript%3E", "Accept: text/html"); got.Code != 400 || strings.Contains(got.Body.String(), "<script>") || !strings.HasPrefix(got.Body.String(), "<!doctype html>") {
		t.Errorf("for a browser: %d, %s", got.Code, got.Body)
	}
}

// The statuses of failures behind this package, by name, by /os and as an
// event.
func TestOSErrors(t *testing.T) {
	name, err := piece.ParseName("notepat")
	if err != nil {
		t.Fatal(err)
	}
	inside := func(err error) error { return fmt.Errorf("%s at 10.0.0.1: %w", secret, err) }
	for _, c := range []struct {
		err    error // of the source
		query  string
		status int
		retry  string
		text   string
	}{
		{nil, "piece=none", 404, "", "there is no piece named none"},
		{nil, "code=abc", 404, "", "there is no piece named $abc"},
		{inside(&bundle.TooLargeError{Name: name, Limit: 12345}), "piece=notepat", 413, "", "larger than the 12345 bytes"},
		{inside(fault.Unavailable), "piece=notepat", 502, "30", "the source of the piece does not deliver it"},
		{inside(&bundle.TimeoutError{Name: name, Err: errors.New(secret)}), "piece=notepat", 504, "30", "takes too long; try again in 30 seconds"},
		{inside(&bundle.BusyError{Name: name, After: 90 * time.Second}), "piece=notepat", 503, "90", "try again in 90 seconds"},
	} {
		r := newRig(t, catalog.Limits{})
		r.shop.err = c.err
		got := r.ask("GET", "/os?"+c.query)
		if body := got.Body.String(); got.Code != c.status || got.Header().Get("Retry-After") != c.retry || got.Header().Get("Content-Type") != "application/json" ||
			!strings.Contains(body, c.text) || strings.Contains(body, secret) || strings.Contains(body, "10.0.0.1") || strings.Contains(body, "usage") {
			t.Errorf("%v: %d, %v, %s", c.err, got.Code, got.Header(), got.Body)
		}
		events := framesOf(t, r.ask("GET", "/os?format=stream&"+c.query))
		last := events[len(events)-1]
		if last.kind != "error" || last.data["status"] != float64(c.status) || !strings.Contains(last.data["error"].(string), c.text) || strings.Contains(last.data["error"].(string), secret) {
			t.Errorf("%v: the last event is %v", c.err, last)
		}
	}
}

// A download that resumes by /os continues the image that it began.
func TestOSResumes(t *testing.T) {
	r := newRig(t, catalog.Limits{})
	old := r.current("notepat", 0)
	r.ask("GET", "/os?piece=notepat")
	current := r.current("notepat", 1)
	inSlot := fmt.Sprintf("Range: bytes=%d-", slotStart+1)
	for _, c := range []struct {
		headers []string
		want    string
	}{
		{[]string{inSlot}, old.ID()},
		{nil, current.ID()},
		{[]string{inSlot, "If-Range: " + etag(old)}, old.ID()},
		{[]string{inSlot, "X-Real-IP: 198.51.100.7"}, ""},
	} {
		got := r.ask("GET", "/os?piece=notepat", c.headers...)
		if id := got.Header().Get("X-Isofs-Snapshot"); id != c.want || (got.Code == 302) != (c.want != "") {
			t.Errorf("%q: %d, snapshot %s, want %s", c.headers, got.Code, id, c.want)
		}
		if c.want == "" && got.Code != 412 {
			t.Errorf("%q: %d", c.headers, got.Code)
		}
		r.ask("GET", "/os?piece=notepat", "Range: bytes=1-1") // still the same client
	}
}

func TestOSDensity(t *testing.T) {
	r := newRig(t, catalog.Limits{})
	plain := r.current("notepat", 0)
	got := r.ask("GET", "/os?piece=notepat&density=4")
	id := got.Header().Get("X-Isofs-Snapshot")
	four, err := r.catalog.ByID(id)
	if err != nil || id == plain.ID() || four.Piece().Density() != 4 {
		t.Fatalf("%d, %v, %v", got.Code, got.Header(), err)
	}
	if got := r.ask("GET", "/s/"+id+"/notepat-os.iso"); got.Code != 200 || got.Header().Get("X-Isofs-Snapshot") != id {
		t.Errorf("its address: %d, %v", got.Code, got.Header())
	}
	if got := r.ask("GET", "/notepat-os.iso"); got.Header().Get("X-Isofs-Snapshot") != plain.ID() {
		t.Errorf("the plain name: %v", got.Header())
	}
}

func TestOSForPagesElsewhere(t *testing.T) {
	r := newRig(t, catalog.Limits{})
	for _, path := range []string{"/os?piece=notepat", "/api/os?piece=notepat&format=stream", "/os"} {
		h := r.ask("GET", path, "Origin: https://aesthetic.computer").Header()
		for _, want := range []string{"Content-Disposition", "Content-Length", "Digest", "Link", "Repr-Digest", "Retry-After", "X-Isofs-Snapshot"} {
			if !strings.Contains(h.Get("Access-Control-Expose-Headers"), want) {
				t.Errorf("%s does not expose %s: %v", path, want, h)
			}
		}
		if h.Get("Access-Control-Allow-Origin") != "*" || h.Get("Access-Control-Allow-Methods") != methods || !strings.Contains(h.Get("Access-Control-Allow-Headers"), "Content-Type") {
			t.Errorf("%s: %v", path, h)
		}
		if got := r.ask("OPTIONS", path); got.Code != 204 || !strings.Contains(got.Header().Get("Access-Control-Allow-Headers"), "Content-Type") {
			t.Errorf("OPTIONS %s: %d %v", path, got.Code, got.Header())
		}
		if got := r.ask("POST", path); got.Code != 405 {
			t.Errorf("POST %s: %d", path, got.Code)
		}
	}
}

func TestOSStatus(t *testing.T) {
	r := newRig(t, catalog.Limits{})
	r.current("$39j", 0)
	r.handler = New(Config{Catalog: r.catalog, BaseURL: func() string { return "https://cdn.example/b" }})
	s := r.current("notepat", 0)
	got := r.ask("GET", "/os-status")
	var body struct {
		ActiveBuildCount, MaxConcurrent int
		RecentBuilds                    []buildData
		BaseImageURL, ManifestURL       string
	}
	if err := json.Unmarshal(got.Body.Bytes(), &body); err != nil || got.Code != 200 {
		t.Fatal(got.Code, err)
	}
	if body.MaxConcurrent != catalog.DefaultLimits().Builds || body.BaseImageURL != "https://cdn.example/b/base.iso" || body.ManifestURL != "https://cdn.example/b/manifest.json" || len(body.RecentBuilds) != 2 {
		t.Fatalf("%+v", body)
	}
	b := body.RecentBuilds[0]
	if b.BuildID != s.ID() || b.Target != "notepat" || !b.IsJSPiece || b.Flavor != "tiny" || b.Cached || b.Time != "2026-11-03T00:00:00Z" || b.CDNURL != "http://isofs.example/s/"+s.ID()+"/notepat-os.iso" {
		t.Errorf("%+v", b)
	}
	if b := body.RecentBuilds[1]; b.Target != "39j" || b.IsJSPiece {
		t.Errorf("%+v", b)
	}
	r.handler = New(Config{Catalog: r.catalog})
	if body := r.ask("GET", "/os-status").Body.String(); !strings.Contains(body, `"baseImageUrl":"","manifestUrl":""`) {
		t.Errorf("of a private base: %s", body)
	}
}

func TestReady(t *testing.T) {
	r := newRig(t, catalog.Limits{})
	checks := []Check{{"mount", true, "it is there"}, {"base", true, "it answers"}}
	r.handler = New(Config{Catalog: r.catalog, Ready: func() []Check { return checks }})
	if got := r.ask("GET", "/readyz"); got.Code != 200 || got.Body.String() != `{"ready":true,"checks":{"base":{"ok":true,"text":"it answers"},"mount":{"ok":true,"text":"it is there"}}}`+"\n" {
		t.Errorf("%d %s", got.Code, got.Body)
	}
	checks[1] = Check{"base", false, "it does not answer"}
	got := r.ask("GET", "/readyz")
	if got.Code != 503 || got.Header().Get("Retry-After") == "" || !strings.Contains(got.Body.String(), `"ready":false`) || !strings.Contains(got.Body.String(), "it does not answer") {
		t.Errorf("%d %s", got.Code, got.Body)
	}
	var without httptest.ResponseRecorder
	New(Config{Catalog: r.catalog}).ServeHTTP(&without, httptest.NewRequest("HEAD", "/readyz", nil))
	if without.Code != 200 {
		t.Errorf("without Ready: %d", without.Code)
	}
}

package integration

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// bakedAfter is a handler that answers with a bundle after release is closed.
func bakedAfter(release <-chan struct{}, html string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		select {
		case <-release:
			baked(html)(w, r)
		case <-r.Context().Done():
		}
	}
}

// TestOSDownload: /os leads every client that follows redirects to the image that isofs pack makes.
func TestOSDownload(t *testing.T) {
	t.Parallel()
	need(t, "wget", "curl", "aria2c")
	dir := pieces(t, map[string]string{"tone": page("tone", 50_000)})
	want, err := os.ReadFile(pack(t, "tone", dir))
	if err != nil {
		t.Fatal(err)
	}
	s := serve(t, "--pieces", dir)
	for name, args := range map[string][]string{
		"wget":   {"-q", "-O", "OUT"},
		"curl":   {"-sS", "-f", "-L", "-o", "OUT"},
		"aria2c": {"-q", "-x4", "-s4", "-k1M", "--dir=/", "-o", "OUT"},
	} {
		for _, path := range []string{"/os?piece=tone", "/api/os?piece=tone"} {
			out := filepath.Join(t.TempDir(), "out.iso")
			var line []string
			for _, a := range args {
				line = append(line, strings.Replace(a, "OUT", out, 1))
			}
			must(t, name, append(line, s.url(path))...)
			if got, err := os.ReadFile(out); err != nil || !bytes.Equal(got, want) {
				t.Errorf("%s of %s: %d bytes, packed are %d (%v)", name, path, len(got), len(want), err)
			}
		}
	}
	// The client saves the file under the server's name.
	named := t.TempDir()
	must(t, "wget", "-q", "--content-disposition", "-P", named, s.url("/os?piece=tone"))
	if _, err := os.Stat(filepath.Join(named, "tone-os.iso")); err != nil {
		t.Error(err)
	}
}

// TestOSHeaders: the headers of the redirect to an image and of the image, for GET and HEAD.
func TestOSHeaders(t *testing.T) {
	t.Parallel()
	s := serve(t)
	for _, method := range []string{http.MethodGet, http.MethodHead} {
		resp, _ := s.request(method, "/os?piece=notepat")
		at := resp.Header.Get("Location")
		path, ok := strings.CutPrefix(at, "http://"+s.addr)
		if resp.StatusCode != http.StatusFound || !ok || resp.Header.Get("Cache-Control") != "no-cache" || resp.Header.Get("X-Isofs-Piece") != "" {
			t.Fatalf("%s /os: %s %v", method, resp.Status, resp.Header)
		}
		resp, body := s.request(method, path)
		if method == http.MethodGet && len(body) != int(resp.ContentLength) {
			t.Errorf("%d bytes of %d", len(body), resp.ContentLength)
		}
		sum := s.published("/notepat-os.iso")
		want := map[string]string{
			"Content-Type": "application/octet-stream", "Content-Disposition": `attachment; filename="notepat-os.iso"`,
			"Content-Length": fmt.Sprint(len(reference())), "Accept-Ranges": "bytes", "Cache-Control": "public, max-age=31536000, immutable",
			"Digest": "SHA-256=" + base64OfHex(t, sum), "Repr-Digest": "sha-256=:" + base64OfHex(t, sum) + ":",
			"Link":                        fmt.Sprintf("<%[1]s>; rel=\"canonical\", <%[1]s.bmap>; rel=\"describedby\", <%[1]s.manifest>; rel=\"describedby\", <%[1]s.sha256>; rel=\"describedby\", <%[1]s.zsync>; rel=\"describedby\"", path),
			"X-Isofs-Snapshot":            strings.Split(path, "/")[2],
			"Access-Control-Allow-Origin": "*",
		}
		for key, value := range want {
			if got := resp.Header.Values(key); len(got) != 1 || got[0] != value {
				t.Errorf("%s of the image: %s is %q, want %q", method, key, got, value)
			}
		}
		if etag := resp.Header.Get("ETag"); !strings.HasPrefix(etag, `"`) || resp.Header.Get("Last-Modified") == "" {
			t.Errorf("%s: ETag %q, Last-Modified %q", method, etag, resp.Header.Get("Last-Modified"))
		}
		for _, exposed := range []string{"Content-Disposition", "Content-Length", "Digest", "Repr-Digest", "Link", "Retry-After", "X-Isofs-Snapshot"} {
			if !strings.Contains(resp.Header.Get("Access-Control-Expose-Headers"), exposed) {
				t.Errorf("%s: %s is not exposed", method, exposed)
			}
		}
		resp, _ = s.request(method, "/notepat-os.iso")
		if resp.Header.Get("Cache-Control") != "no-cache" {
			t.Errorf("%s of the plain name: %q", method, resp.Header.Get("Cache-Control"))
		}
	}
	resp, _ := s.request(http.MethodOptions, "/os?piece=notepat", "Origin: https://aesthetic.computer", "Access-Control-Request-Method: GET")
	if h := resp.Header; resp.StatusCode != http.StatusNoContent || h.Get("Access-Control-Allow-Origin") != "*" || !strings.Contains(h.Get("Access-Control-Allow-Headers"), "Range") {
		t.Errorf("OPTIONS: %s %v", resp.Status, h)
	}
}

// TestOSStatuses: each answer of /os, also those that depend on the oven, with its words. A stream
// has the same as an event.
func TestOSStatuses(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	o := newOven(t, map[string]http.HandlerFunc{
		"code=39j":   baked(page("lisp", 1000)),
		"piece=huge": baked(unlike(1, 21<<20)),
		"piece=broken": func(w http.ResponseWriter, _ *http.Request) {
			http.Error(w, "out of memory at 10.0.0.7", http.StatusInternalServerError)
		},
		"piece=busy": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Retry-After", "77")
			http.Error(w, "busy", http.StatusServiceUnavailable)
		},
		"piece=throttled": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Retry-After", "78")
			http.Error(w, "slow down", http.StatusTooManyRequests)
		},
		"piece=hung": bakedAfter(release, ""),
		"piece=gone": func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
	})
	defer close(release)
	s := serve(t, "--oven", o.URL, "--oven-timeout", "1s")
	for _, c := range []struct {
		query  string
		status int
		retry  string
		says   string
	}{
		{"piece=notepat", 302, "", ""},
		{"code=39j", 302, "", ""},
		{"code=$39j", 302, "", ""},
		{"piece=notepat&flavor=tiny&arch=x86_64&density=8", 302, "", ""},
		{"", 400, "", "Missing 'code' or 'piece' parameter."},
		{"piece=..%2F..%2Fetc", 400, "", "cannot be in it"},
		{"piece=notepat&density=99", 400, "", "from 1 to 16"},
		{"piece=notepat&flavor=alpine", 400, "", "Use 'tiny'"},
		{"piece=notepat&arch=aarch64", 400, "", "Use 'amd64'"},
		{"piece=notepat&format=zip", 400, "", "Use 'download' or 'stream'"},
		{"piece=unknown", 404, "", "there is no piece named unknown"},
		{"piece=huge", 413, "", "larger than the 20"},
		{"piece=broken", 502, "30", "does not deliver it"},
		{"piece=gone", 502, "30", "does not deliver it"},
		{"piece=busy", 503, "77", "is busy"},
		{"piece=throttled", 503, "78", "is busy"},
		{"piece=hung", 504, "30", "takes too long"},
	} {
		resp, body := s.get("/os?" + c.query)
		// The age of a remembered failure changes Retry-After.
		retry := resp.Header.Get("Retry-After")
		if resp.StatusCode != c.status || (retry != "") != (c.retry != "") || len(retry) > len(c.retry) {
			t.Errorf("%s: %s, Retry-After %q, want %d and %q\n%.300s", c.query, resp.Status, retry, c.status, c.retry, body)
		}
		if c.status == 302 {
			continue
		}
		var answer struct {
			Error string
			Usage map[string]string
		}
		if err := json.Unmarshal(body, &answer); err != nil || resp.Header.Get("Content-Type") != "application/json" || !strings.Contains(answer.Error, c.says) ||
			(answer.Usage != nil) != (c.status == 400) || strings.Contains(answer.Error, "10.0.0.7") {
			t.Errorf("%s: %s (%v)", c.query, body, err)
		}
		if resp.Header.Get("Access-Control-Allow-Origin") != "*" {
			t.Errorf("%s: a page elsewhere cannot read the answer", c.query)
		}
		if _, page := s.get("/os?"+c.query, "Accept: text/html,*/*"); !bytes.HasPrefix(page, []byte("<!doctype html>")) {
			t.Errorf("%s for a browser: %.100s", c.query, page)
		}
		if c.status == 400 {
			if resp, _ := s.get("/os?format=stream&" + strings.Replace(c.query, "format=", "f=", 1)); !strings.Contains(c.query, "zip") && resp.StatusCode != 400 {
				t.Errorf("%s as a stream: %s", c.query, resp.Status)
			}
			continue
		}
		events := s.events("/os?format=stream&" + c.query)
		if last := events[len(events)-1]; last.kind != "error" || last.data["status"] != float64(c.status) || !strings.Contains(fmt.Sprint(last.data["error"]), c.says) {
			t.Errorf("%s as a stream ends with %v", c.query, last)
		}
	}
	if resp, _ := s.request(http.MethodPost, "/os?piece=notepat"); resp.StatusCode != http.StatusMethodNotAllowed {
		t.Errorf("POST: %s", resp.Status)
	}
}

// TestOSResume: a download by /os is cut, and resumed after the piece has changed. It completes the
// image that it began with.
func TestOSResume(t *testing.T) {
	t.Parallel()
	need(t, "wget", "curl")
	dir := pieces(t, map[string]string{"tone": page("first", 3_000_000)})
	s := serve(t, "--pieces", dir)
	out := t.TempDir()
	clients := map[string][]string{
		"wget": {"-q", "-c", "-O", filepath.Join(out, "wget")},
		"curl": {"-sS", "-f", "-L", "-C", "-", "-o", filepath.Join(out, "curl")},
	}
	whole := map[string][]byte{}
	for name, args := range clients {
		must(t, name, append(args, s.url("/os?piece=tone"))...)
		data, err := os.ReadFile(filepath.Join(out, name))
		if err != nil {
			t.Fatal(err)
		}
		whole[name] = data
		// The cut is where the images differ.
		if err := os.Truncate(filepath.Join(out, name), readManifest(t).Slot+1_000_000); err != nil {
			t.Fatal(err)
		}
	}
	write(t, filepath.Join(dir, "tone.html"), page("second", 3_000_000))
	before := s.published("/tone-os.iso")
	for name, args := range clients {
		must(t, name, append(args, s.url("/os?piece=tone"))...)
		got, err := os.ReadFile(filepath.Join(out, name))
		if err != nil || !bytes.Equal(got, whole[name]) {
			t.Errorf("%s: %d bytes, began with %d (%v); equal to the new image: %v", name, len(got), len(whole[name]), err, digest(got) == before)
		}
	}
}

// TestOSDensity: for another density the oven packs another image. A piece that the oven does not
// pack has one image.
func TestOSDensity(t *testing.T) {
	t.Parallel()
	o := newOven(t, map[string]http.HandlerFunc{"piece=tone": func(w http.ResponseWriter, r *http.Request) {
		baked(page("density "+r.URL.Query().Get("density"), 1000))(w, r)
	}})
	s := serve(t, "--oven", o.URL, "--density", "6")
	at := func(query string) string {
		resp, body := s.get("/os?" + query)
		if resp.StatusCode != http.StatusFound {
			t.Fatalf("%s: %s %s", query, resp.Status, body)
		}
		u, err := url.Parse(resp.Header.Get("Location"))
		if err != nil {
			t.Fatal(err)
		}
		return u.Path
	}
	if at("piece=notepat") != at("piece=notepat&density=3") {
		t.Error("an embedded piece has an image for each density")
	}
	usual, three := at("piece=tone"), at("piece=tone&density=3")
	if usual != at("piece=tone&density=6") || usual == three {
		t.Errorf("by default %s, at 3 %s", usual, three)
	}
	for path, want := range map[string]string{usual: "density 6", three: "density 3", "/tone-os.iso": "density 6"} {
		if _, body := s.get(path); !bytes.Contains(body, []byte("<title>"+want+"</title>")) {
			t.Errorf("%s is not of %s", path, want)
		}
	}
	if n := len(o.requests()); n != 2 {
		t.Errorf("the oven got %d requests", n)
	}
	var status struct {
		MaxConcurrent int
		RecentBuilds  []struct {
			Target, CDNURL string
			Density        int
			IsJSPiece      bool
		}
		BaseImageURL string
	}
	_, body := s.get("/os-status")
	if err := json.Unmarshal(body, &status); err != nil || len(status.RecentBuilds) < 3 || status.MaxConcurrent < 1 || status.BaseImageURL != "" {
		t.Fatalf("/os-status: %s (%v)", body, err)
	}
	if b := status.RecentBuilds[0]; b.Target != "tone" || b.Density != 3 || !b.IsJSPiece || b.CDNURL != s.url(three) {
		t.Errorf("the last build: %+v", b)
	}
	if strings.Contains(string(body), baseDir) {
		t.Error("/os-status tells a path of the machine")
	}
}

func TestOSElsewhere(t *testing.T) {
	t.Parallel()
	s := serve(t, "--public-url", "https://images.example/")
	resp, _ := s.get("/api/os?piece=notepat")
	if at := resp.Header.Get("Location"); !strings.HasPrefix(at, "https://images.example/s/") {
		t.Errorf("Location: %q", at)
	}
	events := s.events("/api/os?piece=notepat&format=stream")
	if at := fmt.Sprint(events[len(events)-1].data["downloadUrl"]); at != resp.Header.Get("Location") {
		t.Errorf("downloadUrl: %q, Location: %q", at, resp.Header.Get("Location"))
	}
}

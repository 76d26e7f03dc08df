package nginx

import (
	"encoding/json"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"aesthetic.computer/isofs/integration/testkit"
)

// Every way to request an image, in both profiles, directly and by way of the API.
func TestImage(t *testing.T) {
	for _, profile := range []Profile{Direct, PageCache} {
		t.Run(string(profile), func(t *testing.T) {
			r := newRig(t, func(c *Config) { c.Profile = profile })
			first := r.do("HEAD", image)
			etag, modified := first.Header.Get("ETag"), first.Header.Get("Last-Modified")
			if etag == "" || strings.Contains(etag, "API") || strings.Contains(modified, "1970") {
				t.Fatalf("validators %q and %q are not the file's", etag, modified)
			}
			tests := []struct {
				method  string
				headers []string
				status  int
				want    string // body
				length  int64
				ranges  string // Content-Range
			}{
				{"HEAD", nil, 200, "", 40, ""},
				{"GET", nil, 200, body, 40, ""},
				{"GET", []string{"Range: bytes=0-"}, 206, body, 40, "bytes 0-39/40"},
				{"HEAD", []string{"Range: bytes=0-"}, 206, "", 40, "bytes 0-39/40"},
				{"GET", []string{"Range: bytes=0-0"}, 206, "t", 1, "bytes 0-0/40"},
				{"GET", []string{"Range: bytes=36-"}, 206, "ine.", 4, "bytes 36-39/40"},
				{"GET", []string{"Range: bytes=-4"}, 206, "ine.", 4, "bytes 36-39/40"},
				{"GET", []string{"Range: bytes=-400"}, 206, body, 40, "bytes 0-39/40"},
				{"GET", []string{"Range: bytes=36-262144"}, 206, "ine.", 4, "bytes 36-39/40"},
				{"GET", []string{"Range: bytes=40-"}, 416, "*", -1, "bytes */40"},
				{"GET", []string{"Range: bytes=99-100"}, 416, "*", -1, "bytes */40"},
				{"GET", []string{"Range: lines=1-2"}, 200, body, 40, ""},
				{"GET", []string{"Range: bytes=36-", "If-Range: " + etag}, 206, "ine.", 4, "bytes 36-39/40"},
				{"GET", []string{"Range: bytes=36-", "If-Range: " + modified}, 206, "ine.", 4, "bytes 36-39/40"},
				{"GET", []string{"Range: bytes=36-", `If-Range: "stale"`}, 200, body, 40, ""},
				{"GET", []string{"Range: bytes=36-", "If-Range: W/" + etag}, 200, body, 40, ""},
				{"GET", []string{"Range: bytes=36-", "If-Range: Thu, 01 Jan 1970 00:00:00 GMT"}, 200, body, 40, ""},
				{"GET", []string{"If-None-Match: " + etag}, 304, "", -1, ""},
				{"GET", []string{"If-None-Match: " + etag, "Range: bytes=0-"}, 304, "", -1, ""},
				{"GET", []string{`If-None-Match: "stale"`}, 200, body, 40, ""},
				{"GET", []string{"If-Modified-Since: " + modified}, 304, "", -1, ""},
				{"GET", []string{"If-Match: \"stale\""}, 412, "*", -1, ""},
			}
			for _, target := range []string{image, "/notepat-os.iso"} {
				for _, tt := range tests {
					name := fmt.Sprintf("%s %s %q", tt.method, target, tt.headers)
					got := r.do(tt.method, target, tt.headers...)
					if got.StatusCode != tt.status || got.err != nil {
						t.Errorf("%s: status %d (%v), want %d", name, got.StatusCode, got.err, tt.status)
					}
					if tt.want != "*" && got.body != tt.want {
						t.Errorf("%s: body %q, want %q", name, got.body, tt.want)
					}
					if tt.length >= 0 && got.ContentLength != tt.length {
						t.Errorf("%s: length %d, want %d", name, got.ContentLength, tt.length)
					}
					if got.Header.Get("Content-Range") != tt.ranges {
						t.Errorf("%s: Content-Range %q, want %q", name, got.Header.Get("Content-Range"), tt.ranges)
					}
					if a := got.Header.Values("Accept-Ranges"); tt.status == 200 && (len(a) != 1 || a[0] != "bytes") {
						t.Errorf("%s: Accept-Ranges %q", name, a)
					}
				}
			}
		})
	}
}

func TestManyRanges(t *testing.T) {
	r := newRig(t, nil)
	for _, target := range []string{image, "/notepat-os.iso"} {
		got := r.do("GET", target, "Range: bytes=0-2,4-8,-4")
		kind, parameters, _ := mime.ParseMediaType(got.Header.Get("Content-Type"))
		if got.StatusCode != 206 || kind != "multipart/byteranges" {
			t.Fatalf("%s: %d %s", target, got.StatusCode, kind)
		}
		parts := multipart.NewReader(strings.NewReader(got.body), parameters["boundary"])
		for _, want := range []string{"the", "bytes", "ine."} {
			part, err := parts.NextPart()
			if err != nil {
				t.Fatal(err)
			}
			if b, _ := io.ReadAll(part); string(b) != want || !strings.HasSuffix(part.Header.Get("Content-Range"), "/40") {
				t.Errorf("%s: part %q %v, want %q", target, b, part.Header, want)
			}
		}
	}
	// The number of ranges is bounded: with one more, it is the whole file.
	for n, want := range map[int]int{200: 206, 201: 200} {
		list := strings.TrimSuffix(strings.Repeat("0-0,", n), ",")
		if got := r.do("GET", big, "Range: bytes="+list); got.StatusCode != want {
			t.Errorf("%d ranges: status %d, want %d", n, got.StatusCode, want)
		}
	}
}

// TestETagFollowsTime: two images of one size have different ETags, since they
// have different times.
func TestETagFollowsTime(t *testing.T) {
	r := newRig(t, nil)
	same, err := os.ReadFile(r.path("notepat-os.iso"))
	if err != nil {
		t.Fatal(err)
	}
	write(t, r.path("again-os.iso"), string(same))
	then := time.Unix(1_000_000_000, 0)
	if err := os.Chtimes(r.path("again-os.iso"), then, then); err != nil {
		t.Fatal(err)
	}
	one := r.do("HEAD", image, "Range: bytes=0-").Header.Get("ETag")
	if other := r.do("HEAD", "/s/"+id+"/again-os.iso", "Range: bytes=0-").Header.Get("ETag"); other == one || other == "" {
		t.Errorf("the ETag of one is %q, that of an image of another time %q", one, other)
	}
}

// Which headers a client sees, and whether nginx asked the API.
func TestHeaders(t *testing.T) {
	r := newRig(t, nil)
	const nothing = ""
	fromAPI := map[string]string{
		"Content-Type": "application/octet-stream", "Content-Disposition": `attachment; filename="notepat-os.iso"`,
		"Cache-Control": "no-cache", "Digest": "SHA-256=abc=", "Repr-Digest": "sha-256=:abc=:",
		"Link": "<" + image + `>; rel="canonical"`, "Vary": "X-Real-IP", "Access-Control-Allow-Origin": "*",
		"Access-Control-Expose-Headers": "Digest", "X-Isofs-Snapshot": id, "X-Isofs-Piece": nothing, "Server": "nginx",
	}
	sidecar := map[string]string{"Content-Type": "text/plain", "Content-Disposition": nothing, "Cache-Control": "public, max-age=3600", "X-Content-Type-Options": "nosniff"}
	direct := func(name string) map[string]string {
		return map[string]string{
			"Content-Type": "application/octet-stream", "Content-Disposition": `attachment; filename="` + name + `"`,
			"Cache-Control": "public, max-age=31536000, immutable", "Access-Control-Allow-Origin": "*",
			"Access-Control-Expose-Headers": "Accept-Ranges, Content-Disposition, Content-Length, Content-Range, ETag", "Digest": nothing, "Link": nothing, "Server": "nginx",
		}
	}
	tests := []struct {
		target, extra string
		asked         bool
		want          map[string]string
	}{
		{image, "X-None: 1", true, fromAPI},
		{"/notepat-os.iso", "X-None: 1", true, fromAPI},
		{"/notepat-os.iso", "Range: bytes=3-5", true, fromAPI},
		{image, "Range: bytes=3-5", false, direct("notepat-os.iso")},
		{"/s/" + id + "/$39j-os.iso", "Range: bytes=3-5", false, direct("$39j-os.iso")},
		{"/s/" + id + "/%2439j-os.iso", "Range: bytes=3-5", false, direct("$39j-os.iso")},
		{"/s/" + id + "/notepat-piece.img", "Range: bytes=3-5", false, direct("notepat-piece.img")},
		{"/s/" + id + "/notepat-piece.img.sha256", "X-None: 1", false, sidecar},
		{image + ".sha256", "X-None: 1", false, sidecar},
		{image + ".sha256", "Range: bytes=0-2", false, sidecar},
		{image + ".bmap.asc", "X-None: 1", false, sidecar},
		{image + ".zsync", "X-None: 1", false, map[string]string{"Content-Type": "application/x-zsync"}},
	}
	for _, tt := range tests {
		for _, method := range []string{"GET", "HEAD"} {
			r.requests()
			got := r.do(method, tt.target, tt.extra)
			if got.StatusCode != 200 && got.StatusCode != 206 {
				t.Errorf("%s %s: status %d", method, tt.target, got.StatusCode)
			}
			if asked := len(r.requests()); (asked > 0) != tt.asked || asked > 1 {
				t.Errorf("%s %s %s: the API was asked %d times", method, tt.target, tt.extra, asked)
			}
			for name, want := range tt.want {
				if v := got.Header.Values(name); len(v) > 1 || got.Header.Get(name) != want {
					t.Errorf("%s %s %s: %s is %q, want %q", method, tt.target, tt.extra, name, v, want)
				}
			}
		}
	}
}

// A sidecar by X-Accel-Redirect is typed by its suffix unless the API sends a type.
func TestSidecarByPlainName(t *testing.T) {
	r := newRig(t, nil)
	r.handler = func(w http.ResponseWriter, q *http.Request) {
		w.Header().Set("X-Accel-Redirect", "/_mount/"+id+q.URL.Path)
	}
	for name, want := range map[string]string{"/notepat-os.iso.sha256": "text/plain", "/notepat-os.iso.zsync": "application/x-zsync", "/notepat-os.iso": "application/octet-stream", "/notepat-piece.img": "application/octet-stream"} {
		got := r.do("GET", name)
		if got.StatusCode != 200 || got.Header.Get("Content-Type") != want {
			t.Errorf("%s: %d %q, want %q", name, got.StatusCode, got.Header.Get("Content-Type"), want)
		}
		attached := strings.HasSuffix(name, ".iso") || strings.HasSuffix(name, ".img")
		if d := got.Header.Get("Content-Disposition"); (d == `attachment; filename="`+name[1:]+`"`) != attached {
			t.Errorf("%s: Content-Disposition is %q", name, d)
		}
		for _, absent := range []string{"Digest", "Link", "Vary", "Cache-Control"} {
			if v, ok := got.Header[absent]; ok {
				t.Errorf("%s: %s is %q though the API said nothing", name, absent, v)
			}
		}
	}
}

// What the API gets, whatever the client claims.
func TestWhatTheAPISees(t *testing.T) {
	spoofed := []string{
		"X-Real-IP: 6.6.6.6", "X-Forwarded-For: 6.6.6.6", "X-Forwarded-Proto: gopher", "X-Forwarded-Host: evil.test", "Forwarded: for=6.6.6.6",
		"X-Accel-Redirect: /_mount/" + id + "/notepat-os.iso", "X-Accel-Buffering: no", "X-Accel-Limit-Rate: 1", "X-Isofs-Piece: evil",
		"Range: bytes=1-", `If-Range: "e"`, `If-None-Match: "n"`, "User-Agent: tester", "Want-Digest: SHA-256",
	}
	kept := map[string]string{"Range": "bytes=1-", "If-Range": `"e"`, "If-None-Match": `"n"`, "User-Agent": "tester", "Want-Digest": "SHA-256"}
	tests := []struct {
		name    string
		proxies []string
		want    map[string]string
	}{
		{"no proxy is trusted", nil, map[string]string{"X-Real-Ip": "127.0.0.1", "X-Forwarded-For": "127.0.0.1", "X-Forwarded-Proto": "http"}},
		{"another proxy is trusted", []string{"10.0.0.0/8"}, map[string]string{"X-Real-Ip": "127.0.0.1", "X-Forwarded-For": "127.0.0.1", "X-Forwarded-Proto": "http"}},
		{"this proxy is trusted", []string{"127.0.0.1", "fd00::/8"}, map[string]string{"X-Real-Ip": "6.6.6.6", "X-Forwarded-For": "6.6.6.6", "X-Forwarded-Proto": "http"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := newRig(t, func(c *Config) { c.TrustedProxies = tt.proxies })
			got := r.do("GET", "/no%2Fthing/x?a=b%20c", spoofed...)
			if got.StatusCode != 404 || got.body != "no such thing: /no%2Fthing/x?a=b%20c\n" {
				t.Errorf("answer %d %q", got.StatusCode, got.body)
			}
			asked := r.requests()
			if len(asked) != 1 {
				t.Fatalf("the API was asked %d times", len(asked))
			}
			h := asked[0].Header
			for name, want := range kept {
				tt.want[name] = want
			}
			for _, removed := range []string{"X-Forwarded-Host", "Forwarded", "X-Accel-Redirect", "X-Accel-Buffering", "X-Accel-Limit-Rate", "X-Isofs-Piece", "Connection"} {
				tt.want[removed] = ""
			}
			for name, want := range tt.want {
				if h.Get(name) != want {
					t.Errorf("%s is %q, want %q", name, h.Values(name), want)
				}
			}
			if asked[0].Host != "isofs.test" {
				t.Errorf("Host is %q", asked[0].Host)
			}
			if tt.proxies != nil {
				r.do("GET", "/x", "X-Forwarded-Proto: https", "X-Forwarded-For: 9.9.9.9, 7.7.7.7, fd00::1")
				h := r.requests()[0].Header
				proto, client := h.Get("X-Forwarded-Proto"), h.Get("X-Real-IP")
				if trusted := tt.proxies[0] == "127.0.0.1"; (proto == "https") != trusted || (client == "7.7.7.7") != trusted {
					t.Errorf("X-Forwarded-Proto is %q, the client %q, trusted: %v", proto, client, trusted)
				}
			}
		})
	}
}

// Everything that must not be found, and the spellings of attackers.
func TestRefused(t *testing.T) {
	r := newRig(t, nil)
	write(t, filepath.Join(r.config.Mount, "secret"), "HIDDEN")
	write(t, filepath.Join(filepath.Dir(r.config.Mount), "secret-os.iso"), "HIDDEN")
	const ranged = "Range: bytes=0-"
	tests := []struct {
		target, extra string
		status        int
		text          string // in the body
	}{
		{"/s/" + other + "/notepat-os.iso", ranged, 404, "no such thing: /s/" + other},
		{"/s/" + other + "/notepat-os.iso", "X-None: 1", 404, "no such thing: /s/" + other},
		{"/s/" + id + "/absent-os.iso", ranged, 404, "no such piece: /s/"},
		{image + ".absent", "X-None: 1", 404, "no such piece: /s/"},
		{image + "%0a", ranged, 404, "no such"},
		{image + "/x", ranged, 404, "no such"},
		{"/s/" + strings.ToUpper(id) + "/notepat-os.iso", ranged, 404, "no such"},
		{"/s/" + id[1:] + "/notepat-os.iso", ranged, 404, "no such"},
		{"/_mount/" + id + "/notepat-os.iso", "X-None: 1", 404, "no such thing: /_mount/"},
		{"/_mount/" + id + "/notepat-os.iso", ranged, 404, "no such thing: /_mount/"},
		{"//_mount//" + id + "/notepat-os.iso", ranged, 404, "no such"},
		{"/%5fmount/" + id + "/notepat-os.iso", ranged, 404, "no such"},
		{"/x/../_mount/" + id + "/notepat-os.iso", ranged, 404, "no such"},
		{"/@isofs-api", "X-None: 1", 404, "no such"},
		{"/s/../secret", ranged, 404, "no such"},
		{"/s/" + id + "/../../secret", ranged, 404, "no such"},
		{"/s/" + id + "/../../../secret-os.iso", ranged, 400, ""},
		{"/s/%2e%2e/secret", ranged, 404, "no such"},
		{"/s/" + id + "/%2e%2e%2f%2e%2e%2f%2e%2e%2fsecret-os.iso", ranged, 400, ""},
		{"/s/" + id + "/..%5c..%5csecret-os.iso", ranged, 404, "no such"},
		{"/../../../../etc/passwd", ranged, 400, ""},
		{"/s/" + id + "/a%00b-os.iso", ranged, 400, ""},
		{"http://isofs.test/s/../../etc/passwd", ranged, 400, ""},
	}
	for _, tt := range tests {
		got := r.do("GET", tt.target, tt.extra)
		if got.StatusCode != tt.status || !strings.Contains(got.body, tt.text) || strings.Contains(got.body, "HIDDEN") || got.body == body {
			t.Errorf("%s %s: %d %q, want %d %q", tt.target, tt.extra, got.StatusCode, got.body, tt.status, tt.text)
		}
	}
	// Surplus slashes, and dots that lead nowhere, are forgiven.
	for _, target := range []string{"//s//" + id + "///notepat-os.iso", "/s/./" + id + "/x/../notepat-os.iso", "/s/" + id + "/note%70at-os.iso"} {
		if got := r.do("GET", target, ranged); got.StatusCode != 206 || got.body != body {
			t.Errorf("%s: %d %q", target, got.StatusCode, got.body)
		}
	}
}

func TestMethods(t *testing.T) {
	r := newRig(t, nil)
	for _, target := range []string{"/os", image, image + ".sha256"} {
		for _, method := range []string{"PUT", "DELETE", "PATCH", "PROPFIND"} {
			got := r.do(method, target, "Range: bytes=0-")
			if got.StatusCode != 405 || got.Header.Get("Allow") == "" || !strings.Contains(got.body, "Only GET") {
				t.Errorf("%s %s: %d %v %q", method, target, got.StatusCode, got.Header, got.body)
			}
		}
		if got := r.do("POST", target, "Range: bytes=0-", "Content-Length: 0"); got.body != "posted 0 <nil>" {
			t.Errorf("POST %s: %d %q", target, got.StatusCode, got.body)
		}
	}
	if n := len(r.requests()); n != 3 {
		t.Errorf("%d requests reached the API, want the POSTs", n)
	}
	for size, want := range map[int]int{64 << 10: 200, 64<<10 + 1: 413} {
		response, err := http.Post("http://"+r.addr+"/os", "text/plain", strings.NewReader(strings.Repeat("x", size)))
		if err != nil {
			t.Fatal(err)
		}
		response.Body.Close()
		if response.StatusCode != want {
			t.Errorf("POST of %d bytes: status %d, want %d", size, response.StatusCode, want)
		}
	}
}

// Events arrive one by one: each is sent only when the one before was seen.
// (The first may pass with the header, and the last with the end.)
func TestStream(t *testing.T) {
	r := newRig(t, nil)
	for _, target := range []string{"/os?format=stream", "/api/os?format=stream"} {
		oneByOne(t, r, target)
	}
}

func oneByOne(t *testing.T, r *rig, target string) {
	seen := make(chan struct{})
	events := []string{"event: one\n\n", "event: two\n\n", "event: three\n\n"}
	r.handler = func(w http.ResponseWriter, q *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		w.Header().Set("X-Accel-Buffering", "no")
		w.Header().Set("X-Isofs-Piece", "for the log")
		for _, event := range events {
			io.WriteString(w, event)
			w.(http.Flusher).Flush()
			select {
			case <-seen:
			case <-q.Context().Done():
			}
		}
	}
	conn, response := r.open("GET", target)
	conn.SetDeadline(time.Now().Add(20 * time.Second))
	for _, want := range events {
		got := make([]byte, len(want))
		if _, err := io.ReadFull(response.Body, got); err != nil || string(got) != want {
			t.Fatalf("event %q, want %q: %v", got, want, err)
		}
		seen <- struct{}{}
	}
	if rest, err := io.ReadAll(response.Body); err != nil || len(rest) > 0 {
		t.Errorf("after the last event: %q %v", rest, err)
	}
	if h := response.Header; h.Get("X-Isofs-Piece") != "" || h.Get("X-Accel-Buffering") != "no" || h.Get("Content-Type") != "text/event-stream" {
		t.Errorf("headers %v", h)
	}
}

// zsync speaks HTTP/1.0, perhaps without Host.
func TestHTTP10(t *testing.T) {
	r := newRig(t, nil)
	conn, err := net.Dial("tcp", r.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(time.Minute))
	io.WriteString(conn, "GET /notepat-os.iso HTTP/1.0\r\n\r\n")
	if got, err := io.ReadAll(conn); err != nil || !strings.HasSuffix(string(got), body) {
		t.Errorf("got %q, %v", got, err)
	}
}

func TestAccessLog(t *testing.T) {
	r := newRig(t, nil)
	r.do("GET", image, "Range: bytes=4-8", `User-Agent: a "quoted" \ agent`)
	r.do("GET", "/notepat-os.iso?q=%22")
	r.do("GET", "/none\xff")
	type entry struct {
		Time, Client, Method, URI, Piece, Range, Agent string
		APISeconds                                     string `json:"api_seconds"`
		Status, Bytes                                  int
		Seconds                                        float64
	}
	var text []byte
	testkit.Eventually(t, "three lines in the access log", func() bool {
		text, _ = os.ReadFile(r.config.AccessLog)
		return strings.Count(string(text), "\n") == 3
	})
	var got [3]entry
	for i, line := range strings.SplitAfter(string(text), "\n")[:3] {
		if err := json.Unmarshal([]byte(line), &got[i]); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		if _, err := time.Parse(time.RFC3339, got[i].Time); err != nil || got[i].Client != "127.0.0.1" || got[i].Seconds < 0 {
			t.Errorf("%+v: %v", got[i], err)
		}
		if asked := got[i].APISeconds != ""; asked != (i > 0) {
			t.Errorf("%+v: the API's time is %q", got[i], got[i].APISeconds)
		}
		got[i].Time, got[i].Client, got[i].APISeconds, got[i].Seconds = "", "", "", 0
	}
	want := [3]entry{
		{Method: "GET", URI: image, Piece: "notepat", Status: 206, Bytes: 5, Range: "bytes=4-8", Agent: `a "quoted" \ agent`},
		{Method: "GET", URI: "/notepat-os.iso?q=%22", Piece: "the-piece", Status: 200, Bytes: 40},
		{Method: "GET", URI: "/none\ufffd", Status: 404, Bytes: len("no such piece: /none%FF\n")},
	}
	got[2].Bytes = want[2].Bytes // the fake's wording
	if got != want {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
}

// TestWhatMayHaveToBeFetchedFirst: a range of a snapshot that is not whole here takes
// the way by the API, which can answer that it cannot be read.
func TestWhatMayHaveToBeFetchedFirst(t *testing.T) {
	r := newRig(t, nil)
	const ranged = "Range: bytes=1-2"
	if got := r.do("GET", image, ranged); got.StatusCode != 206 || len(r.requests()) != 0 {
		t.Errorf("what is whole: %d, or the API was asked", got.StatusCode)
	}
	if err := os.Remove(r.path(".whole")); err != nil {
		t.Fatal(err)
	}
	// nginx keeps what it saw for a second.
	testkit.Eventually(t, "the API to be asked", func() bool {
		got := r.do("GET", image, ranged)
		return got.StatusCode == 206 && got.body == body[1:3] && len(r.requests()) == 1
	})
	r.mu.Lock()
	r.handler = func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "not now", http.StatusServiceUnavailable) }
	r.mu.Unlock()
	if got := r.do("GET", image, ranged); got.StatusCode != 503 || got.body != "not now\n" {
		t.Errorf("what cannot be read: %d %q", got.StatusCode, got.body)
	}
}

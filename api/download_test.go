package api

import (
	"encoding/base64"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"aesthetic.computer/isofs/catalog"
	"aesthetic.computer/isofs/extent"
	"aesthetic.computer/isofs/fault"
)

func TestWhichSnapshotARequestGets(t *testing.T) {
	const (
		whole   = "" // the path of the image
		sum     = ".sha256"
		known   = "Wget/1.21" // began the old snapshot
		unknown = "curl/7.88" // is also at another address
	)
	inSlot := fmt.Sprintf("Range: bytes=%d-", slotStart)
	beforeSlot := fmt.Sprintf("Range: bytes=%d-", slotStart-1)
	for _, c := range []struct {
		method, path string
		agent        string
		headers      string // separated by "; "
		want         string // old, new, or a status
	}{
		// A beginning gets the present snapshot.
		{"GET", whole, known, "", "new"},
		{"GET", whole, known, "Range: bytes=0-", "new"},
		{"GET", whole, known, "Range: items=5-", "new"},
		{"GET", whole, known, "Range: bytes=", "new"},
		{"HEAD", whole, known, "", "new"},
		{"HEAD", whole, known, inSlot, "new"},
		{"GET", whole, unknown, "", "new"},
		// A resume without a validator gets the snapshot that the client began.
		{"GET", whole, known, inSlot, "old"},
		{"GET", whole, known, beforeSlot, "old"},
		{"GET", whole, known, "Range: bytes=1-1", "old"},
		{"GET", whole, known, "Range: Bytes=1-", "old"},
		{"GET", whole, known, "Range: bytes= 1 - 5 ", "old"},
		{"GET", whole, known, "Range: bytes=0-5,9-", "old"},
		{"GET", whole, known, "Range: bytes=-5", "old"},
		{"GET", whole, known, fmt.Sprintf("Range: bytes=%d-", baseSize), "old"},
		{"GET", whole, unknown, beforeSlot, "new"},
		{"GET", whole, unknown, inSlot, "412"},
		{"GET", whole, unknown, "Range: bytes=0-5,70000-70001", "412"},
		{"GET", whole, unknown, "Range: bytes=-1", "412"},
		// Requests that may begin a download or continue one.
		{"GET", whole, known, "Range: bytes=0-1023", "old"},
		{"GET", whole, unknown, "Range: bytes=0-1023", "new"},
		{"GET", whole, known, "Range: bytes=5", "old"}, // nginx: 416
		{"GET", sum, known, "", "old"},
		{"HEAD", sum, known, "", "old"},
		{"GET", sum, unknown, "", "new"},
		{"GET", sum, known, "Range: bytes=0-", "old"},
		// A validator decides, for any client.
		{"GET", whole, unknown, inSlot + "; If-Range: OLD-ETAG", "old"},
		{"GET", whole, unknown, inSlot + "; If-Range: NEW-ETAG", "new"},
		{"GET", whole, known, inSlot + "; If-Range: NEW-ETAG", "new"},
		{"GET", whole, unknown, inSlot + "; If-Range: OLD-DATE", "old"},
		{"GET", whole, unknown, inSlot + "; If-Match: OLD-ETAG", "old"},
		{"GET", whole, unknown, inSlot + "; If-Unmodified-Since: OLD-DATE", "old"},
		{"GET", whole, unknown, "Range: bytes=0-5; If-Range: OLD-ETAG", "old"},
		// nginx rejects these, and sends the whole new file.
		{"GET", whole, known, inSlot + "; If-Range: W/OLD-ETAG", "new"},
		{"GET", whole, known, inSlot + `; If-Range: "0-0"`, "new"},
		{"GET", whole, known, inSlot + "; If-Range: garbage", "new"},
		{"GET", whole, known, inSlot + "; If-Range: Sun, 06 Nov 1994 08:49:37 GMT", "new"},
		// And these name no image.
		{"GET", whole, known, inSlot + "; If-Match: *", "old"},
		{"GET", whole, known, inSlot + "; If-None-Match: NEW-ETAG", "old"},
		{"GET", whole, known, "If-Range: OLD-ETAG", "new"},
		{"GET", whole, known, "Range: bytes=0-; If-Range: OLD-ETAG", "new"},
	} {
		r := newRig(t, catalog.Limits{})
		snapshots := map[string]*catalog.Snapshot{"old": r.current("notepat", 0)}
		if got := r.ask("GET", "/notepat-os.iso", "User-Agent: "+known); got.Code != 200 {
			t.Fatal(got)
		}
		snapshots["new"] = r.current("notepat", 1)
		headers := []string{"User-Agent: " + c.agent}
		if c.agent == unknown {
			headers = append(headers, "X-Real-IP: 198.51.100.7")
		}
		if c.headers != "" {
			list := strings.NewReplacer(
				"OLD-ETAG", etag(snapshots["old"]), "NEW-ETAG", etag(snapshots["new"]),
				"OLD-DATE", snapshots["old"].Time().Format(http.TimeFormat),
			).Replace(c.headers)
			headers = append(headers, strings.Split(list, "; ")...)
		}
		got := r.ask(c.method, "/notepat-os.iso"+c.path, headers...)
		row := fmt.Sprintf("%s %s of %s with %q", c.method, c.path, c.agent, c.headers)
		if s := snapshots[c.want]; s == nil {
			if fmt.Sprint(got.Code) != c.want {
				t.Errorf("%s: %d, want %s", row, got.Code, c.want)
			}
		} else if want := "/_mount/" + s.ID() + "/notepat-os.iso" + c.path; got.Code != 200 || got.Header().Get("X-Accel-Redirect") != want {
			t.Errorf("%s: %d, %q, want the %s one, %q", row, got.Code, got.Header().Get("X-Accel-Redirect"), c.want, want)
		}
	}
}

// A short range at the start may begin a new download. So it gets the current
// image even where the client's image is lost and a resume is refused.
func TestAProbeWhenTheImageIsLost(t *testing.T) {
	r := newRig(t, catalog.Limits{})
	old := r.current("notepat", 0)
	r.ask("HEAD", "/notepat-os.iso") // HEAD does not open the image
	current := r.current("notepat", 1)
	if err := os.Remove(filepath.Join(r.dir, "bundles", old.Bundle().String()+".html")); err != nil {
		t.Fatal(err)
	}
	if _, err := old.Open(); err == nil {
		t.Fatal("an image without its bundle opens")
	}
	if got := r.ask("GET", "/notepat-os.iso", "Range: bytes=1-"); got.Code != 412 {
		t.Errorf("a resume: %d", got.Code)
	}
	for _, header := range []string{"Range: bytes=0-1023", "Range: bytes=1-"} {
		if got := r.ask("GET", "/notepat-os.iso", header); got.Code != 200 || got.Header().Get("X-Isofs-Snapshot") != current.ID() {
			t.Errorf("then %s: %d, snapshot %s", header, got.Code, got.Header().Get("X-Isofs-Snapshot"))
		}
	}
}

func TestHeadersOfAnImage(t *testing.T) {
	r := newRig(t, catalog.Limits{})
	s := r.current("notepat", 0)
	sum := s.SHA256()
	digest := base64.StdEncoding.EncodeToString(sum[:])
	unique := "/s/" + s.ID() + "/notepat-os.iso"
	for path, caching := range map[string]string{"/notepat-os.iso": "no-cache", unique: "public, max-age=31536000, immutable"} {
		for _, method := range []string{"GET", "HEAD"} {
			got := r.ask(method, path)
			for key, want := range map[string]string{
				"X-Accel-Redirect": "/_mount/" + s.ID() + "/notepat-os.iso",
				"Digest":           "SHA-256=" + digest,
				"Repr-Digest":      "sha-256=:" + digest + ":",
				"Content-Type":     "application/octet-stream",
				// nginx sets it, see hand.
				"Content-Disposition":         "",
				"Cache-Control":               caching,
				"Link":                        "<" + unique + `>; rel="canonical", <` + unique + `.sha256>; rel="describedby"`,
				"X-Isofs-Piece":               "notepat",
				"X-Isofs-Snapshot":            s.ID(),
				"Access-Control-Allow-Origin": "*",
			} {
				if got.Header().Get(key) != want {
					t.Errorf("%s %s: %s is %q, want %q", method, path, key, got.Header().Get(key), want)
				}
			}
			if got.Code != 200 || got.Body.Len() != 0 {
				t.Errorf("%s %s: %d with %d bytes", method, path, got.Code, got.Body.Len())
			}
			if !strings.Contains(got.Header().Get("Access-Control-Expose-Headers"), "Content-Range") {
				t.Errorf("%s %s: a page elsewhere cannot see Content-Range", method, path)
			}
		}
	}
}

func TestHeadersOfASidecar(t *testing.T) {
	r := newRig(t, catalog.Limits{})
	s := r.current("notepat", 0)
	for _, path := range []string{"/notepat-os.iso.sha256", "/s/" + s.ID() + "/notepat-os.iso.sha256"} {
		h := r.ask("GET", path).Header()
		if want := "/_mount/" + s.ID() + "/notepat-os.iso.sha256"; h.Get("X-Accel-Redirect") != want {
			t.Errorf("%s: %q, want %q", path, h.Get("X-Accel-Redirect"), want)
		}
		if h.Get("Digest") != "" || h.Get("Content-Disposition") != "" || h.Get("Content-Type") != "" {
			t.Errorf("%s has headers of the image: %v", path, h)
		}
	}
}

// The slot is a file too, with its own digest.
func TestSlotAlone(t *testing.T) {
	r := newRig(t, catalog.Limits{})
	old := r.current("notepat", 0)
	sum, err := old.Slot().SHA256()
	if err != nil {
		t.Fatal(err)
	}
	if sum == old.SHA256() {
		t.Fatal("the slot has the digest of the image")
	}
	digest := "SHA-256=" + base64.StdEncoding.EncodeToString(sum[:])
	link := "</s/" + old.ID() + `/notepat-piece.img>; rel="canonical", </s/` + old.ID() + `/notepat-piece.img.sha256>; rel="describedby"`
	for path, caching := range map[string]string{"/notepat-piece.img": "no-cache", "/s/" + old.ID() + "/notepat-piece.img": "public, max-age=31536000, immutable"} {
		h := r.ask("GET", path).Header()
		for key, want := range map[string]string{
			"X-Accel-Redirect": "/_mount/" + old.ID() + "/notepat-piece.img", "Digest": digest, "Link": link,
			"Cache-Control": caching, "X-Isofs-Snapshot": old.ID(), "Content-Type": "application/octet-stream",
		} {
			if h.Get(key) != want {
				t.Errorf("%s: %s is %q, want %q", path, key, h.Get(key), want)
			}
		}
	}
	current := r.current("notepat", 1)
	tag := fmt.Sprintf(`"%x-%x"`, old.Time().Unix(), int64(slotSize))
	for _, c := range []struct {
		path, headers string
		want          string // a snapshot's id, or a status
	}{
		{"/notepat-piece.img", "", current.ID()},
		{"/notepat-piece.img", "Range: bytes=0-", current.ID()},
		{"/notepat-piece.img.sha256", "", current.ID()},
		{"/notepat-piece.img", "Range: bytes=5-", "412"},
		{"/notepat-piece.img", "Range: bytes=5-; If-Range: " + tag, old.ID()},
		{"/notepat-piece.img", `Range: bytes=5-; If-Range: "1-1"`, current.ID()}, // nginx sends the whole file
		{"/s/" + old.ID() + "/other-piece.img", "", "404"},
		{"/s/" + old.ID() + "/notepat-piece.img.zip", "", "404"},
		{"/-x-piece.img", "", "400"},
		{"/-piece.img", "", "400"},
		{"/nobody-piece.img", "", "404"},
	} {
		var headers []string
		if c.headers != "" {
			headers = strings.Split(c.headers, "; ")
		}
		got := r.ask("GET", c.path, headers...)
		if id := got.Header().Get("X-Isofs-Snapshot"); id != c.want && fmt.Sprint(got.Code) != c.want {
			t.Errorf("%s with %q: %d, snapshot %q, want %s", c.path, c.headers, got.Code, id, c.want)
		}
	}
}

// X-Accel-Redirect has a safe path for every piece.
func TestNamesOfPieces(t *testing.T) {
	r := newRig(t, catalog.Limits{})
	for piece, file := range map[string]string{
		"@jeffrey/tone": "at.jeffrey.tone-os.iso", "$39j": "kidlisp.39j-os.iso", "-x": "piece.-x-os.iso", "Tone": "Tone-os.iso",
	} {
		s := r.current(piece, 0)
		got := r.ask("GET", "/"+file)
		if want := "/_mount/" + s.ID() + "/" + file; got.Code != 200 || got.Header().Get("X-Accel-Redirect") != want {
			t.Errorf("%s: %d, %q, want %q", piece, got.Code, got.Header().Get("X-Accel-Redirect"), want)
		}
	}
}

func TestClients(t *testing.T) {
	for address, want := range map[string]string{
		"192.0.2.1":                   "192.0.2.1",
		"::ffff:192.0.2.1":            "192.0.2.1",
		"2001:db8:1:2:3:4:5:6":        "2001:db8:1:2::",
		"2001:db8:1:2:ffff::1":        "2001:db8:1:2::",
		"fe80::1%eth0":                "fe80::",
		"unix:":                       "unix:",
		"":                            "",
		"not an address\x00 whatever": "not an address\x00 whatever",
	} {
		r := &http.Request{Header: http.Header{"X-Real-Ip": {address}, "User-Agent": {"x"}}}
		if got := clientOf(r); got != (catalog.Client{Address: want, Agent: "x"}) {
			t.Errorf("%q is %v, want %q", address, got, want)
		}
	}
}

// torn is a base that cannot be read from 1000 to 2000.
type torn struct{ extent.Source }

func (s torn) ReadAt(p []byte, off int64) (int, error) {
	if off < 2000 && off+int64(len(p)) > 1000 {
		n := max(0, 1000-off)
		_, _ = s.Source.ReadAt(p[:n], off)
		return int(n), fmt.Errorf("fetch bytes of http://10.0.0.1/secret: %w", fault.Unavailable)
	}
	return s.Source.ReadAt(p, off)
}

// TestTheFirstByteCanBeRead: where nginx could only close the connection, the
// answer is an error's text. It holds for any first byte.
func TestTheFirstByteCanBeRead(t *testing.T) {
	r := newRig(t, catalog.Limits{})
	r.config.Base.Bytes = torn{r.config.Base.Bytes}
	r.reopen()
	s := r.current("notepat", 0)
	r.ask("HEAD", "/notepat-os.iso") // any client that began may continue in the slot
	for _, path := range []string{"/notepat-os.iso", "/s/" + s.ID() + "/notepat-os.iso"} {
		for header, want := range map[string]int{
			"": 200, "bytes=0-": 200, "bytes=999-": 200, "bytes=1000-": 503, "bytes=1500-1600": 503, "bytes=1999-": 503, "bytes=2000-": 200,
			"bytes=1500-1501,0-1": 503, "bytes=-5": 200, fmt.Sprintf("bytes=-%d", baseSize-1500): 503, fmt.Sprintf("bytes=%d-", baseSize): 200, "bytes=x": 200,
		} {
			for condition, as := range map[string]int{"X-None: 1": want, "If-Range: " + etag(s): want, `If-Range: "0-0"`: 200} {
				got := r.ask("GET", path, "Range: "+header, condition)
				if got.Code != as || as == 503 && (got.Header().Get("Retry-After") == "" || strings.Contains(got.Body.String(), "secret")) {
					t.Errorf("%s of %s with %s: %d %v %q, want %d", header, path, condition, got.Code, got.Header(), got.Body, as)
				}
			}
			if got := r.ask("HEAD", path, "Range: "+header); got.Code != 200 {
				t.Errorf("HEAD with %s: %d", header, got.Code)
			}
		}
	}
	if got := r.ask("GET", "/notepat-piece.img"); got.Code != 200 {
		t.Errorf("the slot, which can be read: %d", got.Code)
	}
	if !strings.Contains(r.log.String(), "http://10.0.0.1/secret") {
		t.Error("the log does not say why")
	}
}

package integration

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"mime"
	"mime/multipart"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
)

const (
	rangeClients   = 16
	rangesInAll    = 1000
	rangesAtOnce   = 3       // in a request with several
	maxRangeLength = 2 << 20 // bytes
)

// TestRanges requests random ranges from many clients at once. It compares every byte with a file
// that isofs pack wrote.
func TestRanges(t *testing.T) {
	t.Parallel()
	for _, profile := range []string{"direct", "page-cache"} {
		t.Run(profile, func(t *testing.T) {
			t.Parallel()
			from := pieces(t, nil)
			publish(t, from, "demo", unlike(1, 7<<20+1), 1)
			want, err := os.ReadFile(pack(t, "demo", from))
			if err != nil {
				t.Fatal(err)
			}
			s := serve(t, "--profile", profile, "--pieces", from)
			paths := []string{"/demo-os.iso", "/s/" + s.snapshot("demo") + "/demo-os.iso"}
			var wg sync.WaitGroup
			for i := range rangeClients {
				wg.Go(func() {
					// The seeds are fixed, so a failure can be repeated.
					r := rand.New(rand.NewPCG(uint64(i), 7))
					c := &rangeClient{t: t, s: s, want: want, agent: fmt.Sprintf("reader %d", i%4)}
					c.head(paths[i%2])
					for range rangesInAll / rangeClients / 2 {
						c.check(r, paths[i%2])
					}
				})
			}
			wg.Wait()
		})
	}
}

// A rangeClient is one of many clients in goroutines, so it reports by Errorf.
type rangeClient struct {
	t     *testing.T
	s     *server
	want  []byte
	agent string
}

// A span is a run of bytes of the image. It ends before the byte end.
type span struct{ first, end int64 }

// check requests a random range in a random form.
func (c *rangeClient) check(r *rand.Rand, path string) {
	size := int64(len(c.want))
	switch r.IntN(8) {
	case 0: // a number of bytes at the end
		n := 1 + r.Int64N(maxRangeLength)
		c.one(path, fmt.Sprintf("bytes=-%d", n), span{size - n, size})
	case 1: // QEMU and nbdkit request more than there is
		a := size - 1 - r.Int64N(maxRangeLength)
		c.one(path, fmt.Sprintf("bytes=%d-%d", a, size+r.Int64N(1<<40)), span{a, size})
	case 2: // to the end
		a := size - 1 - r.Int64N(maxRangeLength)
		c.one(path, fmt.Sprintf("bytes=%d-", a), span{a, size})
	case 3: // wholly beyond the end
		resp, _ := c.get(path, fmt.Sprintf("bytes=%d-", size+r.Int64N(1<<40)))
		if resp.StatusCode != http.StatusRequestedRangeNotSatisfiable ||
			resp.Header.Get("Content-Range") != fmt.Sprintf("bytes */%d", size) {
			c.t.Errorf("past the end of %s: %s, Content-Range %q", path, resp.Status, resp.Header.Get("Content-Range"))
		}
	case 4:
		c.several(r, path)
	default:
		a := r.Int64N(size)
		b := min(a+1+r.Int64N(maxRangeLength), size)
		c.one(path, fmt.Sprintf("bytes=%d-%d", a, b-1), span{a, b})
	}
}

func (c *rangeClient) head(path string) {
	resp, body := c.do(http.MethodHead, path)
	if resp.StatusCode != http.StatusOK || resp.ContentLength != int64(len(c.want)) || resp.Header.Get("Accept-Ranges") != "bytes" || len(body) > 0 {
		c.t.Errorf("HEAD %s: %s, Content-Length %d, Accept-Ranges %q, %d bytes",
			path, resp.Status, resp.ContentLength, resp.Header.Get("Accept-Ranges"), len(body))
	}
}

func (c *rangeClient) one(path, ask string, at span) {
	resp, body := c.get(path, ask)
	c.compare(path+" "+ask, resp.StatusCode, resp.Header.Get("Content-Range"), at, body)
}

// compare reports any difference between the image and a 206 or a part of one.
func (c *rangeClient) compare(what string, status int, contentRange string, at span, body []byte) {
	wantRange := fmt.Sprintf("bytes %d-%d/%d", at.first, at.end-1, len(c.want))
	if status != http.StatusPartialContent || contentRange != wantRange {
		c.t.Errorf("%s: status %d, Content-Range %q, want 206, %q", what, status, contentRange, wantRange)
		return
	}
	if !bytes.Equal(body, c.want[at.first:at.end]) {
		c.t.Errorf("%s: %d bytes that are not those of the image", what, len(body))
	}
}

// several requests ranges that do not overlap, in their order, as zsync does.
func (c *rangeClient) several(r *rand.Rand, path string) {
	var spans []span
	var asks []string
	part := int64(len(c.want)) / rangesAtOnce
	for i := range int64(rangesAtOnce) {
		a := i*part + r.Int64N(part-64<<10)
		spans = append(spans, span{a, a + 1 + r.Int64N(64<<10)})
		asks = append(asks, fmt.Sprintf("%d-%d", spans[i].first, spans[i].end-1))
	}
	resp, body := c.get(path, "bytes="+strings.Join(asks, ","))
	media, params, err := mime.ParseMediaType(resp.Header.Get("Content-Type"))
	if err != nil || media != "multipart/byteranges" {
		c.t.Errorf("%s %s: %s, Content-Type %q (%v)", path, asks, resp.Status, media, err)
		return
	}
	parts := multipart.NewReader(bytes.NewReader(body), params["boundary"])
	for i, at := range spans {
		p, err := parts.NextPart()
		if err != nil {
			c.t.Errorf("%s %s, part %d: %v", path, asks, i, err)
			return
		}
		got, err := io.ReadAll(p)
		if err != nil {
			c.t.Errorf("%s %s, part %d: %v", path, asks, i, err)
			return
		}
		c.compare(path+" part of "+asks[i], resp.StatusCode, p.Header.Get("Content-Range"), at, got)
	}
	if _, err := parts.NextPart(); err != io.EOF {
		c.t.Errorf("%s %s: more than %d parts (%v)", path, asks, len(spans), err)
	}
}

func (c *rangeClient) get(path, ask string) (*http.Response, []byte) {
	return c.do(http.MethodGet, path, "Range", ask)
}

// do works in goroutines: it reports a failure, and returns an empty answer for it.
func (c *rangeClient) do(method, path string, header ...string) (*http.Response, []byte) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, c.s.url(path), nil)
	if err != nil {
		c.t.Error(err)
		return &http.Response{Header: http.Header{}}, nil
	}
	req.Header.Set("User-Agent", c.agent)
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := noRedirects.Do(req)
	if err != nil {
		c.t.Error(err)
		return &http.Response{Header: http.Header{}}, nil
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		c.t.Errorf("%s %s %s: %v", method, path, header, err)
	}
	return resp, body
}

// TestValidators: HTTP validators distinguish snapshots.
func TestValidators(t *testing.T) {
	t.Parallel()
	from := pieces(t, nil)
	publish(t, from, "demo", unlike(1, 1<<20), 1)
	s := serve(t, "--pieces", from)
	const name = "/demo-os.iso"
	first, firstBytes := s.get(name)
	permanent := "/s/" + s.snapshot("demo") + name
	before := []*download{{piece: "demo", before: s.digest("demo")}}
	publish(t, from, "demo", unlike(2, 1<<20), 2) // the same size
	awaitNew(t, s, before)
	second, secondBytes := s.get(name, "User-Agent: newcomer")
	if bytes.Equal(firstBytes, secondBytes) {
		t.Fatal("the piece still has its old image")
	}
	for _, key := range []string{"ETag", "Last-Modified"} {
		if a, b := first.Header.Get(key), second.Header.Get(key); a == "" || a == b {
			t.Errorf("%s of two snapshots are %q and %q", key, a, b)
		}
	}
	etag, oldTag := second.Header.Get("ETag"), first.Header.Get("ETag")
	modified, oldModified := second.Header.Get("Last-Modified"), first.Header.Get("Last-Modified")
	size := strconv.Itoa(len(secondBytes))
	m := readManifest(t)
	inSlot := fmt.Sprintf("bytes=%d-%d", m.Slot+1<<18, m.Slot+1<<18+9)
	ten := span{m.Slot + 1<<18, m.Slot + 1<<18 + 10}
	for _, c := range []struct {
		name   string
		path   string
		header []string
		status int
		length string
		body   []byte // compared if not nil
	}{
		{"If-None-Match that matches", name, []string{"If-None-Match: " + etag}, 304, "", nil},
		{"If-None-Match of another", name, []string{"If-None-Match: " + oldTag}, 200, size, secondBytes},
		{"If-Modified-Since that matches", name, []string{"If-Modified-Since: " + modified}, 304, "", nil},
		{"all of it as a range", name, []string{"Range: bytes=0-"}, 206, size, secondBytes},
		{"If-Range with its ETag", name, []string{"Range: " + inSlot, "If-Range: " + etag}, 206, "10", secondBytes[ten.first:ten.end]},
		{"If-Range with its date", name, []string{"Range: " + inSlot, "If-Range: " + modified}, 206, "10", secondBytes[ten.first:ten.end]},
		{"If-Range with the ETag of a retained one", name, []string{"Range: " + inSlot, "If-Range: " + oldTag}, 206, "10", firstBytes[ten.first:ten.end]},
		{"If-Range with the date of a retained one", name, []string{"Range: " + inSlot, "If-Range: " + oldModified}, 206, "10", firstBytes[ten.first:ten.end]},
		{"If-Range with an unknown ETag", name, []string{"Range: " + inSlot, `If-Range: "12-34"`}, 200, size, secondBytes},
		{"If-Range with a weak ETag", name, []string{"Range: " + inSlot, "If-Range: W/" + etag}, 200, size, secondBytes},
		{"If-Range with another date", name, []string{"Range: " + inSlot, "If-Range: Thu, 01 Jan 2026 00:00:00 GMT"}, 200, size, secondBytes},
		{"the superseded snapshot", permanent, nil, 200, size, firstBytes},
		{"If-Range at the superseded snapshot", permanent, []string{"Range: " + inSlot, "If-Range: " + oldTag}, 206, "10", firstBytes[ten.first:ten.end]},
		{"the new ETag at the superseded snapshot", permanent, []string{"Range: " + inSlot, "If-Range: " + etag}, 200, size, firstBytes},
		{"If-None-Match at the superseded snapshot", permanent, []string{"If-None-Match: " + oldTag}, 304, "", nil},
	} {
		resp, body := s.get(c.path, append(c.header, "User-Agent: "+c.name)...)
		if resp.StatusCode != c.status || c.length != "" && resp.Header.Get("Content-Length") != c.length {
			t.Errorf("%s: %s, Content-Length %q; want %d, %q", c.name, resp.Status, resp.Header.Get("Content-Length"), c.status, c.length)
		}
		if c.body != nil && !bytes.Equal(body, c.body) {
			t.Errorf("%s: %d bytes that are not those of the image", c.name, len(body))
		}
	}
}

// TestRangeWithoutABeginning: a client that did not begin a download may have a part of any image.
// At the plain name it gets bytes before the slot, where all images agree, but none of the slot.
func TestRangeWithoutABeginning(t *testing.T) {
	t.Parallel()
	s := serve(t)
	m := readManifest(t)
	resp, body := s.get("/notepat-os.iso", fmt.Sprintf("Range: bytes=%d-", m.Slot+1))
	if resp.StatusCode != http.StatusPreconditionFailed || !strings.Contains(string(body), "download again") {
		t.Errorf("in the slot: %s\n%.300s", resp.Status, body)
	}
	resp, body = s.get("/notepat-os.iso", "Range: bytes=1-1000")
	if resp.StatusCode != http.StatusPartialContent || len(body) != 1000 {
		t.Errorf("before the slot: %s, %d bytes", resp.Status, len(body))
	}
}

// TestManyBehindOneAddress: more agents share an address than isofs remembers. A forgotten agent
// does not get another image in the rest of its download.
func TestManyBehindOneAddress(t *testing.T) {
	t.Parallel()
	const agents = 12
	from := pieces(t, nil)
	publish(t, from, "demo", unlike(1, 1<<20), 1)
	s := serve(t, "--pieces", from)
	const name = "/demo-os.iso"
	_, first := s.get(name, "User-Agent: the first")
	before := []*download{{piece: "demo", before: s.digest("demo")}}
	publish(t, from, "demo", unlike(2, 1<<20), 2)
	awaitNew(t, s, before)
	for i := range agents {
		s.get(name, fmt.Sprintf("User-Agent: agent %d", i), "Range: bytes=0-99")
	}
	m := readManifest(t)
	at := span{m.Slot + 1<<18, m.Slot + 1<<18 + 1000}
	ask := fmt.Sprintf("Range: bytes=%d-%d", at.first, at.end-1)
	resp, body := s.get(name, "User-Agent: the first", ask)
	if resp.StatusCode != http.StatusPreconditionFailed && !bytes.Equal(body, first[at.first:at.end]) {
		t.Errorf("the first continues: %s, with bytes of another image", resp.Status)
	}
	resp, body = s.get(name, fmt.Sprintf("User-Agent: agent %d", agents-1), ask)
	if resp.StatusCode != http.StatusPartialContent || bytes.Equal(body, first[at.first:at.end]) {
		t.Errorf("the last continues: %s, or with the first's image", resp.Status)
	}
}

package origin

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"aesthetic.computer/isofs/fault"
	"aesthetic.computer/isofs/integration/s3test"
)

// A place is where a test keeps one object. put gives the address other
// bytes; nil removes the object.
type place struct {
	address string
	put     func(content []byte)
	o       Options
}

func (at place) open(t *testing.T, size int64) Origin {
	t.Helper()
	return open(t, at.address, size, at.o)
}

// atFile keeps the object in a file, and replaces it as publishers do.
func atFile(t *testing.T) place {
	path := filepath.Join(t.TempDir(), "base.iso")
	return place{address: path, put: func(content []byte) {
		if content == nil {
			must(t, os.Remove(path))
			return
		}
		must(t, os.WriteFile(path+".new", content, 0o600))
		must(t, os.Rename(path+".new", path))
	}}
}

func atFileURL(t *testing.T) place {
	p := atFile(t)
	p.address = "file://" + p.address
	return p
}

// atWeb keeps the object on an honest web server.
func atWeb(t *testing.T) place {
	var mu sync.Mutex
	var content []byte
	version := 0
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		now, etag := content, fmt.Sprintf(`"v%d"`, version)
		mu.Unlock()
		if now == nil {
			http.NotFound(w, r)
			return
		}
		w.Header().Set("ETag", etag)
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(now))
	}))
	t.Cleanup(s.Close)
	return place{address: s.URL + "/base.iso", put: func(c []byte) {
		mu.Lock()
		defer mu.Unlock()
		content = c
		version++
	}}
}

// each wraps a place that the objects of a test need not share.
func each(at func(*testing.T) place) func(*testing.T) func(*testing.T) place {
	return func(*testing.T) func(*testing.T) place { return at }
}

// atS3 keeps the objects in a bucket of a real server.
func atS3(t *testing.T) func(*testing.T) place {
	s := s3test.Start(t)
	return func(t *testing.T) place {
		key := strings.ReplaceAll(t.Name(), " ", "+") + "/base.iso"
		return place{address: addressOf(key), put: func(content []byte) { s.Put(key, content) }, o: signed(s)}
	}
}

func TestConformance(t *testing.T) {
	for name, prepare := range map[string]func(*testing.T) func(*testing.T) place{
		"file": each(atFile), "file URL": each(atFileURL), "web": each(atWeb), "S3": atS3,
	} {
		t.Run(name, func(t *testing.T) {
			at := prepare(t)
			t.Run("every range", func(t *testing.T) { testEveryRange(t, at(t)) })
			t.Run("ranges outside", func(t *testing.T) { testRangesOutside(t, at(t)) })
			t.Run("as it comes", func(t *testing.T) { testAsItComes(t, at(t)) })
			t.Run("many at once", func(t *testing.T) { testManyAtOnce(t, at(t)) })
			t.Run("wrong size", func(t *testing.T) { testWrongSize(t, at(t)) })
			t.Run("replaced", func(t *testing.T) { testReplaced(t, at(t)) })
			t.Run("removed", func(t *testing.T) { testRemoved(t, at(t)) })
			t.Run("given up", func(t *testing.T) { testGivenUp(t, at(t)) })
			t.Run("closed", func(t *testing.T) { testClosed(t, at(t)) })
			t.Run("read all", func(t *testing.T) { testReadAll(t, at(t)) })
		})
	}
}

func testEveryRange(t *testing.T, at place) {
	const content = "a small object."
	at.put([]byte(content))
	o := at.open(t, int64(len(content)))
	for start := range len(content) + 1 {
		for end := start; end <= len(content); end++ {
			p := make([]byte, end-start)
			must(t, o.Fetch(t.Context(), p, int64(start)))
			if string(p) != content[start:end] {
				t.Fatalf("[%d,%d): got %q, want %q", start, end, p, content[start:end])
			}
		}
	}
}

func testRangesOutside(t *testing.T, at place) {
	at.put([]byte("0123456789"))
	o := at.open(t, 10)
	for _, r := range []struct{ off, n int64 }{{-1, 1}, {0, 11}, {10, 1}, {11, 0}, {9, 2}, {1 << 62, 1 << 10}} {
		wantKind(t, o.Fetch(t.Context(), make([]byte, r.n), r.off), fault.Invalid)
	}
}

// testAsItComes compares the bytes that a stream reports, then and again at the
// end: they must not be written to again.
func testAsItComes(t *testing.T, at place) {
	content := bytes.Repeat([]byte("0123456789abcde"), 3*step/15)
	mark := make([]byte, len(content))
	at.put(content)
	o := at.open(t, int64(len(content)))
	for _, r := range []struct{ off, n int }{{0, len(content)}, {1, 2*step + 7}, {5, step}, {9, 1}, {len(content), 0}} {
		p, want := make([]byte, r.n), content[r.off:][:r.n]
		var reported []int
		before := 0
		must(t, o.FetchStream(t.Context(), p, int64(r.off), func(n int) {
			if n > len(p) || n <= before || !bytes.Equal(p[before:n], want[before:n]) {
				t.Fatalf("%d bytes from %d: reported %d, which are wrong, after %v", r.n, r.off, n, reported)
			}
			reported = append(reported, n)
			before = n
			copy(p[:n], mark) // a later write to these bytes is found
		}))
		if !bytes.Equal(p, mark[:r.n]) {
			t.Fatalf("%d bytes from %d: written to after it was reported", r.n, r.off)
		}
		if len(reported) < r.n/step || r.n > 0 && reported[len(reported)-1] != r.n {
			t.Errorf("%d bytes from %d: reported %v", r.n, r.off, reported)
		}
	}
	wantKind(t, o.FetchStream(t.Context(), make([]byte, 2), int64(len(content))-1, func(int) { t.Error("reported bytes that there are not") }), fault.Invalid)
}

func testManyAtOnce(t *testing.T, at place) {
	content := bytes.Repeat([]byte("0123456789abcdef"), 4096)
	at.put(content)
	o := at.open(t, int64(len(content)))
	var all sync.WaitGroup
	for i := range 16 {
		all.Go(func() {
			p := make([]byte, 4096)
			if err := o.Fetch(t.Context(), p, int64(i*4096)); err != nil {
				t.Error(err)
			}
			if !bytes.Equal(p, content[i*4096:][:4096]) {
				t.Errorf("range %d: wrong bytes", i)
			}
		})
	}
	all.Wait()
}

func testWrongSize(t *testing.T, at place) {
	at.put([]byte("0123456789"))
	for _, size := range []int64{5, 9, 11, 20} {
		o := at.open(t, size)
		wantKind(t, o.Fetch(t.Context(), make([]byte, 5), 0), fault.Corrupt)
	}
}

func testReplaced(t *testing.T, at place) {
	at.put([]byte("first version"))
	o := at.open(t, 13)
	p := make([]byte, 13)
	must(t, o.Fetch(t.Context(), p, 0))
	at.put([]byte("other version"))
	wantKind(t, o.Fetch(t.Context(), p[:5], 8), fault.Corrupt)
	must(t, o.Fetch(t.Context(), p, 0))
	if string(p) != "other version" {
		t.Fatalf("got %q", p)
	}
	at.put([]byte("another version"))
	for range 3 {
		wantKind(t, o.Fetch(t.Context(), p, 0), fault.Corrupt)
	}
}

func testRemoved(t *testing.T, at place) {
	o := at.open(t, 3)
	p := make([]byte, 3)
	wantKind(t, o.Fetch(t.Context(), p, 0), fault.NotFound)
	at.put([]byte("abc"))
	must(t, o.Fetch(t.Context(), p, 0))
	at.put(nil)
	wantKind(t, o.Fetch(t.Context(), p, 0), fault.NotFound)
}

func testGivenUp(t *testing.T, at place) {
	at.put([]byte("abc"))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	err := at.open(t, 3).Fetch(ctx, make([]byte, 3), 0)
	wantKind(t, err, fault.Unavailable)
	if !errors.Is(err, context.Canceled) {
		t.Errorf("%v does not wrap the context's error", err)
	}
	_, err = at.o.ReadAll(ctx, at.address, 10)
	wantKind(t, err, fault.Unavailable)
}

func testClosed(t *testing.T, at place) {
	at.put([]byte("abc"))
	o := at.open(t, 3)
	must(t, o.Fetch(t.Context(), make([]byte, 3), 0))
	must(t, o.Close())
	wantKind(t, o.Fetch(t.Context(), make([]byte, 3), 0), fault.Unavailable)
	must(t, o.Close())
}

func testReadAll(t *testing.T, at place) {
	_, err := at.o.ReadAll(t.Context(), at.address, 100)
	wantKind(t, err, fault.NotFound)
	at.put([]byte("{}\n"))
	for _, limit := range []int64{3, 4, 1 << 20} {
		all, err := at.o.ReadAll(t.Context(), at.address, limit)
		must(t, err)
		if string(all) != "{}\n" {
			t.Fatalf("limit %d: got %q", limit, all)
		}
	}
	_, err = at.o.ReadAll(t.Context(), at.address, 2)
	wantKind(t, err, fault.Corrupt)
	at.put([]byte{})
	if all, err := at.o.ReadAll(t.Context(), at.address, 10); err != nil || len(all) != 0 {
		t.Fatalf("empty object: %q, %v", all, err)
	}
}

func TestAddresses(t *testing.T) {
	for _, bad := range []string{"", "s3://", "s3://bucket", "s3://bucket/", "s3://bucket/folder/", "s3:///key", "s3://user:secret@bucket/key", "gopher://host/x", "https://", "http://host:port/x", "file://elsewhere/x", "file://", "http://u:secret@h\x7f/"} {
		_, err := Open(bad, 1)
		wantKind(t, err, fault.Invalid)
		if err != nil && strings.Contains(err.Error(), "secret") {
			t.Errorf("%q: the error tells the password: %v", bad, err)
		}
	}
	if _, err := Open("/x", -1); !errors.Is(err, fault.Invalid) {
		t.Errorf("negative size: %v", err)
	}
	o, err := Open("https://user:secret@example.org/base.iso?signature=secret#secret", 1)
	must(t, err)
	if s := o.String(); s != "https://example.org/base.iso?..." {
		t.Errorf("String is %q", s)
	}
	o, err = Open("s3://bucket/a%zz?b#c/base.iso", 1)
	must(t, err)
	if s := o.String(); s != "s3://bucket/a%zz?b#c/base.iso" || Redact(s) != s {
		t.Errorf("String is %q", s)
	}
	for _, endpoint := range []string{"host:80", "ftp://host", "https://", "https://u:secret@host", "https://host?x=secret"} {
		_, err := Options{S3: S3{Endpoint: endpoint}}.Open("s3://bucket/key", 1)
		wantKind(t, err, fault.Invalid)
		if strings.Contains(err.Error(), "secret") {
			t.Errorf("%q: the error tells the password: %v", endpoint, err)
		}
	}
}

func open(t *testing.T, address string, size int64, o Options) Origin {
	t.Helper()
	origin, err := o.Open(address, size)
	must(t, err)
	t.Cleanup(func() { origin.Close() })
	return origin
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// wantKind checks that err is of exactly this kind.
func wantKind(t *testing.T, err, kind error) {
	t.Helper()
	for _, k := range []error{fault.NotFound, fault.Corrupt, fault.Unavailable, fault.Invalid} {
		if errors.Is(err, k) != (k == kind) {
			t.Fatalf("got error %v, want one that is only: %v", err, kind)
		}
	}
}

package integration

import (
	"bytes"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// A relay passes requests to a server. It counts the bytes of the answers by path.
type relay struct {
	*httptest.Server
	mu   sync.Mutex
	sent map[string]int64 // guarded by mu
}

func newRelay(t *testing.T, to *server) *relay {
	t.Helper()
	r := &relay{sent: map[string]int64{}}
	proxy := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: to.addr})
	r.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		proxy.ServeHTTP(&counter{w, func(n int) {
			r.mu.Lock()
			defer r.mu.Unlock()
			r.sent[req.URL.Path] += int64(n)
		}}, req)
	}))
	t.Cleanup(r.Close)
	return r
}

func (r *relay) bytes(path string) int64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.sent[path]
}

type counter struct {
	http.ResponseWriter
	count func(n int)
}

func (c *counter) Write(p []byte) (int, error) {
	c.count(len(p)) // before the client has them
	return c.ResponseWriter.Write(p)
}

// liarAnswers is how often a liar lies. zsync requests a wrong block again and again, as long as a
// server answers.
const liarAnswers = 100

// newLiar serves a file with some bytes changed, at every path of an image. Everything else comes
// from an honest server.
func newLiar(t *testing.T, path string, honest *server, flipped ...int64) *httptest.Server {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, off := range flipped {
		data[off] ^= 1
	}
	pass := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: honest.addr})
	var answers atomic.Int32
	l := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !strings.HasSuffix(r.URL.Path, ".iso") {
			pass.ServeHTTP(w, r)
			return
		}
		if answers.Add(1) > liarAnswers {
			http.NotFound(w, r)
			return
		}
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(data))
	}))
	t.Cleanup(l.Close)
	return l
}

// in runs a tool in a folder.
func in(dir, name string, args ...string) (string, error) {
	cmd := exec.Command(name, args...)
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func sameFile(t *testing.T, got, want string) {
	t.Helper()
	if a, b := fileSum(t, got), fileSum(t, want); a != b {
		t.Errorf("%s is not the image", got)
	}
}

// changedBlocks is how many bytes of a file are in blocks that another file does not have.
func changedBlocks(t *testing.T, of, against string, size int) int64 {
	t.Helper()
	have := map[string]bool{}
	each := func(path string, f func(block string)) {
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for off := 0; off < len(data); off += size {
			f(string(data[off:min(off+size, len(data))]))
		}
	}
	each(against, func(b string) { have[b] = true })
	var n int64
	each(of, func(b string) {
		if !have[b] {
			n += int64(len(b))
		}
	})
	return n
}

// twoPieces serves two pieces, and has both images as files. path is the address of the second
// image's snapshot.
func twoPieces(t *testing.T, flags ...string) (s *server, first, second, path string) {
	t.Helper()
	from := pieces(t, nil)
	publish(t, from, "first", unlike(11, 3<<20), 1)
	publish(t, from, "second", unlike(12, 5<<20), 2)
	s = newServer(t, append([]string{"--pieces", from}, flags...)...)
	s.args = append(s.args, "--public-url", "http://"+s.addr)
	s.start()
	dir := t.TempDir()
	must(t, "curl", "-sS", "-f", "--output-dir", dir, "-O", s.url("/first-os.iso"), "-O", s.url("/second-os.iso"))
	resp, _ := s.request(http.MethodHead, "/second-os.iso")
	return s, filepath.Join(dir, "first-os.iso"), filepath.Join(dir, "second-os.iso"), "/s/" + resp.Header.Get("X-Isofs-Snapshot") + "/second-os.iso"
}

// TestZsync: a client with one piece's image fetches only what differs in another's.
func TestZsync(t *testing.T) {
	t.Parallel()
	need(t, "zsync", "zsyncmake", "curl")
	s, first, second, path := twoPieces(t)
	resp, served := s.get("/second-os.iso.zsync")
	if resp.StatusCode != http.StatusOK || resp.Header.Get("Content-Type") != "application/x-zsync" {
		t.Fatalf("%s, %s", resp.Status, resp.Header.Get("Content-Type"))
	}
	t.Run("is that of zsyncmake", func(t *testing.T) {
		// curl gives the downloaded file the time of its arrival.
		modified, err := http.ParseTime(must(t, "sh", "-c", "curl -sSI "+s.url(path)+" | sed -n 's/^Last-Modified: \\(.*\\)\\r/\\1/p' | tr -d '\\n'"))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(second, modified, modified); err != nil {
			t.Fatal(err)
		}
		made := filepath.Join(t.TempDir(), "made")
		must(t, "zsyncmake", "-u", path, "-f", "second-os.iso", "-o", made, second)
		if want, err := os.ReadFile(made); err != nil || !bytes.Equal(served, want) {
			t.Errorf("%v, %d bytes and %d\n%.300s\n%.300s", err, len(served), len(want), served, want)
		}
	})
	t.Run("fetches the changed blocks", func(t *testing.T) {
		r, dir := newRelay(t, s), t.TempDir()
		if out, err := in(dir, "zsync", "-q", "-i", first, r.URL+"/second-os.iso.zsync"); err != nil {
			t.Fatalf("zsync: %v\n%s", err, out)
		}
		sameFile(t, filepath.Join(dir, "second-os.iso"), second)
		changed, got := changedBlocks(t, second, first, 2048), r.bytes(path)
		t.Logf("%d bytes are in changed blocks, %d were sent, and %d of the zsync file", changed, got, len(served))
		if got < changed || got > changed+changed/50 {
			t.Errorf("%d bytes of the image were sent, of which %d are in changed blocks", got, changed)
		}
		if r.bytes("/second-os.iso") != 0 {
			t.Error("the request was for the piece, not for the snapshot")
		}
	})
	t.Run("refuses other bytes", func(t *testing.T) {
		liar := newLiar(t, second, s, readManifest(t).Slot+1<<20)
		dir := t.TempDir()
		out, err := in(dir, "zsync", "-q", "-i", first, liar.URL+"/second-os.iso.zsync")
		if _, none := os.Stat(filepath.Join(dir, "second-os.iso")); err == nil || none == nil {
			t.Errorf("zsync took an image that is wrong: %v\n%s", err, out)
		}
	})
	t.Run("refuses another sum", func(t *testing.T) {
		dir := t.TempDir()
		at := bytes.Index(served, []byte("SHA-1: ")) + 7
		other := bytes.Clone(served)
		copy(other[at:], strings.Repeat("0", 40))
		file := filepath.Join(dir, "other.zsync")
		if err := os.WriteFile(file, other, 0o644); err != nil {
			t.Fatal(err)
		}
		out, err := in(dir, "zsync", "-q", "-i", second, "-u", s.url("/second-os.iso.zsync"), file)
		if _, none := os.Stat(filepath.Join(dir, "second-os.iso")); err == nil || none == nil || !strings.Contains(out, "Aborting") {
			t.Errorf("%v\n%s", err, out)
		}
	})
}

// TestBmap: bmaptool finds the map, and refuses an image that does not match it.
func TestBmap(t *testing.T) {
	t.Parallel()
	need(t, "bmaptool", "curl")
	s, _, second, path := twoPieces(t)
	for _, address := range []string{"/second-os.iso", path} {
		target := filepath.Join(t.TempDir(), "stick")
		out, err := in(t.TempDir(), "bmaptool", "copy", s.url(address), target)
		if err != nil || !strings.Contains(out, "discovered bmap file") {
			t.Fatalf("bmaptool: %v\n%s", err, out)
		}
		sameFile(t, target, second)
		// The base has free space, and so has the slot.
		share := regexp.MustCompile(`mapped \d+ blocks \(.* or (\d+\.\d)%\)`).FindStringSubmatch(out)
		if share == nil || len(share[1]) > 4 || share[1] > "80.0" {
			t.Errorf("nothing is skipped: %q\n%s", share, out)
		}
	}
	slot := readManifest(t).Slot
	for _, at := range []int64{10 << 20, slot + 1<<20} {
		liar := newLiar(t, second, s, at)
		out, err := in(t.TempDir(), "bmaptool", "copy", liar.URL+path, filepath.Join(t.TempDir(), "stick"))
		if err == nil || !strings.Contains(out, "checksum mismatch") {
			t.Errorf("byte %d is another: %v\n%s", at, err, out)
		}
	}
}

// TestMetalink: aria2c verifies piece by piece, and repairs wrong ones.
func TestMetalink(t *testing.T) {
	t.Parallel()
	need(t, "aria2c", "curl")
	s, _, second, path := twoPieces(t)
	aria2c := func(dir string, args ...string) (string, error) {
		return in(dir, "aria2c", append([]string{"--no-conf", "--file-allocation=none", "--console-log-level=notice", "--allow-overwrite=true"}, args...)...)
	}
	dir := t.TempDir()
	got := filepath.Join(dir, "second-os.iso")
	t.Run("downloads", func(t *testing.T) {
		if out, err := aria2c(dir, "--follow-metalink=mem", s.url("/second-os.iso.meta4")); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		sameFile(t, got, second)
	})
	must(t, "curl", "-sS", "-f", "--output-dir", dir, "-O", s.url("/second-os.iso.meta4"))
	metalink, err := os.ReadFile(filepath.Join(dir, "second-os.iso.meta4"))
	if err != nil {
		t.Fatal(err)
	}
	// elsewhere writes the Metalink with other servers.
	elsewhere := func(t *testing.T, servers ...string) string {
		t.Helper()
		var urls []string
		for i, server := range servers {
			urls = append(urls, fmt.Sprintf("<url priority=\"%d\">%s%s</url>", i+1, server, path))
		}
		text := regexp.MustCompile(`<url .*</url>`).ReplaceAllString(string(metalink), strings.Join(urls, "\n"))
		file := filepath.Join(t.TempDir(), "elsewhere.meta4")
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		return file
	}
	t.Run("repairs a file", func(t *testing.T) {
		data, err := os.ReadFile(second)
		if err != nil {
			t.Fatal(err)
		}
		data[10<<20] ^= 1
		data[readManifest(t).Slot+2<<20] ^= 1
		if err := os.WriteFile(got, data, 0o644); err != nil {
			t.Fatal(err)
		}
		r := newRelay(t, s)
		if out, err := aria2c(dir, "--check-integrity=true", "-M", elsewhere(t, r.URL)); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		sameFile(t, got, second)
		// The pieces have 256 KiB. aria2c closes a connection when it has enough.
		t.Logf("%d bytes were sent to repair two pieces", r.bytes(path))
		if n := r.bytes(path); n < 512<<10 || n > int64(len(data))/2 {
			t.Errorf("%d bytes were sent to repair two pieces of %d", n, len(data))
		}
	})
	slot := readManifest(t).Slot
	t.Run("a mirror lies", func(t *testing.T) {
		dir := t.TempDir()
		liar := newLiar(t, second, s, 5<<20, slot+1<<20)
		out, err := aria2c(dir, "-s2", "-x1", "-M", elsewhere(t, liar.URL, "http://"+s.addr))
		if err != nil || !strings.Contains(out, "Invalid checksum") {
			t.Fatalf("%v\n%s", err, out)
		}
		sameFile(t, filepath.Join(dir, "second-os.iso"), second)
	})
	t.Run("all lie", func(t *testing.T) {
		liar := newLiar(t, second, s, slot+1<<20)
		out, err := aria2c(t.TempDir(), "--max-tries=2", "-M", elsewhere(t, liar.URL))
		if err == nil {
			t.Errorf("aria2c took an image that is wrong:\n%s", out)
		}
	})
	t.Run("not without an address", func(t *testing.T) {
		plain := serve(t, "--pieces", pieces(t, map[string]string{"demo": page("demo", 1000)}))
		if resp, body := plain.get("/demo-os.iso.meta4"); resp.StatusCode != http.StatusNotFound || !strings.Contains(string(body), ".bmap, .manifest, .sha256, .zsync") {
			t.Errorf("%s\n%s", resp.Status, body)
		}
	})
}

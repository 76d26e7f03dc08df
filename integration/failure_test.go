package integration

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

const pieceSize = 1 << 20

func TestOriginDeadAtTheStart(t *testing.T) {
	t.Parallel()
	t.Run("of a base never seen", func(t *testing.T) {
		t.Parallel()
		need(t, "nginx")
		address := "http://" + freeAddress(t) + "/base"
		s := newServer(t, "--base", address)
		s.fails(address)
		s.says("connection refused")
		if code := s.cmd.ProcessState.ExitCode(); code != 1 {
			t.Errorf("exit status %d, want 1", code)
		}
	})
	t.Run("of a base that was cached", func(t *testing.T) {
		t.Parallel()
		o := newOrigin(t)
		s := serve(t, "--base", o.url, "--pieces", numbered(t, 2))
		whole := s.whole("/p0-os.iso")
		s.stop()
		o.set(func() { o.down = dead })
		s.start()
		if !bytes.Equal(s.whole("/p0-os.iso"), whole) {
			t.Error("the image is another one without the origin")
		}
		s.whole("/p1-os.iso") // a new piece needs nothing from the origin either
	})
}

func TestOriginDiesDuringADownload(t *testing.T) {
	t.Parallel()
	o := newOrigin(t)
	s := serve(t, "--base", o.url, "--pieces", numbered(t, 2))
	const cached = 8 << 20
	_, first := s.get("/p0-os.iso", fmt.Sprintf("Range: bytes=0-%d", cached-1))
	o.set(func() { o.down = dead })

	part, err := s.fetch("/p0-os.iso")
	if err == nil {
		t.Error("a download looks whole although the origin is dead")
	}
	if _, again := s.get("/p1-os.iso", fmt.Sprintf("Range: bytes=0-%d", cached-1)); !bytes.Equal(again, first) {
		t.Error("cached bytes are not served unchanged")
	}
	o.set(func() { o.down = 0 })
	whole := s.healed("/p0-os.iso")
	if !bytes.HasPrefix(whole, part) || !bytes.HasPrefix(whole, first) {
		t.Error("wrong bytes were served while the origin was dead")
	}
}

// TestUnreadableFirstByte: if the first byte of a request cannot be read, the client gets a 503
// with an explanation, not an empty answer. That holds at every address, from the first byte on.
// Cached bytes are served. Once the whole base is cached, isofs does not need the origin.
func TestUnreadableFirstByte(t *testing.T) {
	t.Parallel()
	need(t, "curl")
	o := newOrigin(t)
	s := serve(t, "--base", o.url, "--origin-timeout", "1s")
	const cached = 1 << 20
	s.get("/notepat-os.iso", fmt.Sprintf("Range: bytes=0-%d", cached-1))
	here := "/s/" + s.snapshot("notepat") + "/notepat-os.iso"
	o.set(func() { o.down = dead })
	far := 30 << 20 // farther than isofs reads ahead
	for _, path := range []string{here, "/notepat-os.iso"} {
		for _, span := range []string{fmt.Sprintf("%d-%d", far, far+100), fmt.Sprintf("%d-", far), fmt.Sprintf("%d-%d,0-1", far, far+100)} {
			out, err := exec.Command("curl", "-sS", "-o", s.path("answer"), "-w", "%{http_code} %header{retry-after}", "-r", span, s.url(path)).CombinedOutput()
			if answer, _ := os.ReadFile(s.path("answer")); err != nil || !strings.HasPrefix(string(out), "503 ") || len(out) < 5 || !bytes.Contains(answer, []byte("cannot be read")) {
				t.Errorf("%s of %s: %s (%v), %q", span, path, out, err, answer)
			}
		}
		if resp, part := s.get(path, "Range: bytes=5-9"); resp.StatusCode != http.StatusPartialContent || len(part) != 5 {
			t.Errorf("cached bytes of %s: %s", path, resp.Status)
		}
	}
	o.set(func() { o.down = 0 })
	s.healed("/notepat-os.iso")
	o.set(func() { o.down = dead })
	for _, path := range []string{here, "/notepat-os.iso"} {
		if resp, part := s.get(path, fmt.Sprintf("Range: bytes=%d-%d", far, far+100)); resp.StatusCode != http.StatusPartialContent || len(part) != 101 {
			t.Errorf("%s, once it is whole: %s", path, resp.Status)
		}
	}
}

func TestOriginLies(t *testing.T) {
	t.Parallel()
	const always = 1 << 30
	for name, c := range map[string]struct {
		times  int
		broken bool
	}{"once": {1, false}, "always": {always, true}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := newOrigin(t)
			o.flipAt, o.flips = 5<<20+12345, c.times
			s := serve(t, "--base", o.url)
			part, err := s.fetch("/notepat-os.iso")
			if broken := err != nil; broken != c.broken {
				t.Errorf("the download ended with %v after %d bytes", err, len(part))
			}
			s.says("sha256")
			o.set(func() { o.flips = 0 })
			if !bytes.HasPrefix(s.healed("/notepat-os.iso"), part) {
				t.Error("wrong bytes were served")
			}
		})
	}
}

func TestOriginChanges(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		change func(o *cdn)
		broken bool
	}{
		"another ETag of the same bytes": {func(o *cdn) { o.etag = `"again"` }, false},
		"a shorter object":               {func(o *cdn) { o.image = o.image[:len(o.image)-40<<20] }, true},
		"an object of the same size": {func(o *cdn) {
			o.etag, o.image = `"other"`, bytes.Repeat([]byte{0xa5}, len(o.image))
		}, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := newOrigin(t)
			s := serve(t, "--base", o.url)
			s.get("/notepat-os.iso", "Range: bytes=0-99") // pins the ETag
			image := o.image
			o.set(func() { c.change(o) })
			part, err := s.fetch("/notepat-os.iso")
			if c.broken && err == nil {
				t.Error("a download of another base looks whole")
			}
			o.set(func() { o.image, o.etag = image, `"first"` })
			if !bytes.HasPrefix(s.healed("/notepat-os.iso"), part) {
				t.Error("wrong bytes were served")
			}
		})
	}
}

func TestSecondPieceCostsTheOriginNothing(t *testing.T) {
	t.Parallel()
	o := newOrigin(t)
	s := serve(t, "--base", o.url, "--pieces", numbered(t, 2), "--hedge=false")
	s.request(http.MethodHead, "/p0-os.iso")
	s.published("/p0-os.iso")
	if sent, _ := o.counts(); sent != 0 {
		t.Errorf("making an image cost %d bytes of the base", sent)
	}
	s.whole("/p0-os.iso")
	before, _ := o.counts()
	s.whole("/p1-os.iso")
	if after, _ := o.counts(); after != before {
		t.Errorf("a second piece cost %d bytes of the base", after-before)
	}
}

func TestManyDownloadsCostTheOriginOne(t *testing.T) {
	t.Parallel()
	const clients, of = 30, 3
	o := newOrigin(t)
	s := serve(t, "--base", o.url, "--pieces", numbered(t, of), "--hedge=false")
	sums := make([]string, clients)
	var all sync.WaitGroup
	for i := range clients {
		all.Go(func() {
			resp, err := noRedirects.Get(s.url(fmt.Sprintf("/p%d-os.iso", i%of)))
			if err != nil {
				t.Error(err)
				return
			}
			defer resp.Body.Close()
			sum := sha256.New()
			if _, err := io.Copy(sum, resp.Body); err != nil {
				t.Error(err)
			}
			sums[i] = hex.EncodeToString(sum.Sum(nil))
		})
	}
	all.Wait()
	for i, sum := range sums {
		if want := s.published(fmt.Sprintf("/p%d-os.iso", i%of)); sum != want {
			t.Errorf("client %d has %s, want %s", i, sum, want)
		}
	}
	sent, most := o.counts()
	if most != 1 {
		t.Errorf("a page of the base was sent %d times", most)
	}
	if sent > int64(len(o.image)) || sent < int64(len(o.image))/2 {
		t.Errorf("the origin sent %d bytes of a base of %d", sent, len(o.image))
	}
}

func TestWrongManifestIsRefused(t *testing.T) {
	t.Parallel()
	need(t, "nginx")
	edit := func(key string, value any) func([]byte) []byte {
		return func(data []byte) []byte {
			var m map[string]any
			decoder := json.NewDecoder(bytes.NewReader(data))
			decoder.UseNumber()
			if err := decoder.Decode(&m); err != nil {
				t.Fatal(err)
			}
			if m[key] == nil {
				t.Fatalf("the manifest has no %s", key)
			}
			if m[key] = value; value == nil {
				delete(m, key)
			}
			data, _ = json.Marshal(m)
			return data
		}
	}
	for name, c := range map[string]struct {
		edit func([]byte) []byte
		says string
		code int
	}{
		"truncated":       {func(d []byte) []byte { return d[:len(d)/2] }, "manifest", 3},
		"a page":          {func([]byte) []byte { return []byte("<html>404</html>") }, "manifest", 3},
		"empty":           {func([]byte) []byte { return nil }, "manifest", 3},
		"no digest":       {edit("sha256", nil), "sha256", 2},
		"no hashes":       {edit("blocks", []string{}), "blocks", 3},
		"another size":    {edit("totalSize", 4096), "totalSize", 2},
		"slot outside":    {edit("piecePartitionOffset", 1<<40), "the slot", 3},
		"negative offset": {edit("piecePartitionOffset", -4096), "piecePartitionOffset", 2},
		"no block size":   {edit("blockSize", 0), "blockSize", 2},
	} {
		t.Run(name, func(t *testing.T) {
			s := newServer(t, "--base", damagedBase(t, c.edit))
			s.fails(c.says)
			if code := s.cmd.ProcessState.ExitCode(); code != c.code {
				t.Errorf("exit status %d, want %d\n%s", code, c.code, s.log)
			}
			if s.mounted() {
				t.Error("it left a mount")
			}
		})
	}
	t.Run("no such folder", func(t *testing.T) {
		newServer(t, "--base", "/nonexistent/base").fails("/nonexistent/base")
	})
	t.Run("no such address", func(t *testing.T) {
		address := newOrigin(t).url + "/elsewhere"
		s := newServer(t, "--base", address)
		s.fails(address)
		s.says("404")
	})
}

func TestManifestThatLiesAboutABlock(t *testing.T) {
	t.Parallel()
	base := damagedBase(t, func(data []byte) []byte {
		var m struct{ Blocks []string }
		if err := json.Unmarshal(data, &m); err != nil {
			t.Fatal(err)
		}
		sum := m.Blocks[7]
		return bytes.Replace(data, []byte(sum), []byte(strings.Repeat("1", len(sum))), 1)
	})
	good := serve(t)
	s := serve(t, "--base", base)
	part, err := s.fetch("/notepat-os.iso")
	if err == nil {
		t.Error("a download looks whole although a block is not what the manifest says")
	}
	if !bytes.HasPrefix(good.whole("/notepat-os.iso"), part) {
		t.Error("wrong bytes were served")
	}
	s.says("block 7 of base")
}

func TestDamagedBundleIsNotServed(t *testing.T) {
	t.Parallel()
	s := serve(t, "--pieces", numbered(t, 1))
	whole := s.whole("/p0-os.iso")
	head, _ := s.request(http.MethodHead, "/p0-os.iso")
	id := snapshotOf(t, head.Header.Get("Link"))
	s.stop()
	bundles, err := filepath.Glob(s.path("state/bundles/*.html"))
	if err != nil || len(bundles) != 1 {
		t.Fatalf("bundles %v, %v", bundles, err)
	}
	flip(t, bundles[0], pieceSize/2)
	s.start()
	// The snapshot's own address comes first. From it isofs cannot find out where to fetch the
	// bundle again.
	if part, err := s.fetch("/s/" + id + "/p0-os.iso"); err == nil && !bytes.Equal(part, whole) {
		t.Error("a damaged bundle was served")
	} else if err != nil && !bytes.HasPrefix(whole, part) {
		t.Error("a part of a damaged bundle was served")
	}
	s.says("had other content")
	if !bytes.Equal(s.whole("/p0-os.iso"), whole) {
		t.Error("the bundle was not fetched again")
	}
}

func TestDamagedCacheIsNotServed(t *testing.T) {
	t.Parallel()
	o := newOrigin(t)
	s := serve(t, "--base", o.url)
	whole := s.whole("/notepat-os.iso")
	damage := func() {
		s.stop()
		files, err := filepath.Glob(s.path("state/cache/*.blocks"))
		if err != nil || len(files) != 1 {
			t.Fatalf("cache files %v, %v", files, err)
		}
		for at := int64(3 << 20); at < int64(len(o.image))/2; at += 9 << 20 {
			flip(t, files[0], at)
		}
	}
	damage()
	before, _ := o.counts()
	s.start()
	if !bytes.Equal(s.whole("/notepat-os.iso"), whole) {
		t.Error("wrong bytes from a damaged cache")
	}
	if after, _ := o.counts(); after == before || after-before > int64(len(o.image))/2 {
		t.Errorf("mending four blocks cost %d bytes", after-before)
	}

	damage()
	o.set(func() { o.down = http.StatusForbidden })
	s.start()
	part, err := s.fetch("/notepat-os.iso")
	if err == nil || !bytes.HasPrefix(whole, part) {
		t.Errorf("a damaged cache and no origin gave %d bytes and %v", len(part), err)
	}
}

func TestCacheWithoutRoom(t *testing.T) {
	t.Parallel()
	needRoot(t)
	for name, options := range map[string]string{"full": "size=6m", "read-only": "size=1m,ro"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			need(t, "nginx")
			s := newServer(t, "--pieces", numbered(t, 2))
			s.args = append(s.args, "--cache", tmpfs(t, s.path("cache"), options))
			s.start()
			s.whole("/p0-os.iso")
			s.whole("/p1-os.iso")
		})
	}
}

func TestStateWithoutRoom(t *testing.T) {
	t.Parallel()
	needRoot(t)
	need(t, "nginx")
	s := newServer(t, "--pieces", numbered(t, 3))
	s.args = append(s.args, "--cache", s.path("cache"))
	state := tmpfs(t, s.path("state"), "size=12m")
	s.start()
	whole := s.whole("/p0-os.iso")
	filler := filepath.Join(state, "filler")
	if err := os.WriteFile(filler, make([]byte, 16<<20), 0o644); !errors.Is(err, unix.ENOSPC) {
		t.Fatalf("the disk is not full: %v", err)
	}
	if resp, body := s.get("/p1-os.iso"); resp.StatusCode != http.StatusBadGateway || bytes.Contains(body, []byte(state)) {
		t.Errorf("a new piece on a full disk: %s %.200s", resp.Status, body)
	}
	s.says("no space left on device; free some space in " + state)
	if !bytes.Equal(s.whole("/p0-os.iso"), whole) {
		t.Error("a known piece is another one on a full disk")
	}
	s.stop()
	s.start() // also if isofs cannot write anything
	if !bytes.Equal(s.whole("/p0-os.iso"), whole) {
		t.Error("a known piece is another one after a start on a full disk")
	}
	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	s.whole("/p2-os.iso")
}

// A cdn serves the base over HTTP, with the faults that a test sets.
type cdn struct {
	url      string
	manifest []byte

	mu     sync.Mutex // guards all below
	image  []byte
	etag   string
	down   int     // dead, or the status of every answer
	flipAt int64   // the place of a flipped bit,
	flips  int     // and in how many more answers
	pages  []uint8 // how often each 4 KiB of the base were requested
	sent   int64   // bytes of the base that were sent
}

const (
	pageSize = 4096
	dead     = -1 // closes connections without an answer; isofs retries for half a minute
)

func newOrigin(t *testing.T) *cdn {
	t.Helper()
	manifest, err1 := os.ReadFile(filepath.Join(baseDir, "manifest.json"))
	image, err2 := os.ReadFile(filepath.Join(baseDir, "base.iso"))
	if err := errors.Join(err1, err2); err != nil {
		t.Fatal(err)
	}
	o := &cdn{manifest: manifest, image: image, etag: `"first"`, pages: make([]uint8, len(image)/pageSize+1)}
	server := httptest.NewServer(o)
	t.Cleanup(server.Close)
	o.url = server.URL + "/base"
	return o
}

func (o *cdn) set(change func()) {
	o.mu.Lock()
	defer o.mu.Unlock()
	change()
}

// counts returns how many bytes of the base were sent, and how often the most requested 4 KiB were.
func (o *cdn) counts() (sent int64, most int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.sent, int(slices.Max(o.pages))
}

// ServeHTTP implements http.Handler.
func (o *cdn) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	o.mu.Lock()
	image, etag, down := o.image, o.etag, o.down
	body := &flipped{Reader: bytes.NewReader(image), at: -1}
	var first, last int64
	if _, err := fmt.Sscanf(r.Header.Get("Range"), "bytes=%d-%d", &first, &last); err == nil && down == 0 && !isProbe(r) {
		if o.flips > 0 && first <= o.flipAt && o.flipAt <= last {
			o.flips--
			body.at = o.flipAt
		}
		for page := first / pageSize; page <= last/pageSize; page++ {
			o.pages[page]++
		}
	}
	o.mu.Unlock()
	switch {
	case down == dead:
		panic(http.ErrAbortHandler)
	case down != 0:
		w.WriteHeader(down)
	case r.URL.Path == "/base/manifest.json":
		w.Write(o.manifest)
	case r.URL.Path == "/base/base.iso":
		w.Header().Set("ETag", etag)
		http.ServeContent(w, r, "", time.Time{}, body)
		if !isProbe(r) {
			o.set(func() { o.sent += body.read })
		}
	default:
		http.NotFound(w, r)
	}
}

// flipped is an image with one wrong bit, if at is not negative.
type flipped struct {
	*bytes.Reader
	at   int64
	read int64
}

func (f *flipped) Read(p []byte) (int, error) {
	pos := f.Size() - int64(f.Len())
	n, err := f.Reader.Read(p)
	if pos <= f.at && f.at < pos+int64(n) {
		p[f.at-pos] ^= 1
	}
	f.read += int64(n)
	return n, err
}

// fetch is get, but a failure is a result, and the bytes before it too.
func (s *server) fetch(path string) ([]byte, error) {
	s.t.Helper()
	resp, err := noRedirects.Get(s.url(path))
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, errors.New(resp.Status)
	}
	return bodyOf(resp)
}

// whole downloads an image, and checks it against the published digest.
func (s *server) whole(path string) []byte {
	s.t.Helper()
	body, err := s.fetch(path)
	if err != nil {
		s.t.Fatalf("%s: %v after %d bytes", path, err, len(body))
	}
	if got, want := digest(body), s.published(path); got != want {
		s.t.Fatalf("%s has sha256 %s, published is %s", path, got, want)
	}
	return body
}

// healed is whole after a fault. A fetch from before the fault's end may still fail, and so may all
// requests that wait for its block. Bytes that arrive must be right from the first.
func (s *server) healed(path string) []byte {
	s.t.Helper()
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		if _, err := s.fetch(path); err == nil {
			break
		}
	}
	return s.whole(path)
}

// published is an image's SHA-256, from its sidecar.
func (s *server) published(path string) string {
	s.t.Helper()
	_, text := s.get(path + ".sha256")
	sum, _, _ := strings.Cut(string(text), " ")
	return sum
}

func digest(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}

// damagedBase is the base with a changed manifest.
func damagedBase(t *testing.T, edit func([]byte) []byte) string {
	t.Helper()
	dir := pieces(t, nil) // isofs can read this folder
	data, err := os.ReadFile(filepath.Join(baseDir, "manifest.json"))
	if err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(dir, "manifest.json"), string(edit(data)))
	if err := os.Symlink(filepath.Join(baseDir, "base.iso"), filepath.Join(dir, "base.iso")); err != nil {
		t.Fatal(err)
	}
	return dir
}

// flip changes one bit of a file.
func flip(t *testing.T, path string, at int64) {
	t.Helper()
	// Bundles are read-only files. Root can write to them anyway.
	f, err1 := os.Open(path)
	if err1 != nil {
		t.Fatal(err1)
	}
	defer f.Close()
	b := make([]byte, 1)
	if _, err := f.ReadAt(b, at); err != nil {
		t.Fatal(err)
	}
	b[0] ^= 1
	err := os.Chmod(path, 0o644)
	w, err2 := os.OpenFile(path, os.O_WRONLY, 0)
	if err := errors.Join(err, err2); err != nil {
		t.Fatal(err)
	}
	_, err = w.WriteAt(b, at)
	if err := errors.Join(err, w.Close()); err != nil {
		t.Fatal(err)
	}
}

// tmpfs mounts a new small disk at dir.
func tmpfs(t *testing.T, dir, options string) string {
	t.Helper()
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	var flags uintptr
	options, readOnly := strings.CutSuffix(options, ",ro")
	if readOnly {
		flags = unix.MS_RDONLY
	}
	if err := unix.Mount("tmpfs", dir, "tmpfs", flags, "mode=755,"+options); err != nil {
		t.Fatal(err)
	}
	// The unmount is lazy, since the program stops after this.
	t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
	return dir
}

package integration

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// The tests named TestRow.. are the rows of docs/failures.md. Each has one rule: a read returns the
// base's bytes or an error, within bounded time. After the fault isofs serves everything, without a
// restart.

// matrixImage is the image that these tests read.
const matrixImage = "/notepat-os.iso"

// places are far apart in the base, so that a request for one contains no other. The last is well
// before the slot.
var places = []int64{2<<20 + 4097, 7<<20 + 1, 12<<20 + 9999, 17 << 20, 22<<20 + 333, 27<<20 + 77, 32<<20 + 1234, 37<<20 + 5}

// unanswered is an origin timeout for rows in which the origin never answers.
const unanswered = "--origin-timeout=3s"

// bound is the longest time that a read may take in these tests. It is far more than the origin's
// timeout, since the machine may be busy.
const bound = 45 * time.Second

// faulty starts isofs on a base behind a faultProxy.
func faulty(t *testing.T, flags ...string) (*faultProxy, *server) {
	t.Helper()
	need(t, "nginx")
	p := newFaultProxy(t)
	return p, serve(t, append([]string{"--base", p.url()}, flags...)...)
}

// ask reads a range of the image by HTTP. It returns a failure; wrong bytes fail the test.
func (s *server) ask(at, n int64) error {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), bound)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.url(matrixImage), nil)
	if err != nil {
		return err
	}
	req.Header.Set("Range", fmt.Sprintf("bytes=%d-%d", at, at+n-1))
	var body []byte
	resp, err := noRedirects.Do(req)
	if err == nil {
		defer resp.Body.Close()
		if resp.StatusCode != http.StatusPartialContent {
			return fmt.Errorf("%w: %s", errAnswer, resp.Status)
		}
		body, err = io.ReadAll(resp.Body)
	}
	if ctx.Err() != nil {
		s.t.Errorf("%d bytes at %d took more than %v", n, at, bound)
	}
	if !bytes.HasPrefix(reference()[at:at+n], body) {
		s.t.Errorf("wrong bytes in %d from %d on", len(body), at)
	}
	if err == nil && int64(len(body)) != n {
		s.t.Errorf("%d bytes from %d on look like %d", len(body), at, n)
	}
	return err
}

// errAnswer means that the web server answered with an error.
var errAnswer = errors.New("refused")

// pread reads a range of the image through the mount. A failure is EIO.
func (s *server) pread(at, n int64) error {
	s.t.Helper()
	f, err := os.Open(s.mount() + matrixImage)
	if err != nil {
		return err
	}
	defer f.Close()
	body := make([]byte, n)
	got, err := f.ReadAt(body, at)
	if !bytes.HasPrefix(reference()[at:at+n], body[:got]) {
		s.t.Errorf("wrong bytes in %d from %d on by the mount", got, at)
	}
	if err != nil && !errors.Is(err, unix.EIO) && !errors.Is(err, unix.ENOTCONN) && !errors.Is(err, unix.ECONNABORTED) {
		s.t.Errorf("reading at %d failed with %v, want EIO", at, err)
	}
	return err
}

// fine is ask, which must succeed.
func (s *server) fine(at, n int64) {
	s.t.Helper()
	if err := s.ask(at, n); err != nil {
		s.t.Errorf("%d bytes at %d: %v", n, at, err)
	}
}

// refused is ask, which must fail.
func (s *server) refused(at, n int64) {
	s.t.Helper()
	if err := s.ask(at, n); err == nil {
		s.t.Errorf("%d bytes at %d were served from nowhere", n, at)
	}
}

// recovered removes the faults and checks that isofs serves everything.
func (s *server) recovered(p *faultProxy) {
	s.t.Helper()
	p.heal()
	// A fetch from before the end of the faults may still fail, and so may the reads that wait for
	// its block. Bytes that arrive must be right from the first.
	var err error
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		if err = s.download(); err == nil {
			return
		}
	}
	s.t.Fatalf("%s is not served after the faults: %v", matrixImage, err)
}

// all is download, which must succeed.
func (s *server) all() {
	s.t.Helper()
	if err := s.download(); err != nil {
		s.t.Fatalf("%s: %v", matrixImage, err)
	}
}

// download downloads the image and keeps nothing of it. Before the slot the image must be the base.
// All of it must have the published digest. download returns a failure; wrong bytes fail the test.
func (s *server) download() error {
	s.t.Helper()
	resp, err := noRedirects.Get(s.url(matrixImage))
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%w: %s", errAnswer, resp.Status)
	}
	sum, same := sha256.New(), &comparison{want: reference()[:readManifest(s.t).Slot]}
	n, err := io.Copy(io.MultiWriter(sum, same), resp.Body)
	if same.differs {
		s.t.Errorf("the image is not the base before the slot, in the %d bytes that came", n)
	}
	if err != nil {
		return fmt.Errorf("after %d bytes: %w", n, err)
	}
	if got, want := hex.EncodeToString(sum.Sum(nil)), s.published(matrixImage); got != want {
		s.t.Errorf("the image of %d bytes has sha256 %s, published is %s", n, got, want)
	}
	return nil
}

// A comparison is a writer that records whether the bytes differ from the wanted ones.
type comparison struct {
	want    []byte // the wanted bytes still to come; later bytes are not compared
	differs bool
}

// Write implements io.Writer.
func (c *comparison) Write(p []byte) (int, error) {
	n := min(len(p), len(c.want))
	c.differs = c.differs || !bytes.Equal(p[:n], c.want[:n])
	c.want = c.want[n:]
	return len(p), nil
}

// blocks is the cache's file of the base's blocks.
func (s *server) blocks() string {
	s.t.Helper()
	files, err := filepath.Glob(s.path("state/cache/*.blocks"))
	if err != nil || len(files) != 1 {
		s.t.Fatalf("cache files %v, %v", files, err)
	}
	return files[0]
}

// notKept checks that the block at this byte is not in the cache's file, or is right.
func (s *server) notKept(at int64) {
	s.t.Helper()
	f, err := os.Open(s.blocks())
	if err != nil {
		s.t.Fatal(err)
	}
	defer f.Close()
	size := readManifest(s.t).BlockSize
	first := at / size * size
	block := make([]byte, size)
	if _, err := f.ReadAt(block, first); err != nil {
		s.t.Fatal(err)
	}
	if !bytes.Equal(block, make([]byte, size)) && !bytes.Equal(block, reference()[first:first+size]) {
		s.t.Errorf("the block at %d was kept, and is wrong", first)
	}
}

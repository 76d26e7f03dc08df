package store

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"net/http"
	"path"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/s3"

	"aesthetic.computer/isofs/base"
	"aesthetic.computer/isofs/integration/s3test"
	"aesthetic.computer/isofs/origin"
)

const (
	partsSize = 8 << 20           // of the first part in a bucket
	imageSize = partsSize + 4<<10 // two parts
	day       = "2026-11-"
)

// places runs a test with each kind of store.
func places(t *testing.T, test func(t *testing.T, s Store)) {
	t.Run("folder", func(t *testing.T) {
		s, err := At(path.Join(t.TempDir(), "www"), origin.Options{})
		if err != nil {
			t.Fatal(err)
		}
		test(t, s)
	})
	t.Run("bucket", func(t *testing.T) {
		server := s3test.Start(t)
		t.Setenv("AWS_ACCESS_KEY_ID", s3test.Access)
		t.Setenv("AWS_SECRET_ACCESS_KEY", s3test.Secret)
		s, err := At("s3://"+s3test.Bucket+"/a/prefix", origin.Options{S3: origin.S3{Endpoint: server.Endpoint()}})
		if err != nil {
			t.Fatal(err)
		}
		test(t, s)
	})
}

// newBase makes a base of noise, which is not a disk: publishing does not check
// that.
func newBase(version string, seed byte) Publication {
	image := make([]byte, imageSize)
	for i := 0; i < len(image); i += 4096 {
		h := sha256.Sum256([]byte{seed, byte(i >> 12), byte(i >> 20)})
		copy(image[i:], h[:])
	}
	m := &base.Manifest{
		Version: version, Flavor: "tiny", Arch: "amd64", CreatedAt: "2026-11-01T00:00:00Z",
		PiecePartitionOffset: 4 << 20, PiecePartitionSize: 4 << 20, TotalSize: imageSize, Tail: image[partsSize:],
		SHA256: sha256.Sum256(image), BlockSize: base.BlockSize,
		Midstates: base.Midstates{SHA256: strings.Repeat("0a", 32), SHA1: strings.Repeat("0a", 20)},
	}
	for b := range slices.Chunk(image, base.BlockSize) {
		m.Blocks = append(m.Blocks, sha256.Sum256(b))
	}
	return Publication{Manifest: m, Image: bytes.NewReader(image), Keep: 3, Now: func() time.Time { return time.Unix(1793491200, 0) }}
}

// published publishes, and fails the test if that fails.
func published(t *testing.T, s Store, p Publication) Result {
	t.Helper()
	r, err := Publish(t.Context(), s, p)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// state returns what the channel names, and which versions exist, in days.
func state(t *testing.T, s Store) string {
	t.Helper()
	all, err := tiny(s).Versions(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var words []string
	c, _, _, err := tiny(s).readChannel(t.Context())
	if err == nil {
		words = append(words, strings.TrimPrefix(c.Current.Version, day))
		for _, e := range c.Previous {
			words = append(words, strings.TrimPrefix(e.Version, day))
		}
		// What a channel names is whole.
		for _, e := range append(c.Previous, c.Current) {
			if !slices.ContainsFunc(all, func(v Version) bool { return v.Name == e.Version && v.Whole && v.Size == imageSize }) {
				t.Errorf("the channel names %s, which is not whole: %v", e.Version, all)
			}
		}
	}
	words = append(words, "of")
	for _, v := range all {
		name := strings.TrimPrefix(v.Name, day)
		if !v.Whole {
			name += "?"
		}
		words = append(words, name)
	}
	return strings.Join(words, " ")
}

func is(t *testing.T, s Store, want string) {
	t.Helper()
	if got := state(t, s); got != want {
		t.Errorf("there is %q, want %q", got, want)
	}
}

// A hooked store does something before some calls.
type hooked struct {
	Store
	put    func(name string) error
	remove func(folder string) error
}

func (h hooked) Put(ctx context.Context, name string, data []byte, tag string) error {
	if h.put != nil {
		if err := h.put(name); err != nil {
			return err
		}
	}
	return h.Store.Put(ctx, name, data, tag)
}

func (h hooked) Remove(ctx context.Context, folder, first string) error {
	if h.remove != nil {
		if err := h.remove(folder); err != nil {
			return err
		}
	}
	return h.Store.Remove(ctx, folder, first)
}

var errKilled = errors.New("killed")

// A breaking image cannot be read behind its first part, when that was sent.
type breaking struct {
	io.ReaderAt
	sent func()
}

func (b breaking) ReadAt(p []byte, off int64) (int, error) {
	if off+int64(len(p)) > partsSize {
		b.sent()
		return 0, errKilled
	}
	return b.ReaderAt.ReadAt(p, off)
}

// counted reports the parts that a bucket has taken.
func counted(b *bucket, taken func()) {
	inner := b.client.Options().HTTPClient
	b.client = s3.New(b.client.Options(), func(o *s3.Options) {
		o.HTTPClient = doer(func(r *http.Request) (*http.Response, error) {
			resp, err := inner.Do(r)
			if r.Method == http.MethodPut && r.URL.Query().Has("partNumber") {
				taken()
			}
			return resp, err
		})
	})
}

type doer func(*http.Request) (*http.Response, error)

func (d doer) Do(r *http.Request) (*http.Response, error) { return d(r) }

// tiny is the place of the bases of these tests at a store.
func tiny(s Store) Place { return Place{Store: s, Flavor: "tiny", Arch: "amd64"} }

// tinyAt is tiny with a signer, at a fixed time.
func tinyAt(s Store, sign Signer, now time.Time) Place {
	p := tiny(s)
	p.Sign, p.Now = sign, func() time.Time { return now }
	return p
}

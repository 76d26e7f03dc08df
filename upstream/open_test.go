package upstream

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"aesthetic.computer/isofs/base"
	"aesthetic.computer/isofs/cache"
	"aesthetic.computer/isofs/fault"
	"aesthetic.computer/isofs/origin"
	"aesthetic.computer/isofs/store"
)

// publish publishes a base of noise in a folder, and returns its image.
func publish(t *testing.T, folder, version string, seed byte) []byte {
	t.Helper()
	const slot = 1 << 20
	image := make([]byte, 2*slot+4096)
	for i := 0; i < len(image); i += 4096 {
		h := sha256.Sum256([]byte{seed, byte(i >> 12), byte(i >> 20)})
		copy(image[i:], h[:])
	}
	m := &base.Manifest{
		Version: version, Flavor: "tiny", Arch: "amd64", CreatedAt: "2026-11-01T00:00:00Z",
		PiecePartitionOffset: slot, PiecePartitionSize: slot, TotalSize: int64(len(image)), Tail: image[2*slot:],
		SHA256: sha256.Sum256(image), BlockSize: base.BlockSize,
		Midstates: base.Midstates{SHA256: strings.Repeat("0a", 32), SHA1: strings.Repeat("0a", 20)},
	}
	for b := range slices.Chunk(image, base.BlockSize) {
		m.Blocks = append(m.Blocks, sha256.Sum256(b))
	}
	at, err := store.At(folder, origin.Options{})
	if err == nil {
		_, err = store.Publish(t.Context(), at, store.Publication{
			Manifest: m, Image: bytes.NewReader(image), Keep: 3, Now: func() time.Time { return time.Unix(1793491200, 0) },
		})
	}
	if err != nil {
		t.Fatal(err)
	}
	return image
}

// open opens a Registry with a cache in memory.
func open(t *testing.T, c Config) *Registry {
	t.Helper()
	blocks, err := cache.Open(cache.Config{Memory: true, MaxBytes: 16 << 20, Fetches: 2})
	if err != nil {
		t.Fatal(err)
	}
	c.Blocks, c.Origin.Timeout = blocks, time.Minute
	r, err := Open(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(blocks.Close(), r.Close()); err != nil {
			t.Error(err)
		}
	})
	return r
}

// has fails the test if a base does not have the bytes of image.
func has(t *testing.T, b *Base, image []byte) {
	t.Helper()
	got, err := io.ReadAll(io.NewSectionReader(b.File, 0, int64(len(image))))
	if err != nil || !bytes.Equal(got, image) {
		t.Errorf("%d bytes of another base: %v", len(got), err)
	}
}

// TestOpenByAddress: a base is opened where it is published; later also by its
// digest, and without its server. Fetch keeps nothing.
func TestOpenByAddress(t *testing.T) {
	folder := t.TempDir()
	image := publish(t, folder, "2026-11-01", 1)
	var refuse atomic.Bool
	files := http.FileServer(http.Dir(folder))
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if refuse.Load() {
			w.WriteHeader(http.StatusForbidden)
			return
		}
		files.ServeHTTP(w, r)
	}))
	defer server.Close()
	config := Config{Dir: filepath.Join(t.TempDir(), "bases"), Address: server.URL + "/bases/tiny/amd64/2026-11-01"}

	r := open(t, config)
	if err := r.Probe(t.Context()); err != nil {
		t.Error(err)
	}
	fetched, err := r.Fetch(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(config.Dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("what is only fetched is kept: %v", err)
	}
	first, err := r.Start(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	has(t, first.Base, image)
	known, err := r.ByDigest(sha256.Sum256(image))
	if err != nil || known != first.Base || known != fetched || first.Address != config.Address || first.Revision() != 0 || len(r.Origins()) != 1 {
		t.Errorf("%+v, %+v, %v", first, known, err)
	}
	if _, err := r.ByDigest(base.Hash{1}); !errors.Is(err, fault.NotFound) {
		t.Errorf("a base that was never opened: %v", err)
	}

	// A later run, and the server refuses.
	refuse.Store(true)
	r = open(t, config)
	if known, err := r.ByDigest(sha256.Sum256(image)); err != nil || known.Image().Manifest.Version != "2026-11-01" {
		t.Errorf("%+v, %v", known, err)
	}
	r = open(t, config)
	again, err := r.Start(t.Context())
	if err != nil || again.Manifest.SHA256 != sha256.Sum256(image) {
		t.Errorf("%+v, %v", again, err)
	}
	refuse.Store(false)
	has(t, again.Base, image)

	// Nothing is recorded for another address.
	refuse.Store(true)
	_, err = r.ByAddress(t.Context(), server.URL+"/other")
	if all := fault.AsSettings(err); !errors.Is(err, fault.Unavailable) || len(all) != 1 || all[0].Setting != SettingAddress {
		t.Errorf("another address: %v", err)
	}
	if err := r.Probe(t.Context()); !errors.Is(err, fault.Unavailable) {
		t.Errorf("a probe: %v", err)
	}
}

// TestFollowAChannel: the base is the one that the channel names, also for a start
// without the channel.
func TestFollowAChannel(t *testing.T) {
	folder := t.TempDir()
	one := publish(t, folder, "2026-11-01", 1)
	config := Config{
		Dir: filepath.Join(t.TempDir(), "bases"), Log: slog.New(slog.DiscardHandler),
		Channel: ChannelConfig{Address: folder + "/channels/tiny-amd64.json", Poll: time.Hour},
	}
	r := open(t, config)
	if err := r.Probe(t.Context()); err != nil {
		t.Error(err)
	}
	first, err := r.Start(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	has(t, first.Base, one)
	if same, err := r.Follower().Follow(t.Context(), first); err != nil || same.Base != first.Base {
		t.Errorf("%+v, %v", same, err)
	}
	two := publish(t, folder, "2026-11-02", 2)
	next, err := r.Follower().Follow(t.Context(), first)
	if err != nil || next.Revision() != first.Revision()+1 || !strings.HasSuffix(next.Address, "2026-11-02") {
		t.Fatalf("%+v, %v", next, err)
	}
	has(t, next.Base, two)
	// Run looks again after LookAgain.
	ctx, cancel := context.WithCancel(t.Context())
	looks := 0
	r.Follower().LookAgain()
	r.Follower().Run(ctx, func(context.Context) error {
		looks++
		cancel()
		return nil
	})
	if looks != 1 {
		t.Errorf("%d looks", looks)
	}

	// A later run, after the channel was removed.
	if err := os.Remove(config.Channel.Address); err != nil {
		t.Fatal(err)
	}
	again, err := open(t, config).Start(t.Context())
	if err != nil || again.Manifest.SHA256 != sha256.Sum256(two) || again.Revision() != next.Revision() {
		t.Errorf("%+v, %v", again, err)
	}
}

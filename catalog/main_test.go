package catalog

import (
	"bytes"
	"context"
	"crypto/sha1"
	"crypto/sha256"
	"encoding"
	"encoding/hex"
	"fmt"
	"hash"
	"io"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"aesthetic.computer/isofs/base"
	"aesthetic.computer/isofs/bundle"
	"aesthetic.computer/isofs/extent"
	"aesthetic.computer/isofs/fault"
	"aesthetic.computer/isofs/image"
	"aesthetic.computer/isofs/piece"
)

// epoch is when tests begin, a day after the bases were made.
var epoch = time.Date(2026, 11, 2, 0, 0, 0, 0, time.UTC)

const (
	slotStart = 64 << 10
	slotSize  = 1 << 20
	tailSize  = 4 << 10
)

// newBase makes a base of noise, a different one for each seed.
func newBase(seed byte) image.Base {
	data := make([]byte, slotStart+slotSize+tailSize)
	_, _ = rand.NewChaCha8([32]byte{seed}).Read(data)
	state := func(h hash.Hash) string {
		h.Write(data[:slotStart])
		marshaled, err := h.(encoding.BinaryMarshaler).MarshalBinary()
		if err != nil {
			panic(err)
		}
		return hex.EncodeToString(marshaled[4 : 4+h.Size()])
	}
	return image.Base{Bytes: extent.Bytes(data), Manifest: &base.Manifest{
		Version: fmt.Sprintf("2026-11-01.%d", seed), Flavor: "tiny", Arch: "amd64", CreatedAt: "2026-11-01T00:00:00Z",
		PiecePartitionOffset: slotStart, PiecePartitionSize: slotSize, TotalSize: int64(len(data)),
		SHA256: sha256.Sum256(data), Tail: data[slotStart+slotSize:],
		Midstates: base.Midstates{SHA256: state(sha256.New()), SHA1: state(sha1.New())},
	}}
}

// A clock moves only when a test advances it.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) add(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// A bakery is a source that reports changed bundles, like a directory.
type bakery struct {
	mu      sync.Mutex
	has     map[string]baked
	err     error         // of every fetch
	gate    chan struct{} // if not nil, fetches wait until it is closed
	started chan string   // if not nil, gets the name at every fetch
	fetches int
}

type baked struct {
	html string
	time time.Time
}

func newBakery() *bakery { return &bakery{has: map[string]baked{}} }

func (b *bakery) bake(name, html string, at time.Time) {
	b.set(func() { b.has[name] = baked{html, at} })
}

func (b *bakery) set(change func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	change()
}

func (b *bakery) count() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.fetches
}

func (b *bakery) Fetch(ctx context.Context, name piece.Name, w io.Writer, limit int64) (bundle.Info, error) {
	b.mu.Lock()
	b.fetches++
	gate, started := b.gate, b.started
	b.mu.Unlock()
	if started != nil {
		started <- name.String()
	}
	if gate != nil {
		select {
		case <-gate:
		case <-ctx.Done():
			return bundle.Info{}, fmt.Errorf("%w: %w", fault.Unavailable, context.Cause(ctx))
		}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	it, ok := b.has[name.String()]
	switch {
	case b.err != nil:
		_, _ = io.WriteString(w, "half of a")
		return bundle.Info{}, b.err
	case !ok:
		return bundle.Info{}, fmt.Errorf("no %s: %w", name, fault.NotFound)
	case int64(len(it.html)) > limit:
		return bundle.Info{}, &bundle.TooLargeError{Name: name, Limit: limit}
	}
	if _, err := io.WriteString(w, it.html); err != nil {
		return bundle.Info{}, err
	}
	return bundle.Info{SHA256: sha256.Sum256([]byte(it.html)), Size: int64(len(it.html)), ModTime: it.time, Title: name.String()}, nil
}

func (b *bakery) Names(context.Context) ([]piece.Name, error) { return nil, nil }

func (b *bakery) Changed(_ context.Context, name piece.Name, info bundle.Info, _ time.Duration) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	it, ok := b.has[name.String()]
	return !ok || b.err != nil || sha256.Sum256([]byte(it.html)) != info.SHA256 || !it.time.Equal(info.ModTime)
}

// A rig is a catalog with its surroundings.
type rig struct {
	*Catalog
	t      *testing.T
	clock  *clock
	source *bakery
	config Config
	log    *bytes.Buffer
}

func newRig(t *testing.T, limits Limits) *rig {
	r := &rig{t: t, clock: &clock{now: epoch}, source: newBakery(), log: new(bytes.Buffer)}
	if limits.RefreshWait == 0 {
		limits.RefreshWait = time.Hour // an answer does not depend on how busy the machine is
	}
	r.config = Config{
		Dir: t.TempDir(), Base: newBase(1), Source: r.source, Limits: limits, Now: r.clock.Now,
		Log: slog.New(slog.NewTextHandler(r.log, nil)),
	}
	r.open()
	t.Cleanup(func() { r.Close() })
	return r
}

func (r *rig) open() {
	r.t.Helper()
	c, err := Open(r.config)
	if err != nil {
		r.t.Fatal(err)
	}
	r.Catalog = c
}

// restart closes the catalog and opens it again, with the present
// configuration.
func (r *rig) restart() {
	r.t.Helper()
	if err := r.Close(); err != nil {
		r.t.Fatal(err)
	}
	r.open()
}

func name(s string) piece.Name {
	n, err := piece.ParseName(s)
	if err != nil {
		panic(err)
	}
	return n
}

// current returns the piece's snapshot, or fails the test.
func (r *rig) current(piece string) *Snapshot {
	r.t.Helper()
	s, err := r.Current(r.t.Context(), name(piece))
	if err != nil {
		r.t.Fatal(err)
	}
	return s
}

// baked bakes a piece now, and returns its snapshot.
func (r *rig) baked(piece, html string) *Snapshot {
	r.t.Helper()
	r.source.bake(piece, html, r.clock.Now())
	s := r.current(piece)
	wantBundle(r.t, s, html)
	return s
}

// wantBundle wants the snapshot to have this bundle.
func wantBundle(t testing.TB, s *Snapshot, html string) {
	t.Helper()
	if s.Bundle() != base.Hash(sha256.Sum256([]byte(html))) {
		t.Fatalf("snapshot %s of %s is not made of %q", s.ID(), s.Piece(), html)
	}
}

// wantOpen wants the image to open, to contain html, and to have its digest.
func wantOpen(t testing.TB, s *Snapshot, html string) {
	t.Helper()
	h, err := s.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	wantImage(t, h, s, html)
}

func wantImage(t testing.TB, h *Handle, s *Snapshot, html string) {
	t.Helper()
	if err := compareImage(h, s, html); err != nil {
		t.Fatal(err)
	}
}

// compareImage reads a whole image.
func compareImage(h *Handle, s *Snapshot, html string) error {
	data := make([]byte, h.Size())
	if n, err := h.ReadAt(data, 0); n < len(data) {
		return err
	}
	if sha256.Sum256(data) != s.SHA256() || !bytes.Contains(data[slotStart:], []byte(html)) {
		return fmt.Errorf("the image of snapshot %s has not the digest that it tells, or not its bundle", s.ID())
	}
	return nil
}

// wantIDs wants these snapshots to be retained and no others.
func (r *rig) wantIDs(snapshots ...*Snapshot) {
	r.t.Helper()
	want := make([]string, 0, len(snapshots))
	for _, s := range snapshots {
		want = append(want, s.ID())
	}
	slices.Sort(want)
	if got := r.IDs(); !slices.Equal(got, want) {
		r.t.Errorf("retained are %v, want %v", got, want)
	}
}

// wantStored wants n bundles to be on disk.
func (r *rig) wantStored(n int) {
	r.t.Helper()
	if stored, err := r.disk.bundles.List(); err != nil || len(stored) != n {
		r.t.Errorf("%d bundles on disk (%v), want %d", len(stored), err, n)
	}
}

package origin

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"aesthetic.computer/isofs/cache"
)

var _ cache.Origin = (*Mirrors)(nil)

// cached puts a cache before the mirrors of content.
func cached(t *testing.T, m *Mirrors, block int64) (*cache.Cache, *cache.File) {
	t.Helper()
	blocks, err := cache.Open(cache.Config{Dir: t.TempDir(), MaxBytes: 1 << 20, Log: slog.New(slog.DiscardHandler)})
	must(t, err)
	id := sha256.Sum256(content)
	blob := cache.Blob{ID: hex.EncodeToString(id[:]), Size: int64(len(content)), BlockSize: block}
	for off := int64(0); off < blob.Size; off += block {
		blob.Sums = append(blob.Sums, sha256.Sum256(content[off:min(off+block, blob.Size)]))
	}
	file, err := blocks.Blob(blob, m)
	must(t, err)
	return blocks, file
}

// A block that one mirror has wrong comes from the other, and readers do not
// notice. The liar gets no other request meanwhile.
func TestWrongBlockComesFromAnotherMirror(t *testing.T) {
	for liars := 1; liars <= 3; liars++ {
		synctest.Test(t, func(t *testing.T) {
			var fakes []*fake
			for i := range liars {
				fakes = append(fakes, &fake{name: fmt.Sprint("liar ", i), does: lying(50_000)})
			}
			good := &fake{name: "good"}
			m, l := over(t, MirrorOptions{}, append(fakes, good)...)
			blocks, file := cached(t, m, 4096)
			p := make([]byte, len(content))
			if _, err := file.ReadAt(p, 0); err != nil && err != io.EOF {
				t.Errorf("%d liars: %v", liars, err)
			}
			if !bytes.Equal(p, content) {
				t.Errorf("%d liars: wrong bytes", liars)
			}
			if n := l.lines("origin set aside: it gave wrong bytes"); n != liars {
				t.Errorf("%d liars: %d lines in the log", liars, n)
			}
			must(t, blocks.Close())
			must(t, m.Close())
		})
	}
}

// lying gives the right length, and one wrong byte.
func lying(at int64) func(context.Context, int, []byte, int64, func(int)) error {
	return func(_ context.Context, _ int, p []byte, off int64, got func(int)) error {
		spoil(p, off, at, got)
		return errDone
	}
}

// A trait is what a mirror of the property test may do, at random.
type trait struct{ fails, breaks, lies, slow, hangs bool }

// TestMirrorsUnderTheCache: whatever mirrors do, a read is right or an error.
// It is right if one mirror neither fails nor lies, however slow that one is.
func TestMirrorsUnderTheCache(t *testing.T) {
	for seed := range uint64(60) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { testMirrorsUnderTheCache(t, seed) })
		})
	}
}

func testMirrorsUnderTheCache(t *testing.T, seed uint64) {
	r := rand.New(rand.NewPCG(seed, 3))
	flip := func() bool { return r.IntN(2) == 0 }
	var fakes []*fake
	good := false
	for i := range 1 + r.IntN(4) {
		tr := trait{fails: flip(), breaks: flip(), lies: flip(), slow: flip(), hangs: r.IntN(4) == 0}
		if i == r.IntN(3) {
			tr = trait{slow: flip()}
		}
		good = good || tr == trait{slow: tr.slow}
		fakes = append(fakes, &fake{name: fmt.Sprintf("%d %+v", i, tr), does: tr.does(rand.New(rand.NewPCG(seed, uint64(i))))})
	}
	// A Fetch over all lasts as long as it takes to try each.
	m, l := over(t, MirrorOptions{Options: Options{Timeout: 5 * time.Minute}}, fakes...)
	blocks, file := cached(t, m, 4096)
	var all sync.WaitGroup
	for i := range 4 {
		r := rand.New(rand.NewPCG(seed, 100+uint64(i)))
		all.Go(func() {
			for range 15 {
				off := r.Int64N(int64(len(content)) - 1)
				p := make([]byte, 1+r.Int64N(min(40_000, int64(len(content))-off)))
				n, err := file.ReadAt(p, off)
				if !bytes.Equal(p[:n], content[off:off+int64(n)]) {
					t.Errorf("%d bytes at %d: wrong bytes", n, off)
				}
				if (err != nil && err != io.EOF || n < len(p)) && good {
					t.Errorf("one mirror is good, and %d bytes at %d: %d, %v", len(p), off, n, err)
				}
			}
		})
	}
	all.Wait()
	if t.Failed() {
		t.Logf("%s", l.text.String())
	}
	must(t, blocks.Close())
	must(t, m.Close())
	for _, f := range fakes {
		if f.active != 0 {
			t.Errorf("%s: %d requests are left", f.name, f.active)
		}
	}
}

func (tr trait) does(r *rand.Rand) func(context.Context, int, []byte, int64, func(int)) error {
	var mu sync.Mutex // guards r
	draw := func(n int) int { mu.Lock(); defer mu.Unlock(); return r.IntN(n) }
	return func(ctx context.Context, n int, p []byte, off int64, got func(int)) error {
		if tr.slow && draw(4) == 0 && sleep(ctx, time.Duration(draw(3000))*time.Millisecond) != nil {
			return canceled(ctx)
		}
		switch does := draw(8); {
		case tr.hangs && does == 0:
			within, cancel := context.WithTimeout(ctx, 30*time.Second) // as origins do
			defer cancel()
			return hangs(within, n, p, off, got)
		case tr.fails && does < 3:
			return []error{errOff, changed("now"), wrong(errOff, "other range"), fmt.Errorf("%w: %w", errOff, errStalled)}[draw(4)]
		case tr.breaks && does < 5:
			if tr.lies && draw(2) == 0 {
				spoil(p[:len(p)/2], off, off+int64(draw(len(p)/2+1)), got)
				return errOff
			}
			return breaks(len(p)/2, errOff)(ctx, n, p, off, got)
		case tr.lies && does < 7:
			spoil(p, off, off+int64(draw(len(p))), got)
			return errDone
		}
		// In steps, with a pause between them.
		for at := 5000; at < len(p); at += 5000 {
			copy(p[at-5000:at], content[off+int64(at)-5000:])
			got(at)
			if tr.slow && draw(8) == 0 && sleep(ctx, time.Duration(draw(1000))*time.Millisecond) != nil {
				return canceled(ctx)
			}
		}
		return nil
	}
}

// spoil gives bytes, of which the one at offset at is wrong.
func spoil(p []byte, off, at int64, got func(int)) {
	copy(p, content[off:])
	if i := at - off; i >= 0 && i < int64(len(p)) {
		p[i] ^= 0x40
	}
	got(len(p))
}

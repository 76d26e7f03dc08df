package cache

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/time/rate"

	"aesthetic.computer/isofs/fault"
	"aesthetic.computer/isofs/integration/testkit"
)

// TestTollOfSmallReads: readers of a byte here and there make the origin send the base
// once, and then no more than allowed. Others do not notice.
func TestTollOfSmallReads(t *testing.T) {
	const blockSize, blocks = 64 * kib, 64
	src := newSource(1, blocks*blockSize, blockSize)
	log := &bytes.Buffer{}
	s := openCache(t, Config{MaxBytes: 8 * blockSize, Log: slog.New(slog.NewTextHandler(log, nil))})
	f := openBlob(t, s, src)
	if text := log.String(); !strings.Contains(text, "larger than the cache") || !strings.Contains(text, "size=4194304 cache_size=524288") {
		t.Errorf("of a base that does not fit the log says %q", text)
	}
	const allowed = 10 * blockSize
	s.fetch.toll.Limiter = rate.NewLimiter(0, allowed)
	small := func() (refused int) {
		for i := range int64(blocks) {
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			n, err := f.ReadAtContext(ctx, make([]byte, 1), i*blockSize)
			if errors.Is(err, fault.Unavailable) && n == 0 {
				refused++
			} else if err != nil {
				t.Fatal(err)
			}
		}
		return refused
	}
	if refused := small(); refused != 0 || s.Stats().FetchedBytes != blocks*blockSize {
		t.Fatalf("%d refused of what was never there, %d bytes fetched", refused, s.Stats().FetchedBytes)
	}
	refused := 0
	for range 20 {
		refused += small()
	}
	if again := s.Stats().FetchedBytes - blocks*blockSize; again > allowed+blockSize || refused < 20*(blocks-8)-11 {
		t.Errorf("%d bytes were fetched again for some hundred bytes, %d allowed; %d refused", again, allowed, refused)
	}
	if s.Stats().Delayed != uint64(refused) || strings.Count(log.String(), "small reads wait") != 1 {
		t.Errorf("%d delayed; the log says\n%s", s.Stats().Delayed, log)
	}
	// Downloads, and reads of a 64th of a block.
	src.check(t, f, 0, blocks*blockSize)
	for i := range int64(blocks) {
		src.check(t, f, i*blockSize+5, blockSize/tollFree)
		if _, _, release, err := f.Pin(t.Context(), i*blockSize, blockSize/tollFree); err != nil {
			t.Fatal(err)
		} else {
			release()
		}
	}
}

// TestTollIsForWhatWasEvicted: a base that fits pays nothing, however small the reads are.
func TestTollIsForWhatWasEvicted(t *testing.T) {
	const blockSize, blocks = 64 * kib, 64
	src := newSource(1, blocks*blockSize, blockSize)
	s := openCache(t, Config{MaxBytes: 2 * blocks * blockSize})
	s.fetch.toll.Limiter = rate.NewLimiter(0, 0)
	f := openBlob(t, s, src)
	for range 3 {
		for i := range int64(blocks) {
			src.check(t, f, i*blockSize+i, 1)
		}
	}
}

// TestTollHoldsFewReaders: however many small reads there are, few wait, and a download
// continues beside them.
func TestTollHoldsFewReaders(t *testing.T) {
	const blockSize, blocks = 64 * kib, 64
	src := newSource(1, blocks*blockSize, blockSize)
	s := openCache(t, Config{MaxBytes: 8 * blockSize})
	f := openBlob(t, s, src)
	src.check(t, f, 0, blocks*blockSize)
	// As after a burst: one block's worth comes in an hour.
	s.fetch.toll.Limiter = rate.NewLimiter(rate.Limit(blockSize)/3600, blockSize)
	s.fetch.toll.AllowN(time.Now(), blockSize)
	ctx, cancel := context.WithCancel(t.Context())
	var refused, ended atomic.Int32
	var all sync.WaitGroup
	for i := range int64(40) {
		all.Go(func() {
			if _, err := f.ReadAtContext(ctx, make([]byte, 1), i*blockSize); errors.Is(err, fault.Unavailable) && ctx.Err() == nil {
				refused.Add(1)
			}
			ended.Add(1)
		})
	}
	testkit.Eventually(t, "all but a few to end", func() bool { return ended.Load() == 40-tollQueue })
	if n := refused.Load(); n < 40-tollQueue-8 { // 8 blocks are at hand
		t.Errorf("%d were refused", n)
	}
	src.check(t, f, 0, blocks*blockSize)
	cancel()
	all.Wait()
}

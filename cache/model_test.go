package cache

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"

	"aesthetic.computer/isofs/fault"
	"golang.org/x/time/rate"
)

// A model is a cache under random use, beside the bytes that it should return.
// Whatever happens, a read is right or an error.
type model struct {
	t       *testing.T
	r       *rand.Rand
	dir     string
	limit   int64
	fetches int
	sources []*source
	origin  atomic.Int64 // what the origins do now

	memory   bool
	full     *atomic.Pointer[error] // what the disk answers
	cache    *Cache
	files    []*File
	releases []func() // of what is pinned, after comparing it again
}

// What an origin may do.
const (
	good int64 = iota
	flips
	fails
	mixed // any of the above, and other bases' bytes
	origins
)

func newModel(t *testing.T, seed uint64, memory bool) *model {
	r := rand.New(rand.NewPCG(seed, 7))
	lookFor(t, 1+r.IntN(20))
	m := &model{t: t, r: r, dir: t.TempDir(), memory: memory, fetches: 1 + r.IntN(4), limit: (1 + r.Int64N(24)) * 64 * kib}
	m.sources = []*source{newSource(1, 1<<20+1+r.Int64N(100_000), 64*kib), newSource(2, 777_777, 4*kib), newSource(3, 1<<20, 256*kib)}
	for i, src := range m.sources {
		src.spoil = func(p []byte, _, call int64) error {
			does := m.origin.Load()
			if does == mixed {
				does = call % origins
			}
			switch does {
			case flips:
				p[call%int64(len(p))] ^= 16
			case fails:
				return errOff
			case mixed:
				copy(p, m.sources[(i+1)%len(m.sources)].data)
			}
			return nil
		}
	}
	m.open()
	t.Cleanup(func() { m.cache.Close() })
	return m
}

func (m *model) open() {
	c := Config{Dir: m.dir, MaxBytes: m.limit, Fetches: m.fetches}
	if m.memory {
		c.Dir, c.Memory = "", true
	}
	m.cache = openCache(m.t, c)
	m.cache.fetch.toll.SetLimit(rate.Inf) // it depends on the clock, and other tests cover it
	m.full = refuse(m.cache)
	later(m.cache, 0)
	m.files = nil
	for _, src := range m.sources {
		m.files = append(m.files, openBlob(m.t, m.cache, src))
	}
}

// reader does random reads; each goroutine has its own.
type reader struct {
	*model
	r *rand.Rand
}

// pick returns a random range of a random base, more often a small one.
func (r reader) pick() (k int, off, n int64) {
	k = r.r.IntN(len(r.files))
	size := r.files[k].Size()
	off = r.r.Int64N(size)
	n = 1 + r.r.Int64N(min(size-off, int64(1)<<r.r.IntN(21)))
	return k, off, n
}

// allowed checks an error: only bad origins may cause one.
func (r reader) allowed(err error, was int64) {
	if was == good && r.origin.Load() == good {
		r.t.Errorf("with good origins: %v", err)
	}
	if !errors.Is(err, errOff) && !errors.Is(err, fault.Corrupt) {
		r.t.Errorf("neither the origin's error nor corrupt: %v", err)
	}
}

func (r reader) read() {
	k, off, n := r.pick()
	was := r.origin.Load()
	p := make([]byte, n+r.r.Int64N(100))
	got, err := r.files[k].ReadAt(p, off)
	if !bytes.Equal(p[:got], r.sources[k].data[off:off+int64(got)]) {
		r.t.Errorf("read %d bytes at %d of base %d: wrong bytes", n, off, k)
	}
	if err == io.EOF {
		if off+int64(got) != r.files[k].Size() {
			r.t.Errorf("early EOF")
		}
	} else if err != nil {
		r.allowed(err, was)
	} else if got != len(p) {
		r.t.Errorf("short read without an error")
	}
}

// leave reads and gives up at some moment.
func (r reader) leave() {
	k, off, n := r.pick()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { cancel(); close(done) }()
	p := make([]byte, n)
	got, err := r.files[k].ReadAtContext(ctx, p, off)
	if !bytes.Equal(p[:got], r.sources[k].data[off:off+int64(got)]) {
		r.t.Errorf("wrong bytes for a reader who left")
	}
	if err == nil && got != len(p) {
		r.t.Errorf("short read without an error")
	}
	<-done
}

// pin pins a range, and returns a function that compares and releases it.
func (r reader) pin() func() {
	k, off, n := r.pick()
	was := r.origin.Load()
	file, at, release, err := r.files[k].Pin(context.Background(), off, n)
	if err != nil {
		r.allowed(err, was)
	}
	if file == nil {
		return release
	}
	return func() {
		p := make([]byte, n)
		if _, err := file.ReadAt(p, at); err != nil || !bytes.Equal(p, r.sources[k].data[off:off+n]) {
			r.t.Errorf("pinned %d bytes at %d of base %d: wrong bytes, error %v", n, off, k, err)
		}
		release()
	}
}

func (m *model) releaseAll() {
	for _, f := range m.releases {
		f()
	}
	m.releases = nil
}

func (m *model) step() {
	r := reader{m, m.r}
	switch m.r.IntN(24) {
	default:
		r.read()
	case 0, 1, 2, 3, 4:
		m.releases = append(m.releases, r.pin())
	case 5, 6:
		m.releaseAll()
	case 7, 8, 9:
		// Flights of readers that left may still run, and others join them.
		m.cache.fetch.pulls.Wait()
		m.origin.Store([]int64{good, good, m.r.Int64N(origins)}[m.r.IntN(3)])
	case 10:
		r.leave()
	case 11:
		if !m.memory && m.r.IntN(3) == 0 {
			m.reopen()
		}
	case 12, 13:
		k, off, n := r.pick()
		m.files[k].Prefetch(off, n)
	case 14:
		m.fill()
	case 15:
		m.rot()
	case 16:
		m.disk()
	}
	m.checkLimit()
}

// checkLimit holds the lock of writers while it looks at the files one by one.
// Otherwise a block could be evicted from the first and written to the second,
// and count twice.
func (m *model) checkLimit() {
	m.cache.disk.mu.Lock()
	defer m.cache.disk.mu.Unlock()
	if got := taken(m.t, m.cache); got > m.limit {
		m.t.Errorf("%d bytes on disk, the limit is %d", got, m.limit)
	}
	if got := m.cache.Stats().DiskBytes; got > uint64(m.limit) {
		m.t.Errorf("%d bytes accounted, the limit is %d", got, m.limit)
	}
}

const seeds = 16

func TestModel(t *testing.T) {
	for seed := range uint64(seeds) {
		memory := seed%4 == 3
		t.Run(fmt.Sprintf("seed %d, memory %v", seed, memory), func(t *testing.T) {
			m := newModel(t, seed, memory)
			for i := 0; i < 250 && !t.Failed(); i++ {
				m.step()
			}
			m.releaseAll()
			m.settled()
		})
	}
}

// settled checks that nothing is left over after the last reader.
func (m *model) settled() {
	m.cache.fetch.pulls.Wait()
	x := m.cache.index
	for _, b := range x.all() {
		m.cache.disk.look(b, 0, len(b.blocks)-1) // where the background did not come yet
	}
	if x.pinned != 0 || m.cache.Stats().InflightBytes != 0 || m.cache.Stats().Inflight != 0 {
		m.t.Errorf("%d pins, %d bytes of buffers, %d fetches are left", x.pinned, m.cache.Stats().InflightBytes, m.cache.Stats().Inflight)
	}
	used := int64(0)
	for _, b := range x.all() {
		blocks := int64(0)
		for i := range b.blocks {
			if b.blocks[i].flight != nil || b.blocks[i].pins != 0 {
				m.t.Errorf("block %d has a flight or %d pins", i, b.blocks[i].pins)
			}
			if b.blocks[i].state != absent {
				blocks++
			}
			if (b.blocks[i].state != absent) != x.recent.Contains(place{b, i}) {
				m.t.Errorf("block %d is in state %d", i, b.blocks[i].state)
			}
		}
		if b.disk.space.blocks != blocks {
			m.t.Errorf("%d blocks accounted, there are %d", b.disk.space.blocks, blocks)
		}
		used += b.disk.space.bytes()
	}
	if got := m.cache.disk.used.Load(); got != used || got < taken(m.t, m.cache) {
		m.t.Errorf("%d bytes accounted, the bases add up to %d, on disk are %d", got, used, taken(m.t, m.cache))
	}
}

// mix is one of many goroutines that read at the same time.
func (m *model) mix(seed uint64, times int) {
	r := reader{m, rand.New(rand.NewPCG(seed, 1))}
	release := func() {}
	for range times {
		switch r.r.IntN(6) {
		default:
			r.read()
		case 0, 1:
			release()
			release = r.pin()
		case 2:
			r.leave()
		}
	}
	release()
}

func TestManyAtOnce(t *testing.T) {
	for seed := range uint64(seeds / 2) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			m := newModel(t, 100+seed, seed%3 == 2)
			stop := make(chan struct{})
			var watch, all sync.WaitGroup
			watch.Go(func() {
				for {
					select {
					case <-stop:
						return
					default:
					}
					m.checkLimit()
				}
			})
			for i := range 8 {
				all.Go(func() { m.mix(seed*100+uint64(i), 60) })
			}
			all.Wait()
			close(stop)
			watch.Wait()
			m.settled()
		})
	}
}

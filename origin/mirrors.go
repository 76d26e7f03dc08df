package origin

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"aesthetic.computer/isofs/fault"
)

// Mirrors are several origins of one object behind the interface of one; one
// alone is allowed, too. What is wanted is asked of the first in order of
// preference that is in order. What it leaves over when it fails the next one
// is asked for, until all have failed, and then again those whose failure may
// pass, within one deadline. Who fails is set aside for a while (health), and
// an answer that is late is asked for a second time (race).
type Mirrors struct {
	o     Options // of one Fetch over all of them
	log   *slog.Logger
	hedge bool
	pace  pace
	given given

	mu  sync.Mutex // guards the health of all
	all []*mirror  // in order of preference

	seconds sync.WaitGroup  // second requests under way
	ctx     context.Context // ends by stop, in Close
	stop    context.CancelFunc
}

var _ Origin = (*Mirrors)(nil)

// A mirror is one of the origins.
type mirror struct {
	Origin
	index  int
	health health // guarded by Mirrors.mu

	fetches, failures, bytes atomic.Uint64
}

// MirrorOptions say how Mirrors behave. A zero field means its default.
type MirrorOptions struct {
	Options Options      // of a Fetch over all; each of several makes one attempt at a time
	NoHedge bool         // never ask a second time for what is late
	Log     *slog.Logger // told when an origin is set aside, and when it is used again
}

// OpenMirrors opens the object of size bytes at each of the addresses, of which
// there is at least one, in order of preference. Errors are those of Open.
func OpenMirrors(o MirrorOptions, size int64, addresses ...string) (*Mirrors, error) {
	each := o.Options.withDefaults()
	// Where there are others, they are the second attempt.
	each.once = len(addresses) > 1
	each.sleep = pausing(each.sleep)
	var origins []Origin
	for _, address := range addresses {
		opened, err := each.Open(address, size)
		if err != nil {
			return nil, errors.Join(err, closeAll(origins))
		}
		origins = append(origins, opened)
	}
	if len(origins) == 0 {
		return nil, fmt.Errorf("open origin: %w: no address", fault.Invalid)
	}
	return NewMirrors(o, origins...), nil
}

// NewMirrors makes Mirrors of origins that are open, at least one. Close closes
// them.
func NewMirrors(o MirrorOptions, origins ...Origin) *Mirrors {
	m := &Mirrors{o: o.Options.withDefaults(), log: o.Log, hedge: !o.NoHedge}
	if m.log == nil {
		m.log = slog.New(slog.DiscardHandler)
	}
	m.pace.credit = hedgeBurst * hedgeShare
	m.ctx, m.stop = context.WithCancel(context.Background())
	for i, origin := range origins {
		m.all = append(m.all, &mirror{Origin: origin, index: i})
	}
	return m
}

// Fetch implements Origin.
func (m *Mirrors) Fetch(ctx context.Context, p []byte, off int64) error {
	f := m.tour(p, off)
	// What came wrong is not made up of two origins' bytes again: who gave
	// them could not be said.
	f.whole = m.given.doubted(off, int64(len(p)), time.Now())
	return f.run(ctx)
}

// FetchStream implements Origin.
func (m *Mirrors) FetchStream(ctx context.Context, p []byte, off int64, got func(n int)) error {
	f := m.tour(p, off)
	f.got = got
	return f.run(ctx)
}

// Wrong implements cache.Origin: who gave these bytes last is set aside, and
// asked for them last when they are wanted again.
func (m *Mirrors) Wrong(off, n int64) {
	now := time.Now()
	for _, i := range m.given.blame(off, n, now) {
		to := m.all[i]
		to.failures.Add(1)
		if len(m.all) == 1 {
			return // there is nobody else
		}
		m.mu.Lock()
		aside := to.health.lie(now)
		m.mu.Unlock()
		if aside {
			m.log.Warn("origin set aside: it gave wrong bytes", "origin", to.String(), "for", asideForLie, "offset", off)
		}
	}
}

// Sources implements cache.Origin: so many have the bytes.
func (m *Mirrors) Sources() int { return len(m.all) }

// String implements Origin.
func (m *Mirrors) String() string {
	if len(m.all) == 1 {
		return m.all[0].String()
	}
	names := make([]string, len(m.all))
	for i, to := range m.all {
		names[i] = to.String()
	}
	return "the mirrors " + strings.Join(names, ", ")
}

// Close implements Origin. It ends the second requests, and waits for that.
func (m *Mirrors) Close() error {
	m.pace.close()
	m.stop()
	m.seconds.Wait()
	origins := make([]Origin, len(m.all))
	for i, to := range m.all {
		origins[i] = to.Origin
	}
	return closeAll(origins)
}

func closeAll(origins []Origin) error {
	var errs []error
	for _, o := range origins {
		errs = append(errs, o.Close())
	}
	return errors.Join(errs...)
}

// MirrorStats are counters since the start, and whether an origin is set aside.
type MirrorStats struct {
	Name     string // the address without credentials and query
	Fetches  uint64 // requests, with their retries if it is the only origin
	Failures uint64 // those that failed, and reports of wrong bytes
	Bytes    uint64 // that came, those of second requests in vain included
	Aside    bool
}

// Stats returns the figures of each origin in order of preference, how many
// second requests were made, and how many of them were first to end.
func (m *Mirrors) Stats() (each []MirrorStats, hedges, won uint64) {
	now := time.Now()
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, to := range m.all {
		name, _, _ := strings.Cut(to.String(), "?")
		each = append(each, MirrorStats{
			Name: name, Fetches: to.fetches.Load(), Failures: to.failures.Load(), Bytes: to.bytes.Load(),
			Aside: to.health.aside() && now.Before(to.health.until),
		})
	}
	return each, m.pace.issued.Load(), m.pace.won.Load()
}

package origin

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"aesthetic.computer/isofs/fault"
)

// Mirrors are the origins of one object, one or several, behind the interface
// of one. The first in order of preference that is in order is asked. If it
// fails the next one is asked for the rest, until all have failed, and then
// again those whose failure may pass, within one deadline. A mirror that fails
// is set aside for a while (health), and what is late is asked for a second
// time (race).
type Mirrors struct {
	o     Options // of one Fetch over all of them
	size  int64
	hedge bool

	pace       pace
	provenance provenance
	failing    atomic.Bool // the log says that attempts fail, and none succeeded since

	mu  sync.Mutex // guards the health of all
	all []*mirror  // in order of preference

	hedges hedging
}

// hedging is what second requests that are under way need to end.
type hedging struct {
	running sync.WaitGroup
	ctx     context.Context // ends by stop, in Close
	stop    context.CancelFunc
}

// A mirror is one of the origins.
type mirror struct {
	source
	index  int
	local  bool   // a second request would be for the same disk
	health health // guarded by Mirrors.mu

	fetches, failures, bytes atomic.Uint64
}

// MirrorOptions say how Mirrors behave. A zero field means its default.
type MirrorOptions struct {
	Options Options // of a Fetch over all
	NoHedge bool    // never ask a second time for what is late
}

// newMirrors makes Mirrors of an object of size bytes. It still needs origins.
func newMirrors(o MirrorOptions, size int64) *Mirrors {
	m := &Mirrors{o: o.Options.withDefaults(), size: size, hedge: !o.NoHedge}
	m.pace.credit = hedgeBurst * hedgeShare
	m.hedges.ctx, m.hedges.stop = context.WithCancel(context.Background())
	return m
}

// add takes a further origin. Close closes it.
func (m *Mirrors) add(s source, local bool) {
	m.all = append(m.all, &mirror{source: s, index: len(m.all), local: local})
}

// Wrong implements cache.Reporter: who gave these bytes last is set aside, and
// asked for them last when they are wanted again.
func (m *Mirrors) Wrong(off, n int64) {
	now := time.Now()
	for _, i := range m.provenance.blame(off, n, now) {
		to := m.all[i]
		to.failures.Add(1)
		if len(m.all) == 1 {
			return // there is nobody else
		}
		m.mu.Lock()
		aside := to.health.lie(now, asideForLie)
		m.mu.Unlock()
		if aside {
			m.o.Log.Warn("origin set aside: it gave wrong bytes", "origin", to.String(), "for", asideForLie, "offset", off)
		}
	}
}

// Sources implements cache.Several: so many have the bytes.
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
	m.hedges.stop()
	m.hedges.running.Wait()
	var errs []error
	for _, to := range m.all {
		errs = append(errs, to.Close())
	}
	return errors.Join(errs...)
}

// MirrorStats are counters since the start, and whether an origin is set aside.
type MirrorStats struct {
	Name     string // the address without credentials and query
	Fetches  uint64 // requests, with those made again after a failure
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

// accept checks the range of a Fetch against the object's size, and counts the
// Fetch.
func (m *Mirrors) accept(off, n int64) error {
	if off < 0 || off > m.size || n > m.size-off {
		return fmt.Errorf("fetch %d bytes from %d of %s: %w: it has %d bytes", n, off, m, fault.Invalid, m.size)
	}
	m.pace.request()
	return nil
}

// choose returns the mirror to ask for [off, end), of those that are open: in
// order of preference, those that are set aside behind the others, those that
// were wrong in this range behind those. It reports whether the choice is to be
// tried out, and whether it is the last one open.
func (m *Mirrors) choose(off, end int64, open func(index int) bool) (to *mirror, probe, last bool) {
	now := time.Now()
	doubt := m.provenance.doubt(len(m.all), off, end, now)
	m.mu.Lock()
	defer m.mu.Unlock()
	left := 0
	for i, c := range m.all {
		if !open(i) {
			continue
		}
		left++
		if to == nil || m.better(c, to, doubt, now) {
			to = c
		}
	}
	if to == nil {
		return nil, false, true
	}
	return to, to.health.begin(now), left == 1
}

// better reports whether a is to be asked rather than b, which is before it.
// The caller holds mu.
func (m *Mirrors) better(a, b *mirror, doubt []int, now time.Time) bool {
	if x, y := doubt[a.index], doubt[b.index]; x != y {
		return x < y
	}
	if x, y := a.health.usable(now), b.health.usable(now); x != y {
		return x
	}
	return !a.health.usable(now) && a.health.until.Before(b.health.until)
}

// pickHedge returns the mirror for a second request beside the one to first:
// the next that is in order and not spent, or the same again, or none.
func (m *Mirrors) pickHedge(first *mirror, off, end int64, spent func(index int) bool) *mirror {
	if !m.hedge {
		return nil
	}
	doubt := m.provenance.doubt(len(m.all), off, end, time.Now())
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, c := range m.all {
		if c != first && !c.health.aside() && doubt[c.index] == 0 && !spent(c.index) {
			return c
		}
	}
	if first.local {
		return nil
	}
	return first
}

// doubted reports whether bytes of the range came wrong of one of several
// mirrors. They are not put together of two again: nobody could say which gave
// them.
func (m *Mirrors) doubted(off, n int64) bool {
	return len(m.all) > 1 && m.provenance.doubted(off, n, time.Now())
}

// worked notes that a request to a mirror gave all, failed that it did not, and
// gaveUp that it was ended by its caller.
func (m *Mirrors) worked(to *mirror, started time.Time, probe bool) {
	m.mu.Lock()
	back := to.health.work(started, probe)
	m.mu.Unlock()
	if back {
		m.o.Log.Info("origin is used again", "origin", to.String())
	}
}

func (m *Mirrors) failed(to *mirror, probe bool, err error, grave bool) {
	to.failures.Add(1)
	if len(m.all) == 1 {
		return // there is no other to ask
	}
	m.mu.Lock()
	aside := to.health.fail(time.Now(), grave, probe)
	m.mu.Unlock()
	if aside > 0 {
		m.o.Log.Warn("origin set aside", "origin", to.String(), "for", aside, "err", err)
	}
}

func (m *Mirrors) gaveUp(to *mirror, probe bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	to.health.giveUp(probe)
}

// tellFailing logs the first failure since the only origin answered, not those
// of all readers that wait meanwhile. Of several, the log says which is set
// aside.
func (m *Mirrors) tellFailing(err error) {
	if len(m.all) == 1 && !m.failing.Swap(true) {
		m.o.tellFailing(m, err)
	}
}

// tellAnswer logs that a Fetch succeeded if the log says last that they fail.
func (m *Mirrors) tellAnswer() {
	if m.failing.Swap(false) {
		m.o.Log.Info("the origin answers again", "origin", m.String())
	}
}

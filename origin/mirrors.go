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

// Mirrors are the origins of one object, one or several, used as one Origin. A
// Fetch goes to the first working one in the order of preference. If that fails,
// the next one gets a request for the rest. When all have failed, those whose
// failure may pass get another attempt, within one deadline. A mirror that fails
// is set aside for a while (health), and a late answer is requested a second
// time (race).
type Mirrors struct {
	o     Options // of one Fetch over all of them
	size  int64
	hedge bool

	pace       pace
	provenance provenance
	failing    atomic.Bool // it was logged that attempts fail, and none succeeded since

	mu  sync.Mutex // guards the health of all
	all []*mirror  // in order of preference

	hedges hedging
}

// hedging ends the second requests that still run.
type hedging struct {
	running sync.WaitGroup
	ctx     context.Context // ends by stop, in Close
	stop    context.CancelFunc
}

// A mirror is one of the origins.
type mirror struct {
	source
	index  int
	local  bool   // a second request would wait for the same disk
	health health // guarded by Mirrors.mu

	fetches, failures, bytes atomic.Uint64
}

// A reader is a mirror, and the attempts of one Fetch there.
type reader struct {
	*mirror
	attempt attempt
}

// MirrorOptions set how Mirrors behave. A zero field means its default.
type MirrorOptions struct {
	Options Options // of a Fetch over all
	NoHedge bool    // make no second requests for late answers
}

// newMirrors makes Mirrors of an object of size bytes, which have no mirror yet.
func newMirrors(o MirrorOptions, size int64) *Mirrors {
	m := &Mirrors{o: o.Options.withDefaults(), size: size, hedge: !o.NoHedge}
	m.pace.credit = hedgeBurst * hedgeShare
	m.hedges.ctx, m.hedges.stop = context.WithCancel(context.Background())
	return m
}

// add adds a mirror behind the others. Close closes it.
func (m *Mirrors) add(s source, local bool) {
	m.all = append(m.all, &mirror{source: s, index: len(m.all), local: local})
}

// Wrong implements cache.Origin: it sets aside the mirrors that gave these bytes
// last. When the bytes are fetched again, these mirrors come last.
func (m *Mirrors) Wrong(off, n int64) {
	now := time.Now()
	for _, i := range m.provenance.blame(off, n, now) {
		to := m.all[i]
		to.failures.Add(1)
		if len(m.all) == 1 {
			return // there is no other to ask
		}
		m.mu.Lock()
		aside := to.health.lie(now, asideForLie)
		m.mu.Unlock()
		if aside {
			m.o.Log.Warn("origin set aside: it gave wrong bytes", "origin", to.String(), "for", asideForLie, "offset", off)
		}
	}
}

// Sources implements cache.Origin: it returns how many mirrors there are.
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

// Close implements Origin. It ends the second requests, and waits for their end.
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
	Bytes    uint64 // that came, those of second requests that lost included
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
	m.pace.earn()
	return nil
}

// begin returns a reader for each mirror.
func (m *Mirrors) begin() []reader {
	all := make([]reader, len(m.all))
	for i, to := range m.all {
		all[i] = reader{to, to.begin()}
	}
	return all
}

// choose returns the untried mirror for [off, end). Mirrors that are set aside
// come behind the others, and behind those the ones that were wrong in this
// range. It reports whether the Fetch tries a mirror that was set aside (probe),
// and whether no other is untried.
func (m *Mirrors) choose(off, end int64, untried func(index int) bool) (to *mirror, probe, last bool) {
	now := time.Now()
	doubt := m.provenance.doubt(len(m.all), off, end, now)
	m.mu.Lock()
	defer m.mu.Unlock()
	left := 0
	for i, c := range m.all {
		if !untried(i) {
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

// better reports whether a comes before b, which is preferred. The caller holds
// mu.
func (m *Mirrors) better(a, b *mirror, doubt []int, now time.Time) bool {
	if x, y := doubt[a.index], doubt[b.index]; x != y {
		return x < y
	}
	if x, y := a.health.usable(now), b.health.usable(now); x != y {
		return x
	}
	return !a.health.usable(now) && a.health.until.Before(b.health.until)
}

// pickHedge returns the mirror for a second request beside the one to first: the
// next that works and is not spent, or the same again, or nil.
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

// doubted reports whether one of several mirrors gave wrong bytes in the range.
// These are fetched again from one mirror: with two, it would not be clear which
// one is wrong.
func (m *Mirrors) doubted(off, n int64) bool {
	return len(m.all) > 1 && m.provenance.doubted(off, n, time.Now())
}

// worked notes that a request gave all bytes, failed that it failed, and gaveUp
// that its caller ended it.
func (m *Mirrors) worked(to *mirror, started time.Time, probe bool) {
	m.mu.Lock()
	back := to.health.work(started, probe)
	m.mu.Unlock()
	if back {
		m.o.Log.Info("origin is used again", "origin", to.String())
	}
}

func (m *Mirrors) failed(to *mirror, probe bool, err error) {
	to.failures.Add(1)
	if len(m.all) == 1 {
		return // there is no other to ask
	}
	m.mu.Lock()
	aside := to.health.fail(time.Now(), grave(err), probe)
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

// logFailing logs the first failure since the only origin answered, and not
// those of all readers that wait meanwhile. With several origins, failed logs
// which one is set aside.
func (m *Mirrors) logFailing(err error) {
	if len(m.all) == 1 && !m.failing.Swap(true) {
		m.o.logFailing(m, err)
	}
}

// logAnswer logs the first success after logFailing.
func (m *Mirrors) logAnswer() {
	if m.failing.Swap(false) {
		m.o.Log.Info("the origin answers again", "origin", m.String())
	}
}

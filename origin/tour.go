package origin

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync/atomic"
	"time"

	"aesthetic.computer/isofs/fault"
)

// errSlow is why a try ended that left no more time for the other origins.
var errSlow = errors.New("it took too much of the time")

// A tour is one Fetch, handed from one mirror to the next.
type tour struct {
	m     *Mirrors
	p     []byte
	off   int64
	got   func(n int)  // nil: nobody hears of it
	n     atomic.Int64 // p[:n] is there; written by the goroutine of the Fetch alone
	whole bool         // all bytes must be of one origin
	legs  []leg        // by the mirror's index
	begun time.Time
}

// A leg is what became of the Fetch at one mirror.
type leg struct {
	tried  bool  // in this round
	spent  bool  // and not to be asked again
	wrongs int   // answers to something else than was asked
	err    error // the last
}

func (m *Mirrors) tour(p []byte, off int64) *tour {
	return &tour{m: m, p: p, off: off, legs: make([]leg, len(m.all)), begun: time.Now()}
}

// run makes rounds over the mirrors until one of them gave the rest.
func (f *tour) run(ctx context.Context) error {
	f.m.pace.request()
	if len(f.p) == 0 || len(f.m.all) == 1 {
		return f.try(ctx, f.m.all[0], false, 0)
	}
	within, cancel := context.WithTimeout(ctx, f.m.o.Timeout)
	defer cancel()
	pause := f.m.o.Backoff
	for {
		before := f.n.Load()
		err := f.round(within)
		switch {
		case err == nil:
			return nil
		case ctx.Err() != nil:
			return fmt.Errorf("fetch bytes %d-%d of %s: %w", f.off, f.end()-1, f.m, canceled(ctx))
		case errors.Is(err, fault.Invalid):
			return err
		}
		if f.n.Load() > before {
			pause = f.m.o.Backoff
		}
		wait := max(rand.N(pause), f.retryAfter())
		pause = min(2*pause, f.m.o.MaxBackoff)
		if deadline, _ := within.Deadline(); f.finished() || wait > time.Until(deadline) || f.m.o.sleep(within, wait) != nil {
			if ctx.Err() != nil {
				return fmt.Errorf("fetch bytes %d-%d of %s: %w", f.off, f.end()-1, f.m, canceled(ctx))
			}
			return f.failed()
		}
		for i := range f.legs {
			f.legs[i].tried = false
		}
	}
}

func (f *tour) end() int64 { return f.off + int64(len(f.p)) }

// round asks each mirror that is not spent until one gave the rest.
func (f *tour) round(ctx context.Context) (err error) {
	err = fault.Unavailable
	for ctx.Err() == nil {
		to, probe, last := f.m.next(f)
		if to == nil {
			return err
		}
		left := f.m.o.Timeout
		if deadline, ok := ctx.Deadline(); ok && !last {
			// Who is neither dead nor alive must leave time for the others.
			left = time.Until(deadline) / 2
		}
		if err = f.try(ctx, to, probe, left); err == nil || errors.Is(err, fault.Invalid) {
			return err
		}
	}
	return err
}

// next chooses the mirror to ask: in order of preference, those that are set
// aside behind the others, those that were wrong in this range behind those.
// It reports whether the choice is to be tried out, and whether it is the last.
func (m *Mirrors) next(f *tour) (to *mirror, probe, last bool) {
	now := time.Now()
	doubt := m.given.doubt(len(m.all), f.off, f.end(), now)
	m.mu.Lock()
	defer m.mu.Unlock()
	left := 0
	for i, c := range m.all {
		if f.legs[i].tried || f.legs[i].spent {
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
func (m *Mirrors) better(a, b *mirror, doubt []time.Time, now time.Time) bool {
	if x, y := doubt[a.index], doubt[b.index]; !x.Equal(y) {
		return x.Before(y) // the zero time, too: it never was wrong
	}
	if x, y := a.health.usable(now), b.health.usable(now); x != y {
		return x
	}
	return !a.health.usable(now) && a.health.until.Before(b.health.until)
}

// try asks one mirror for what is missing, for at most the time that is left
// for it, and keeps the books.
func (f *tour) try(ctx context.Context, to *mirror, probe bool, left time.Duration) error {
	limited := ctx
	if left > 0 {
		var cancel context.CancelFunc
		limited, cancel = context.WithTimeoutCause(ctx, left, errSlow)
		defer cancel()
	}
	begun, settled := time.Now(), false
	r := newRace(limited, f, to)
	defer func() {
		r.finish()
		if !settled {
			f.m.gaveUp(to, probe) // a panic
		}
	}()
	err := r.run()
	settled = true
	switch {
	case err == nil:
		f.m.worked(to, begun, probe)
		return nil
	case r.overtaken():
		// The second request was first. That is a failure if the first one
		// did not even begin to move again.
		if r.stuck() {
			f.m.failed(to, probe, errStalled, false)
		} else {
			f.m.gaveUp(to, probe)
		}
	case ctx.Err() != nil && !errors.Is(ctx.Err(), context.DeadlineExceeded):
		f.m.gaveUp(to, probe)
	default:
		if ctx.Err() == nil && limited.Err() != nil {
			err = fmt.Errorf("%w: %w: %v", fault.Unavailable, errSlow, left)
		}
		f.m.failed(to, probe, err, grave(err))
	}
	return r.relieve(err)
}

// note keeps what a mirror answered, and whether there is a point in asking it
// again.
func (f *tour) note(to *mirror, err error) {
	l := &f.legs[to.index]
	l.tried, l.err = true, err
	failure, classified := errors.AsType[*failure](err)
	if classified && failure.verdict == onceMore {
		l.wrongs++
	}
	switch {
	case classified:
		l.spent = failure.verdict == final || l.wrongs > 1
	default:
		l.spent = errors.Is(err, fault.NotFound) || errors.Is(err, fault.Corrupt)
	}
}

// claim tells that p[:n] is there, the last of it from this mirror, as part
// number of the bytes that it gave.
func (f *tour) claim(number int, to *mirror, n int) int {
	before := f.n.Load()
	if int64(n) <= before {
		return number
	}
	number = f.m.given.add(number, f.off+before, f.off+int64(n), to.index)
	f.n.Store(int64(n))
	if f.got != nil {
		f.got(n)
	}
	return number
}

// finished reports whether no mirror is worth a further round.
func (f *tour) finished() bool {
	for _, l := range f.legs {
		if !l.spent {
			return false
		}
	}
	return true
}

// retryAfter is the least that a mirror wants to be left alone.
func (f *tour) retryAfter() time.Duration {
	least := time.Duration(-1)
	for _, l := range f.legs {
		if l.spent {
			continue
		}
		after := time.Duration(0)
		if failure, ok := errors.AsType[*failure](l.err); ok {
			after = failure.after
		}
		if least < 0 || after < least {
			least = after
		}
	}
	return max(least, 0)
}

// failed is the error of all. Its kind is Unavailable if one of them may have
// the bytes another time.
func (f *tour) failed() error {
	kind, passing := fault.NotFound, false
	var why []string
	for i, l := range f.legs {
		if l.err == nil {
			l.err = fmt.Errorf("%w: it was not asked in time", fault.Unavailable)
		}
		why = append(why, fmt.Sprintf("%s: %v", f.m.all[i], l.err))
		switch {
		case errors.Is(l.err, fault.NotFound):
		case !errors.Is(l.err, fault.Corrupt):
			passing = true
		default:
			kind = fault.Corrupt
		}
	}
	if passing {
		kind = fault.Unavailable
	}
	return fmt.Errorf("fetch bytes %d-%d: %w: none of the mirrors gave them: %s", f.off, f.end()-1, kind, strings.Join(why, "; "))
}

// worked, failed and gaveUp note how a request to a mirror ended.
func (m *Mirrors) worked(to *mirror, begun time.Time, probe bool) {
	m.mu.Lock()
	back := to.health.work(begun, probe)
	m.mu.Unlock()
	if back {
		m.log.Info("origin is used again", "origin", to.String())
	}
}

func (m *Mirrors) failed(to *mirror, probe bool, err error, grave bool) {
	to.failures.Add(1)
	if len(m.all) == 1 {
		return // there is nobody to go to
	}
	m.mu.Lock()
	aside := to.health.fail(time.Now(), grave, probe)
	m.mu.Unlock()
	if aside > 0 {
		m.log.Warn("origin set aside", "origin", to.String(), "for", aside, "err", err)
	}
}

func (m *Mirrors) gaveUp(to *mirror, probe bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	to.health.giveUp(probe)
}

package origin

import (
	"context"
	"errors"
	"fmt"
	"time"

	"aesthetic.computer/isofs/fault"
)

// A fetch is one Fetch: each mirror is asked for the bytes that the ones before left
// missing.
type fetch struct {
	loop
	buffer
	m       *Mirrors
	readers []reader // by the mirror's index
}

// Fetch implements Origin.
func (m *Mirrors) Fetch(ctx context.Context, p []byte, off int64) error {
	return m.fetch(ctx, p, off, nil)
}

// FetchStream implements Origin.
func (m *Mirrors) FetchStream(ctx context.Context, p []byte, off int64, got func(n int)) error {
	return m.fetch(ctx, p, off, got)
}

func (m *Mirrors) fetch(ctx context.Context, p []byte, off int64, got func(n int)) error {
	n := int64(len(p))
	if err := m.accept(off, n); err != nil || n == 0 {
		return err
	}
	f := &fetch{
		loop:   loop{o: m.o, sources: make([]outcome, len(m.all))},
		buffer: buffer{p: p, off: off, got: got, givers: &m.provenance},
		m:      m,
	}
	for i, to := range m.all {
		f.sources[i].name = to
	}
	// A caller of FetchStream keeps bytes at once, so they cannot be replaced later.
	f.whole = got == nil && m.doubted(off, n)
	f.begin()
	if err := f.run(ctx, f.round, m.logFailing); err != nil {
		return fmt.Errorf("fetch bytes %d-%d of %s: %w", off, off+n-1, m, err)
	}
	m.logAnswer()
	return nil
}

// begin starts the read, without any bytes yet.
func (f *fetch) begin() {
	f.n.Store(0)
	f.readers = f.m.begin()
}

// round makes an attempt at one mirror after another until one gave the rest.
func (f *fetch) round(ctx context.Context) (progress bool, err error) {
	before := f.n.Load()
	err = fault.Unavailable
	for ctx.Err() == nil {
		to, probe, last := f.m.choose(f.off, f.end(), f.untried)
		if to == nil {
			break
		}
		left := time.Duration(0)
		if deadline, ok := ctx.Deadline(); ok && !last {
			// A mirror that neither answers nor fails must leave time for the others.
			left = time.Until(deadline) / 2
		}
		if err = f.try(ctx, to, probe, left); err == nil || errors.Is(err, fault.Invalid) {
			break
		}
	}
	return f.n.Load() > before, err
}

// try makes one attempt at a mirror for the missing bytes, within the time left for
// it (0: that of ctx), and notes how it ended.
func (f *fetch) try(ctx context.Context, to *mirror, probe bool, left time.Duration) error {
	limited := ctx
	if left > 0 {
		var cancel context.CancelFunc
		limited, cancel = context.WithTimeoutCause(ctx, left, errSlow)
		defer cancel()
	}
	started, settled := time.Now(), false
	r := f.race(limited, to)
	defer func() {
		r.finish()
		if !settled {
			f.m.gaveUp(to, probe) // a panic
		}
	}()
	err := r.run()
	settled = true
	if err == nil {
		f.m.worked(to, started, probe)
		return nil
	}
	if ctx.Err() == nil && limited.Err() != nil {
		err = fmt.Errorf("%w: %w: %v", fault.Unavailable, errSlow, left)
	}
	switch {
	case r.overtaken():
		// The second request won. That is a failure of this mirror only if it gave
		// no byte meanwhile.
		if r.stuck() {
			f.m.failed(to, probe, errOvertaken)
		} else {
			f.m.gaveUp(to, probe)
		}
	case ctx.Err() != nil && !errors.Is(ctx.Err(), context.DeadlineExceeded):
		f.m.gaveUp(to, probe)
	default:
		f.m.failed(to, probe, err)
	}
	f.note(ctx, to.index, err)
	if second, hedgeErr := r.takeOver(); second != nil {
		if hedgeErr == nil {
			return nil
		}
		f.note(ctx, second.index, hedgeErr)
	}
	if f.whole {
		f.begin()
	}
	return err
}

// race returns a race whose first request is to this mirror.
func (f *fetch) race(ctx context.Context, to *mirror) *race {
	return newRace(ctx, f.m, &f.buffer, f.readers[to.index], func() reader {
		second := f.m.pickHedge(to, f.off, f.end(), f.spent)
		if second == nil {
			return reader{}
		}
		return f.readers[second.index]
	})
}

package origin

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"
)

// errOvertaken is why a first request was ended: the second one was done.
var errOvertaken = errors.New("another request was faster")

// A race is a request to one mirror, and a second one beside it if the first
// is late: for what is missing then, on another connection, to another mirror
// that is in order or to the same one. Who has all first wins.
//
// The first request runs in the goroutine of the Fetch and writes to its
// buffer. The second has a buffer of its own, which is copied when the first
// one has ended. So neither writes to what is not its own any more.
type race struct {
	f      *tour
	first  *mirror
	parent context.Context // of both requests
	ctx    context.Context // of the first; ends by end
	end    context.CancelCauseFunc

	mu    sync.Mutex  // guards what follows
	timer *time.Timer // calls late
	last  time.Time   // when a byte came
	quiet int         // more than 0: nobody waits for the origin
	hedge *hedge      // nil: there is none
}

// A hedge is a second request.
type hedge struct {
	to     *mirror
	from   int // in the p of the tour
	before int // where the first request was
	buf    []byte
	cancel context.CancelFunc
	n      atomic.Int64  // buf[:n] is there
	more   chan struct{} // has one when n grew
	done   chan struct{} // closed behind err
	err    error
}

type raceKey struct{}

func newRace(parent context.Context, f *tour, first *mirror) *race {
	r := &race{f: f, first: first, parent: parent, last: time.Now()}
	r.ctx, r.end = context.WithCancelCause(context.WithValue(parent, raceKey{}, r))
	return r
}

// run makes the first request, and reports how it ended.
func (r *race) run() error {
	f, from := r.f, int(r.f.n.Load())
	begun, number, heard := r.last, -1, false
	r.first.fetches.Add(1)
	r.mu.Lock()
	r.timer = time.AfterFunc(f.m.pace.late(), r.late)
	r.mu.Unlock()
	defer r.hush()
	err := r.first.FetchStream(r.ctx, f.p[from:], f.off+int64(from), func(n int) {
		if !heard {
			heard = true
			f.m.pace.answered(time.Since(begun))
		}
		r.hush()
		number = f.claim(number, r.first, from+n)
		r.listen()
	})
	if err == nil {
		f.claim(number, r.first, len(f.p))
	}
	if !heard && (err == nil || r.overtaken()) {
		f.m.pace.answered(time.Since(begun)) // at least
	}
	r.first.bytes.Add(uint64(f.n.Load()) - uint64(from))
	return err
}

// finish ends what still goes on.
func (r *race) finish() {
	r.end(nil)
	if h := r.second(); h != nil {
		h.cancel()
	}
}

// stuck reports whether no byte came of the first request since there is a
// second one.
func (r *race) stuck() bool {
	h := r.second()
	return h != nil && r.f.n.Load() == int64(h.before)
}

// overtaken reports whether the first request was ended by the second.
func (r *race) overtaken() bool { return errors.Is(context.Cause(r.ctx), errOvertaken) }

func (r *race) second() *hedge {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.hedge
}

// hush says that nobody waits for the origin, listen that somebody does.
func (r *race) hush() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.quiet++
	r.timer.Stop()
}

func (r *race) listen() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.quiet--
	r.last = time.Now()
	if r.quiet == 0 && r.hedge == nil {
		r.timer.Reset(r.f.m.pace.late())
	}
}

// pausing is sleep between two attempts, in which nothing is late: an origin
// may have asked for it.
func pausing(sleep func(context.Context, time.Duration) error) func(context.Context, time.Duration) error {
	return func(ctx context.Context, d time.Duration) error {
		if r, ok := ctx.Value(raceKey{}).(*race); ok {
			r.hush()
			defer r.listen()
		}
		return sleep(ctx, d)
	}
}

// late makes the second request, in the goroutine of the timer.
func (r *race) late() {
	h, ctx := r.begin()
	if h == nil {
		return
	}
	m := r.f.m
	defer m.seconds.Done()
	defer m.pace.done()
	defer h.cancel()
	defer context.AfterFunc(m.ctx, h.cancel)()
	h.run(ctx, r)
}

// begin returns the second request that is to be made now, or nil.
func (r *race) begin() (*hedge, context.Context) {
	r.mu.Lock()
	defer r.mu.Unlock()
	f, m := r.f, r.f.m
	if r.quiet > 0 || r.hedge != nil || r.ctx.Err() != nil {
		return nil, nil
	}
	to := m.spare(f, r.first)
	if to == nil {
		return nil, nil
	}
	wait := m.pace.late()
	if since := time.Since(r.last); since < wait {
		r.timer.Reset(wait - since)
		return nil, nil
	}
	if !m.pace.take(func() { m.seconds.Add(1) }) {
		r.timer.Reset(wait)
		return nil, nil
	}
	h := &hedge{to: to, before: int(f.n.Load()), more: make(chan struct{}, 1), done: make(chan struct{})}
	if !f.whole {
		h.from = h.before
	}
	// It may end the wait sooner, not later.
	ctx, cancel := context.WithDeadline(r.parent, f.begun.Add(m.o.Timeout))
	h.cancel = cancel
	r.hedge = h
	return h, ctx
}

// spare returns the mirror for a second request: the next that is in order, or
// the same again, or none.
func (m *Mirrors) spare(f *tour, first *mirror) *mirror {
	if !m.hedge {
		return nil
	}
	now := time.Now()
	doubt := m.given.doubt(len(m.all), f.off, f.end(), now)
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, c := range m.all {
		if c != first && !c.health.aside() && doubt[c.index].IsZero() && !f.legs[c.index].spent {
			return c
		}
	}
	if _, local := first.Origin.(*file); local {
		return nil // the same disk
	}
	return first
}

// run fetches, and ends the first request if it is done before it.
func (h *hedge) run(ctx context.Context, r *race) {
	defer close(h.done)
	f := r.f
	h.buf = make([]byte, len(f.p)-h.from)
	h.to.fetches.Add(1)
	begun := time.Now()
	err := h.to.FetchStream(ctx, h.buf, f.off+int64(h.from), func(n int) {
		h.n.Store(int64(n))
		select {
		case h.more <- struct{}{}:
		default:
		}
	})
	switch {
	case err == nil:
		h.n.Store(int64(len(h.buf)))
		f.m.worked(h.to, begun, false)
		r.end(errOvertaken)
	case ctx.Err() == nil:
		f.m.failed(h.to, false, err, grave(err))
	}
	h.to.bytes.Add(uint64(h.n.Load()))
	h.err = err
}

// relieve is what follows when the first request ended with an error: the
// second one goes on in its place.
func (r *race) relieve(err error) error {
	f, h := r.f, r.second()
	f.note(r.first, err)
	if f.whole {
		f.n.Store(0)
	}
	if h == nil {
		return err
	}
	for number, going := -1, true; going; {
		select {
		case <-h.more:
		case <-h.done:
			going = false
		case <-r.parent.Done():
			return err
		}
		if n := h.from + int(h.n.Load()); int64(n) > f.n.Load() {
			have := int(f.n.Load())
			copy(f.p[have:n], h.buf[have-h.from:])
			number = f.claim(number, h.to, n)
		}
	}
	if h.err == nil {
		f.m.pace.won.Add(1)
		return nil
	}
	if f.whole {
		f.n.Store(0)
	}
	f.note(h.to, h.err)
	return err
}

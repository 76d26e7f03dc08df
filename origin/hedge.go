package origin

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"
)

// errOvertaken ends the first request when the second one is done.
var errOvertaken = errors.New("no byte came for too long, and another request was faster")

// A race is a request to one mirror, and a second one beside it if the first is
// late. The second is for the bytes that are missing then, on another
// connection, to another working mirror or to the same one. The first to have
// all bytes wins.
//
// The first request runs in the goroutine of the Fetch and writes to its
// buffer. The second has memory of its own, which is copied when the first
// request has ended. So neither writes to memory that it no longer owns.
type race struct {
	m      *Mirrors
	b      *buffer
	first  reader
	pick   func() reader   // for the second request
	parent context.Context // of both requests
	ctx    context.Context // of the first; ends by end
	end    context.CancelCauseFunc

	mu      sync.Mutex // guards what follows
	silence silence
	hedge   *hedge // nil: there is none
}

// silence is the time since the last byte.
type silence struct {
	timer  *time.Timer // makes the second request
	since  time.Time   // a byte came last
	pauses int         // more than 0: the reader is busy with what came
}

// A hedge is a second request.
type hedge struct {
	to     reader
	from   int // in the p of the buffer
	before int // where the first request was when this one started
	buf    []byte
	cancel context.CancelFunc
	n      atomic.Int64  // buf[:n] is there
	more   chan struct{} // holds a value when n grew
	done   chan struct{} // closed behind err
	err    error
}

func newRace(parent context.Context, m *Mirrors, b *buffer, first reader, pick func() reader) *race {
	r := &race{m: m, b: b, first: first, pick: pick, parent: parent, silence: silence{since: time.Now()}}
	r.ctx, r.end = context.WithCancelCause(parent)
	return r
}

// run makes the first request, and returns how it ended.
func (r *race) run() error {
	b, from := r.b, int(r.b.n.Load())
	started, number, heard := r.silence.since, -1, false
	r.first.fetches.Add(1)
	r.mu.Lock()
	r.silence.timer = time.AfterFunc(r.m.pace.lateAfter(), r.late)
	r.mu.Unlock()
	defer r.pauseTimer()
	err := r.first.attempt(r.ctx, b.p[from:], b.off+int64(from), func(n int) {
		if !heard {
			heard = true
			r.m.pace.answered(time.Since(started))
		}
		r.pauseTimer()
		number = b.claim(number, r.first.index, from+n)
		r.resumeTimer()
	})
	if err == nil {
		b.claim(number, r.first.index, len(b.p))
	}
	if !heard && (err == nil || r.overtaken()) {
		r.m.pace.answered(time.Since(started)) // it took at least so long
	}
	r.first.bytes.Add(uint64(b.n.Load()) - uint64(from))
	return err
}

// finish ends the requests that still run.
func (r *race) finish() {
	r.end(nil)
	if h := r.second(); h != nil {
		h.cancel()
	}
}

// stuck reports whether the first request gave no byte since the second one
// started.
func (r *race) stuck() bool {
	h := r.second()
	return h != nil && r.b.n.Load() == int64(h.before)
}

// overtaken reports whether the first request was ended by the second.
func (r *race) overtaken() bool { return errors.Is(context.Cause(r.ctx), errOvertaken) }

func (r *race) second() *hedge {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.hedge
}

// pauseTimer stops the timer while the reader is busy with what came, and so
// does not wait for the mirror. resumeTimer ends that.
func (r *race) pauseTimer() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.silence.pauses++
	r.silence.timer.Stop()
}

func (r *race) resumeTimer() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.silence.pauses--
	r.silence.since = time.Now()
	if r.silence.pauses == 0 && r.hedge == nil {
		r.silence.timer.Reset(r.m.pace.lateAfter())
	}
}

// late makes the second request, in the goroutine of the timer.
func (r *race) late() {
	h, ctx := r.startHedge()
	if h == nil {
		return
	}
	defer r.m.hedges.running.Done()
	defer r.m.pace.done()
	defer h.cancel()
	defer context.AfterFunc(r.m.hedges.ctx, h.cancel)()
	h.run(ctx, r)
}

// startHedge returns a second request if the time for one has come, or nil.
func (r *race) startHedge() (*hedge, context.Context) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.silence.pauses > 0 || r.hedge != nil || r.ctx.Err() != nil {
		return nil, nil
	}
	to := r.pick()
	if to.mirror == nil {
		return nil, nil
	}
	wait := r.m.pace.lateAfter()
	if since := time.Since(r.silence.since); since < wait {
		r.silence.timer.Reset(wait - since)
		return nil, nil
	}
	if !r.m.pace.take(func() { r.m.hedges.running.Add(1) }) {
		r.silence.timer.Reset(wait)
		return nil, nil
	}
	h := &hedge{to: to, before: int(r.b.n.Load()), more: make(chan struct{}, 1), done: make(chan struct{})}
	if !r.b.whole {
		h.from = h.before
	}
	ctx, cancel := context.WithCancel(r.parent)
	h.cancel = cancel
	r.hedge = h
	return h, ctx
}

// run makes the second request. If it gives all bytes before the first one
// does, it ends the first.
func (h *hedge) run(ctx context.Context, r *race) {
	defer close(h.done)
	h.buf = make([]byte, len(r.b.p)-h.from)
	h.to.fetches.Add(1)
	started := time.Now()
	err := h.to.attempt(ctx, h.buf, r.b.off+int64(h.from), func(n int) {
		h.n.Store(int64(n))
		select {
		case h.more <- struct{}{}:
		default:
		}
	})
	switch {
	case err == nil:
		h.n.Store(int64(len(h.buf)))
		r.m.worked(h.to.mirror, started, false)
		r.end(errOvertaken)
	case ctx.Err() == nil:
		r.m.failed(h.to.mirror, false, err)
	}
	h.to.bytes.Add(uint64(h.n.Load()))
	h.err = err
}

// takeOver lets the second request continue in the place of the first, which
// ended with an error. It returns the mirror of the second request and how that
// ended. It returns nil if there is no second request, or the time is up.
func (r *race) takeOver() (second *mirror, err error) {
	h := r.second()
	if h == nil {
		return nil, nil
	}
	if r.b.whole {
		r.b.n.Store(0)
	}
	for number, going := -1, true; going; {
		select {
		case <-h.more:
		case <-h.done:
			going = false
		case <-r.parent.Done():
			return nil, nil
		}
		if n := h.from + int(h.n.Load()); int64(n) > r.b.n.Load() {
			there := int(r.b.n.Load())
			copy(r.b.p[there:n], h.buf[there-h.from:])
			number = r.b.claim(number, h.to.index, n)
		}
	}
	if h.err == nil {
		r.m.pace.won.Add(1)
	}
	return h.to.mirror, h.err
}

package catalog

import (
	"context"
	"errors"
	"fmt"
	"time"

	"aesthetic.computer/isofs/fault"
	"aesthetic.computer/isofs/piece"

	"golang.org/x/sync/singleflight"
)

// A BusyError says that the catalog is already fetching as many pieces as it
// may. It wraps fault.Unavailable.
type BusyError struct {
	// RetryAfter is when the client should try again.
	RetryAfter time.Duration
}

func (e *BusyError) Error() string {
	return fmt.Sprintf("too many pieces are being fetched; try again in %s", e.RetryAfter)
}

// Unwrap returns the kind.
func (e *BusyError) Unwrap() error { return fault.Unavailable }

// busyRetry is the RetryAfter of a BusyError.
const busyRetry = 5 * time.Second

// CurrentFile is Current by the name of an image, "notepat-os.iso", or of its
// slot's file, "notepat-piece.img".
func (c *Catalog) CurrentFile(ctx context.Context, fileName string) (*Snapshot, error) {
	name, err := piece.ParseFileName(fileName)
	if err != nil {
		return nil, err
	}
	return c.Current(ctx, name)
}

// Current returns the present snapshot of a piece. It fetches the bundle if
// that is missing or may have changed. Callers of one piece share one fetch,
// which continues when they leave. When the source fails, a known piece keeps
// its snapshot. The failure is remembered for a while, as NotFound, Invalid or
// *PausedError. With Limits.Builds fetches under way, an unknown piece is a
// *BusyError. It is a *LimitError if the oven would pack it, and clients asked
// for too many such names just now.
func (c *Catalog) Current(ctx context.Context, name piece.Name) (*Snapshot, error) {
	b, err := c.currentBuild(ctx, name, nil)
	return b.Snapshot, err
}

// currentBuild returns the piece's present build, and fetches the bundle if it
// is missing or stale. notify, if not nil, gets each stage.
func (c *Catalog) currentBuild(ctx context.Context, name piece.Name, notify func(Stage)) (Build, error) {
	known := c.look(ctx, name)
	if known.settled {
		return known.answer()
	}
	if known.snapshot == nil {
		leave, err := c.mayAsk(ctx, name)
		if err != nil {
			return Build{}, err
		}
		defer leave()
	}
	w := waiter{name: name, notify: notify, build: c.builds.DoChan(keyOf(name), func() (any, error) {
		// An earlier build may have ended just before this one began: A looks
		// and finds nothing, B's build ends, A begins another.
		if now := c.look(c.builds.life, name); now.settled {
			return now.answer()
		}
		return c.refresh(name)
	})}
	if known.snapshot == nil {
		return c.await(ctx, w)
	}
	wait := time.NewTimer(c.cfg.Limits.RefreshWait)
	defer wait.Stop()
	w.over = wait.C
	b, err := c.await(ctx, w)
	if err == nil || errors.Is(err, fault.NotFound) {
		return b, err
	}
	return known.answer() // if the build failed, the log has the reason
}

// Refresh fetches the bundle of a piece now, even if its snapshot is fresh. It
// joins a fetch that is already under way.
func (c *Catalog) Refresh(ctx context.Context, name piece.Name) (*Snapshot, error) {
	c.failures.remove(name)
	b, err := c.await(ctx, waiter{name: name, build: c.builds.DoChan(keyOf(name), func() (any, error) { return c.refresh(name) })})
	return b.Snapshot, err
}

// errImpatient says that the time for a refresh is over.
var errImpatient = fmt.Errorf("the newer bundle is not there yet: %w", fault.Unavailable)

// A waiter is one caller that waits for the build of a piece.
type waiter struct {
	name   piece.Name
	build  <-chan singleflight.Result
	over   <-chan time.Time // ends the wait; nil: no limit
	notify func(Stage)      // gets each stage that the build passes; may be nil
	passed Stage            // the last stage that notify got
}

// advance notifies of all stages up to s.
func (w *waiter) advance(s Stage) {
	for w.notify != nil && w.passed < s {
		w.passed++
		w.notify(w.passed)
	}
}

// await waits for a build until it ends, the caller leaves or w.over is ready.
func (c *Catalog) await(ctx context.Context, w waiter) (Build, error) {
	var changed <-chan struct{} // stays nil without notify
	for {
		if w.notify != nil {
			var s Stage
			s, changed = c.builds.progress.of(w.name)
			w.advance(s)
		}
		select {
		case r := <-w.build:
			if r.Err != nil {
				return Build{}, r.Err
			}
			b := r.Val.(Build)
			w.advance(b.last) // the loop may have missed quick stages
			return b, nil
		case <-changed:
		case <-w.over:
			return Build{}, errImpatient
		case <-ctx.Done():
			return Build{}, fmt.Errorf("wait for the bundle of %s: %w: %w", w.name, fault.Unavailable, context.Cause(ctx))
		}
	}
}

// A view is what the catalog has of a piece without a fetch.
type view struct {
	snapshot *Snapshot // nil if the piece has none, or its source has it no more
	err      error     // why there is no snapshot
	settled  bool      // no need to ask the source
}

// answer is the result for a caller that waits no longer.
func (v view) answer() (Build, error) {
	if v.snapshot == nil {
		return Build{}, v.err
	}
	v.snapshot.touch()
	return Build{Snapshot: v.snapshot, Unchanged: true}, nil
}

// look returns what the catalog has of a piece.
func (c *Catalog) look(ctx context.Context, name piece.Name) view {
	s, missing := c.shown.newest(name)
	if missing {
		s = nil
	}
	if s != nil && !c.stale(ctx, s) {
		return view{snapshot: s, settled: true}
	}
	err := c.failures.of(name)
	return view{snapshot: s, err: err, settled: err != nil}
}

// stale reports whether the piece may have another image by now.
func (c *Catalog) stale(ctx context.Context, s *Snapshot) bool {
	return s.record.Base != c.Base().SHA256 ||
		c.cfg.Source.Changed(ctx, s.piece, s.info(), s.age())
}

// refresh is the body of one build. It does not use the context of a caller:
// callers may leave, and the bundle is wanted all the same.
func (c *Catalog) refresh(name piece.Name) (Build, error) {
	select {
	case c.builds.turns <- struct{}{}:
		defer func() { <-c.builds.turns }()
	default:
		c.asks.busy.Add(1)
		return Build{}, fmt.Errorf("fetch %s: %w", name, &BusyError{busyRetry})
	}
	ctx, cancel := context.WithTimeout(c.builds.life, c.cfg.Limits.FetchTime)
	defer cancel()
	start := c.cfg.Now()
	c.builds.progress.enter(name, StageBundle)
	s, err := c.fetch(ctx, name)
	b := c.builds.progress.leave(name, s, err)
	if err != nil {
		return Build{}, c.failed(name, err)
	}
	c.failures.remove(name)
	c.cfg.Log.Info("piece fetched", "piece", keyOf(name), "snapshot", s.ID(), "bytes", s.record.BundleSize, "took", c.cfg.Now().Sub(start))
	c.Prune()
	return b, nil
}

// failed notes why a build ended without a snapshot.
func (c *Catalog) failed(name piece.Name, err error) error {
	if fault.Kind(err) == nil {
		err = fmt.Errorf("%w: %w", fault.Unavailable, err) // a source that breaks its contract
	}
	err = fmt.Errorf("fetch %s: %w", name, err)
	if errors.Is(err, fault.NotFound) {
		c.shown.setMissing(name, c.cfg.Now())
	} else {
		c.cfg.Log.Warn("piece not refreshed", "piece", name, "err", err)
	}
	return c.failures.add(name, err)
}

package catalog

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"aesthetic.computer/isofs/bundle"
	"aesthetic.computer/isofs/fault"
	"aesthetic.computer/isofs/piece"

	"github.com/hashicorp/golang-lru/v2/simplelru"
)

// failuresKept bounds the memory for names that no source has.
const failuresKept = 4096

// A PausedError says that the source of a piece failed. The catalog asks it for
// that piece again only when After has passed. It wraps the source's error, so
// errors.As finds a *bundle.BusyError in it.
type PausedError struct {
	After time.Duration
	Err   error
}

func (e *PausedError) Error() string {
	return fmt.Sprintf("%v; it is tried again in %s", e.Err, e.After.Round(time.Second))
}

// Unwrap returns the source's error.
func (e *PausedError) Unwrap() error { return e.Err }

// failures keep for a while why the source gave no bundle, so that the catalog
// does not ask again at each request.
type failures struct {
	limits Limits
	now    func() time.Time

	mu    sync.Mutex // guards known
	known *simplelru.LRU[piece.Name, failure]
}

type failure struct {
	err   error
	until time.Time
}

func newFailures(limits Limits, now func() time.Time) *failures {
	known, err := simplelru.NewLRU[piece.Name, failure](failuresKept, nil)
	if err != nil {
		panic(err) // only for a size of zero
	}
	return &failures{limits: limits, now: now, known: known}
}

// of returns why the source cannot give the piece at the moment, or nil.
func (f *failures) of(name piece.Name) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	known, ok := f.known.Get(name)
	if !ok {
		return nil
	}
	left := known.until.Sub(f.now())
	if left <= 0 {
		f.known.Remove(name)
		return nil
	}
	return paused(known.err, left)
}

// add keeps a failure, and returns it as of does.
func (f *failures) add(name piece.Name, err error) error {
	pause := f.limits.RetryAfter
	if errors.Is(err, fault.NotFound) {
		pause = f.limits.MissingTime
	} else if busy, ok := errors.AsType[*bundle.BusyError](err); ok {
		pause = max(pause, busy.After)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.known.Add(name, failure{err, f.now().Add(pause)})
	return paused(err, pause)
}

func (f *failures) remove(name piece.Name) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.known.Remove(name)
}

// paused adds the pause to an error, if waiting may help.
func paused(err error, left time.Duration) error {
	if errors.Is(err, fault.NotFound) || errors.Is(err, fault.Invalid) {
		return err
	}
	return &PausedError{left, err}
}

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

// failuresKept bounds the memory that names nobody has can take.
const failuresKept = 4096

// A PausedError says that the source of a piece failed, and will not be asked
// for that piece again before After has passed. It wraps what the source said,
// so errors.As finds a *bundle.BusyError in it.
type PausedError struct {
	After time.Duration
	Err   error
}

func (e *PausedError) Error() string {
	return fmt.Sprintf("%v; it is tried again in %s", e.Err, e.After.Round(time.Second))
}

// Unwrap gives what the source said.
func (e *PausedError) Unwrap() error { return e.Err }

// failures remember for a while why a piece could not be had, so that the
// source is not asked again with each request.
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

// of returns why the piece cannot be had at the moment, or nil.
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
	return told(known.err, left)
}

// add remembers a failure, and returns it as of does.
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
	return told(err, pause)
}

func (f *failures) remove(name piece.Name) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.known.Remove(name)
}

// told is err as a caller gets it: with the pause, where waiting may help.
func told(err error, left time.Duration) error {
	if errors.Is(err, fault.NotFound) || errors.Is(err, fault.Invalid) {
		return err
	}
	return &PausedError{left, err}
}

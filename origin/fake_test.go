package origin

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"aesthetic.computer/isofs/fault"
)

// ignore is got for a test that needs only the end.
func ignore(int) {}

// A fake is an origin of content that a test controls.
type fake struct {
	name string
	// does is called for the n-th request, from 1 on. If it returns nil, the
	// fake answers the rest of the request honestly.
	does func(ctx context.Context, n int, p []byte, off int64, got func(int)) error

	mu     sync.Mutex // guards what follows
	calls  []span
	active int
	closed bool
}

// A span is a requested range.
type span struct{ off, n int64 }

func (f *fake) begin() attempt { return f.attempt }

func (f *fake) attempt(ctx context.Context, p []byte, off int64, got func(int)) error {
	f.mu.Lock()
	f.calls = append(f.calls, span{off, int64(len(p))})
	f.active++
	n, does := len(f.calls), f.does
	f.mu.Unlock()
	defer func() { f.mu.Lock(); f.active--; f.mu.Unlock() }()
	reported := 0 // these bytes are not written to again
	if does != nil {
		switch err := does(ctx, n, p, off, func(n int) { reported = n; got(n) }); {
		case errors.Is(err, errDone):
			return nil
		case err != nil:
			return err
		}
	}
	copy(p[reported:], content[off+int64(reported):])
	got(len(p))
	return nil
}

func (f *fake) String() string { return f.name }
func (f *fake) Close() error   { f.mu.Lock(); defer f.mu.Unlock(); f.closed = true; return nil }

func (f *fake) asked() []span { f.mu.Lock(); defer f.mu.Unlock(); return slices.Clone(f.calls) }
func (f *fake) becomes(does func(context.Context, int, []byte, int64, func(int)) error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.does = does
}

// What a fake may do.

func fails(err error) func(context.Context, int, []byte, int64, func(int)) error {
	return func(context.Context, int, []byte, int64, func(int)) error { return err }
}

// hangs never answers.
func hangs(ctx context.Context, _ int, _ []byte, _ int64, _ func(int)) error {
	<-ctx.Done()
	return canceled(ctx)
}

// breaks gives so many bytes and then fails, having spoilt the bytes behind
// them.
func breaks(n int, err error) func(context.Context, int, []byte, int64, func(int)) error {
	return func(_ context.Context, _ int, p []byte, off int64, got func(int)) error {
		clear(p)
		copy(p[:n], content[off:])
		got(n)
		return err
	}
}

// takes is honest after that delay.
func takes(d time.Duration) func(context.Context, int, []byte, int64, func(int)) error {
	return func(ctx context.Context, _ int, _ []byte, _ int64, _ func(int)) error {
		if sleep(ctx, d) != nil {
			return canceled(ctx)
		}
		return nil
	}
}

// errDone means that does has answered the whole request.
var errDone = errors.New("done")

var errOff = fmt.Errorf("%w: switched off", fault.Unavailable)

// A log keeps the lines for the test.
type log struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *log) Write(p []byte) (int, error) { l.mu.Lock(); defer l.mu.Unlock(); return l.text.Write(p) }

// lines returns how many lines have the words.
func (l *log) lines(words string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Count(l.text.String(), words)
}

// over makes Mirrors of fakes.
func over(t *testing.T, o MirrorOptions, fakes ...*fake) (*Mirrors, *log) {
	t.Helper()
	l := &log{}
	o.Options.Log = slog.New(slog.NewTextHandler(l, nil))
	m := newMirrors(o, int64(len(content)))
	for _, f := range fakes {
		m.add(f, false)
	}
	return m, l
}

// reads fetches a range and compares it.
func reads(t *testing.T, m Origin, off, n int64) {
	t.Helper()
	p := make([]byte, n)
	if err := m.FetchStream(t.Context(), p, off, ignore); err != nil {
		t.Errorf("%d bytes at %d: %v", n, off, err)
	} else if !slices.Equal(p, content[off:off+n]) {
		t.Errorf("%d bytes at %d: wrong bytes", n, off)
	}
}

func refuses(t *testing.T, m Origin, off, n int64, kind error) error {
	t.Helper()
	err := m.FetchStream(t.Context(), make([]byte, n), off, ignore)
	if err == nil || !errors.Is(err, kind) || fault.Kind(err) != kind {
		t.Errorf("%d bytes at %d: got error %v, want %v", n, off, err, kind)
	}
	return err
}

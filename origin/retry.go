package origin

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strconv"
	"time"

	"aesthetic.computer/isofs/fault"
)

// A verdict says what may be done after a failed attempt.
type verdict int

const (
	// again: the failure may pass, such as a 503 or a lost connection.
	again verdict = iota
	// onceMore: the server answered something else than was asked. One broken
	// node of a CDN is worth a second request, a server that cannot do better
	// is not worth thirty seconds of them.
	onceMore
	// final: the next answer will be the same.
	final
)

// A failure is why one attempt failed. Any other error of an attempt means
// that it may be made again.
type failure struct {
	kind    error // one of package fault
	text    string
	verdict verdict
	after   time.Duration // not before this much time from now
}

func (f *failure) Error() string { return f.kind.Error() + ": " + f.text }
func (f *failure) Unwrap() error { return f.kind }

func wrong(kind error, format string, a ...any) *failure {
	return &failure{kind: kind, text: fmt.Sprintf(format, a...), verdict: onceMore}
}

func changed(format string, a ...any) *failure {
	return &failure{kind: fault.Corrupt, text: "object changed: " + fmt.Sprintf(format, a...), verdict: final}
}

// retry makes attempts until one succeeds, or fails for good, or the deadline
// comes. An attempt reports whether it got a part of what is wanted: then the
// pauses start small again. The first failure after which there is another
// attempt is told to failing. The error wraps one kind of package fault.
func (o Options) retry(ctx context.Context, failing func(error), attempt func(context.Context) (progress bool, err error)) error {
	within, cancel := context.WithTimeout(ctx, o.Timeout)
	defer cancel()
	var last error
	wrongs, pause := 0, o.Backoff
	for n := 1; ; n++ {
		progress, err := attempt(within)
		if err == nil {
			return nil
		}
		if ctx.Err() != nil {
			return canceled(ctx)
		}
		if within.Err() != nil {
			return gaveUp(n, fmt.Sprintf("in %v", o.Timeout), last)
		}
		last = err
		f, classified := errors.AsType[*failure](err)
		if classified && f.verdict == onceMore {
			wrongs++
		}
		if classified && (f.verdict == final || wrongs > 1 || o.once) {
			return f
		}
		if o.once {
			return fmt.Errorf("%w: %w", fault.Unavailable, err)
		}
		if progress {
			pause = o.Backoff
		}
		wait := rand.N(pause)
		if classified {
			wait = max(wait, f.after)
		}
		pause = min(2*pause, o.MaxBackoff)
		if deadline, _ := within.Deadline(); wait > time.Until(deadline) {
			return gaveUp(n, fmt.Sprintf("as the next one is due in %v", wait.Round(time.Millisecond)), last)
		}
		if n == 1 {
			failing(err)
		}
		if o.sleep(within, wait) != nil {
			if ctx.Err() != nil {
				return canceled(ctx)
			}
			return gaveUp(n, fmt.Sprintf("in %v", o.Timeout), last)
		}
	}
}

// gaveUp is the error after the deadline. It keeps the text of the last
// failure and not its kind, since the kind of the whole is Unavailable.
func gaveUp(attempts int, why string, last error) error {
	if last == nil {
		return fmt.Errorf("%w: no answer %s", fault.Unavailable, why)
	}
	return fmt.Errorf("%w: gave up after %d attempts, %s: %v", fault.Unavailable, attempts, why, last)
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// retryAfter reads the header of that name (RFC 9110, 10.2.3): seconds, or a
// date. What cannot be read is no delay.
func retryAfter(h http.Header) time.Duration {
	v := h.Get("Retry-After")
	if s, err := strconv.ParseUint(v, 10, 31); err == nil {
		return time.Duration(s) * time.Second
	}
	if t, err := http.ParseTime(v); err == nil {
		return max(0, time.Until(t))
	}
	return 0
}

package origin

import (
	"context"
	"errors"
	"fmt"
	"syscall"
	"time"

	"aesthetic.computer/isofs/fault"
)

// A source is one place that has the object. It makes single attempts; a loop
// decides what follows a failed one.
type source interface {
	// begin returns the attempts of one read. They may run at the same time, and
	// all bytes that they give are of one version of the object.
	begin() attempt
	// String is the address without credentials, for messages.
	String() string
	// Close closes connections and files. Attempts fail after it.
	Close() error
}

// An attempt requests once the bytes from off on, which fill p. It calls got in
// the caller's goroutine with n growing: p[:n] is there, and is not written to
// again. Its error is a failure, or any other error if the attempt may be
// repeated.
type attempt func(ctx context.Context, p []byte, off int64, got func(n int)) error

// step is how much an attempt reads before it calls got. It is small beside a
// block, so that a block's last bytes do not wait for those behind it.
const step = 64 << 10

// A verdict says what may follow a failed attempt.
type verdict int

const (
	// again: the failure may pass, such as a 503 or a lost connection.
	again verdict = iota
	// onceMore: the server answered something other than the request. One broken
	// node of a CDN is worth a second request. A server that cannot do better is
	// not worth thirty seconds of them.
	onceMore
	// withOthers: waiting hardly helps, as with an error of the local disk. The
	// source gets another attempt only when others do, too.
	withOthers
	// final: the next answer will be the same.
	final
)

// A failure is why an attempt failed, and what may follow it.
type failure struct {
	error   // wraps one kind of package fault
	verdict verdict
	after   time.Duration // the server wants to be left alone for so long
}

// Unwrap lets errors.Is find the kind.
func (f *failure) Unwrap() error { return f.error }

// newFailure makes the failure of one attempt.
func newFailure(v verdict, kind error, format string, a ...any) *failure {
	return &failure{error: fmt.Errorf("%w: %w", kind, fmt.Errorf(format, a...)), verdict: v}
}

// wrong returns the failure for an answer to something other than the request.
func wrong(kind error, format string, a ...any) *failure {
	return newFailure(onceMore, kind, format, a...)
}

// changed returns the failure for an object that changed.
func changed(format string, a ...any) *failure {
	return newFailure(final, fault.Corrupt, "object changed: "+format, a...)
}

func tooLarge(limit int64) *failure {
	return newFailure(final, fault.Corrupt, "it has more than %d bytes", limit)
}

// canceled is the error of a read whose context ended.
func canceled(ctx context.Context) error {
	return fmt.Errorf("%w: %w", fault.Unavailable, ctx.Err())
}

var (
	// errStalled ends an attempt during which no byte came for Options.Stall.
	errStalled = errors.New("no byte came for too long")
	// errSlow ends an attempt that would leave no time for the other sources.
	errSlow = errors.New("it took too much of the time")
)

// grave reports whether the next read from this source will probably fail as
// well, or cost as much time.
func grave(err error) bool {
	if f, ok := errors.AsType[*failure](err); ok {
		return f.verdict == final
	}
	return errors.Is(err, fault.NotFound) || errors.Is(err, fault.Corrupt) || errors.Is(err, errStalled) || errors.Is(err, errSlow) ||
		errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, context.DeadlineExceeded)
}

package extent

import (
	"context"
	"errors"
	"fmt"
	"io"

	"aesthetic.computer/isofs/fault"
)

// readFull fills p with the bytes of r from off on, and enforces the contract
// of io.ReaderAt: n is len(p), or there is an error other than io.EOF. The
// caller has checked that r should have these bytes.
func readFull(ctx context.Context, r io.ReaderAt, p []byte, off int64) (n int, err error) {
	if len(p) == 0 {
		return 0, nil
	}
	if c, ok := r.(ContextSource); ok {
		n, err = c.ReadAtContext(ctx, p, off)
	} else if err = ended(ctx); err == nil {
		n, err = r.ReadAt(p, off)
	}
	switch {
	case n < 0 || n > len(p):
		return 0, fmt.Errorf("source returned %d of %d bytes: %w", n, len(p), fault.Corrupt)
	case n == len(p) && (err == nil || errors.Is(err, io.EOF)):
		return n, nil
	case err == nil || errors.Is(err, io.EOF):
		// Not wrapped: no caller may take this for the end.
		return n, fmt.Errorf("source ended after %d of %d bytes: %w: %w", n, len(p), fault.Corrupt, io.ErrUnexpectedEOF)
	}
	return n, classify(err)
}

// ended returns why ctx ended, or nil.
func ended(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("%w: %w", fault.Unavailable, err)
	}
	return nil
}

// classify gives an error without a kind fault.Unavailable: a later read may
// succeed.
func classify(err error) error {
	if fault.Kind(err) != nil {
		return err
	}
	return fmt.Errorf("%w: %w", fault.Unavailable, err)
}

// clip returns the part of p that a read at off of a source of size bytes can
// fill. The error is that of a read that fills it: nil for all of p, io.EOF for
// less, or an error for a negative off.
func clip(p []byte, off, size int64) ([]byte, error) {
	switch {
	case off < 0:
		return nil, fmt.Errorf("read at %d: negative offset: %w", off, fault.Invalid)
	case len(p) == 0:
		return nil, nil
	case off >= size:
		return nil, io.EOF
	case int64(len(p)) > size-off:
		return p[:size-off], io.EOF
	}
	return p, nil
}

// within returns an error unless [off, off+n) is in a source of size bytes.
func within(off, n, size int64) error {
	if off < 0 || n < 0 || off > size-n {
		return fmt.Errorf("pin %d bytes at %d of %d: not within it: %w", n, off, size, fault.Invalid)
	}
	return nil
}

package origin

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"sync"

	"aesthetic.computer/isofs/fault"
)

// file is an object of known size in the local file system.
type file struct {
	path string
	size int64

	mu     sync.Mutex  // guards what follows
	open   *os.File    // nil before the first Fetch and after a change
	pin    os.FileInfo // of open when it was opened
	closed bool
}

var _ source = (*file)(nil)

// String is the path.
func (f *file) String() string { return f.path }

// begin implements source. The file is pinned for all reads at once.
func (f *file) begin() attempt { return f.attempt }

func (f *file) attempt(ctx context.Context, p []byte, off int64, got func(n int)) error {
	if ctx.Err() != nil {
		return canceled(ctx)
	}
	r, pin, err := f.pinned()
	if err != nil {
		return err
	}
	for n := 0; n < len(p); got(n) {
		if ctx.Err() != nil {
			return canceled(ctx)
		}
		next := p[n:min(n+step, len(p))]
		_, readErr := r.ReadAt(next, off+int64(n))
		if readErr == io.EOF {
			readErr = io.ErrUnexpectedEOF
		}
		// The check comes after the read. So it notices a change during the read,
		// which also explains best why a read failed.
		if err := f.unchanged(pin); err != nil {
			f.unpin(pin)
			return err
		}
		if readErr != nil {
			return classify(readErr)
		}
		n += len(next)
	}
	return nil
}

// pinned returns the open file and its state when it was opened.
func (f *file) pinned() (*os.File, os.FileInfo, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return nil, nil, newFailure(final, fault.Unavailable, "the origin is closed")
	}
	if f.open != nil {
		return f.open, f.pin, nil
	}
	r, info, err := openRegular(f.path)
	if err != nil {
		return nil, nil, err
	}
	if info.Size() != f.size {
		r.Close()
		return nil, nil, newFailure(final, fault.Corrupt, "it has %d bytes, not %d", info.Size(), f.size)
	}
	f.open, f.pin = r, info
	return r, info, nil
}

// unchanged compares the file that has the name now with the pinned one.
func (f *file) unchanged(pin os.FileInfo) error {
	now, err := os.Stat(f.path)
	switch {
	case err != nil:
		return classify(err)
	case !os.SameFile(now, pin):
		return newFailure(final, fault.Corrupt, "file changed: another one has its name now")
	case now.Size() != pin.Size():
		return newFailure(final, fault.Corrupt, "file changed: it has %d bytes, not %d", now.Size(), pin.Size())
	case !now.ModTime().Equal(pin.ModTime()):
		return newFailure(final, fault.Corrupt, "file changed: it was written to at %v", now.ModTime())
	}
	return nil
}

// unpin closes the file if it still is the one of pin, so that the next attempt
// opens the file that has the name then.
func (f *file) unpin(pin os.FileInfo) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.open != nil && f.pin == pin {
		f.open.Close()
		f.open, f.pin = nil, nil
	}
}

// Close implements Origin.
func (f *file) Close() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.closed = true
	if f.open == nil {
		return nil
	}
	err := f.open.Close()
	f.open, f.pin = nil, nil
	if err != nil {
		return fmt.Errorf("close %s: %w", f.path, classify(err))
	}
	return nil
}

func openRegular(path string) (*os.File, os.FileInfo, error) {
	// Stat comes first, since opening a pipe would wait for a writer.
	if info, err := os.Stat(path); err != nil {
		return nil, nil, classify(err)
	} else if !info.Mode().IsRegular() {
		return nil, nil, newFailure(final, fault.Invalid, "it is not a regular file")
	}
	r, err := os.Open(path)
	if err != nil {
		return nil, nil, classify(err)
	}
	info, err := r.Stat()
	if err != nil {
		r.Close()
		return nil, nil, classify(err)
	}
	return r, info, nil
}

func readFile(ctx context.Context, path string, limit int64) ([]byte, error) {
	if ctx.Err() != nil {
		return nil, fmt.Errorf("read %s: %w", path, canceled(ctx))
	}
	r, _, err := openRegular(path)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	defer r.Close()
	all, err := io.ReadAll(io.LimitReader(r, limit+1))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", path, classify(err))
	}
	if int64(len(all)) > limit {
		return nil, fmt.Errorf("read %s: %w", path, tooLarge(limit))
	}
	return all, nil
}

// classify makes a failure of an error of the operating system. It leaves out the
// path, which the message has already.
func classify(err error) error {
	v, kind := withOthers, fault.Unavailable
	if errors.Is(err, fs.ErrNotExist) {
		v, kind = final, fault.NotFound
	}
	if e, ok := errors.AsType[*fs.PathError](err); ok {
		err = e.Err
	}
	return newFailure(v, kind, "%w", err)
}

package vfs

import (
	"context"
	"fmt"
	"os"
	"syscall"

	"aesthetic.computer/isofs/fault"

	"github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"
)

// An openFile is an open file: one handle on one snapshot.
type openFile struct {
	core   *core
	img    SnapshotFile
	handle Handle
	reads  streams
	inode  *fs.Inode
}

var (
	_ fs.FileReader   = (*openFile)(nil)
	_ fs.FileReleaser = (*openFile)(nil)
)

// Read answers with all of [off, off+len(dest)) that the image has, or with an
// error. It never answers with less: the kernel would take a short answer for the
// end of the file, and in the page cache fill up with zeroes.
func (o *openFile) Read(ctx context.Context, dest []byte, off int64) (fuse.ReadResult, syscall.Errno) {
	n := min(int64(len(dest)), o.handle.Size()-off)
	if n <= 0 || off < 0 {
		return copied(nil), 0
	}
	if o.core.pages != nil {
		o.core.pages.asked(o.inode, n, o.handle.Size())
	}
	work, cancel := o.core.request(ctx, 0)
	defer cancel()
	// A reader that opens a file and waits for its first bytes gets those first.
	at, ahead := o.reads.note(off, n)
	if off == 0 {
		defer o.handle.Prefetch(at, ahead)
	} else if ahead > 0 {
		o.handle.Prefetch(at, ahead)
	}
	result, err := o.read(work, dest[:n], off)
	if err != nil {
		return nil, o.core.readErrno(work, o.img, off, n, err)
	}
	return result, 0
}

// read splices if p lies in one file and is worth it, and copies otherwise.
func (o *openFile) read(ctx context.Context, p []byte, off int64) (fuse.ReadResult, error) {
	if len(p) >= spliceMin {
		f, at, release, err := o.handle.Pin(ctx, off, int64(len(p)))
		if err != nil {
			return nil, err
		}
		if f != nil {
			if result := o.core.splices.load(f, at, len(p), release); result != nil {
				o.core.count.spliced.add(o.handle, off, int64(len(p)))
				result.fail = func(err error) { _ = o.core.readErrno(context.Background(), o.img, off, int64(len(p)), err) }
				return result, nil
			}
			defer release()
			if err := readFull(f, p, at); err != nil {
				return nil, err
			}
			o.core.count.copied.add(o.handle, off, int64(len(p)))
			return copied(p), nil
		}
	}
	n, err := o.handle.ReadAtContext(ctx, p, off)
	if n == len(p) {
		o.core.count.copied.add(o.handle, off, int64(n))
		return copied(p), nil // an io.EOF with it is not a failure
	}
	if err == nil || fault.Kind(err) == nil {
		err = fmt.Errorf("read %d of %d bytes: %w: %w", n, len(p), fault.Corrupt, errOrShort(err))
	}
	return nil, err
}

// copied answers with p. It is not fuse.ReadResultData: for that go-fuse prepares
// a pipe in vain, and logs a line when p is larger than a pipe can be.
func copied(p []byte) fuse.ReadResult { return fuse.ReadResultVector([][]byte{p}) }

// Release releases the snapshot. No program reads a closed file, so a failure is
// only logged.
func (o *openFile) Release(context.Context) syscall.Errno {
	if o.core.open.take(o) {
		o.close()
	}
	return 0
}

func (o *openFile) close() {
	if err := o.handle.Close(); err != nil {
		_ = o.core.openErrno(o.img, o.img.FileName(), fmt.Errorf("close: %w", err))
	}
}

// readFull reads all of p from offset at of f, or fails.
func readFull(f *os.File, p []byte, at int64) error {
	n, err := f.ReadAt(p, at)
	if n == len(p) {
		return nil
	}
	return fmt.Errorf("read %d bytes at %d of cache file %s, got %d: %w: %w",
		len(p), at, f.Name(), n, fault.Corrupt, errOrShort(err))
}

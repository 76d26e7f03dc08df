package vfs

import (
	"context"
	"errors"
	"log/slog"
	"syscall"

	"aesthetic.computer/isofs/fault"
)

// errnos is the one table from kinds of failure to errno. Bytes that are
// unavailable or corrupt are EIO. Programs and web servers understand only that
// as "the read of an existing file failed, do not believe that it ended".
var errnos = [...]struct {
	kind         error
	lookup, read syscall.Errno
	level        slog.Level
}{
	{fault.NotFound, syscall.ENOENT, syscall.EIO, slog.LevelWarn},
	{fault.Invalid, syscall.ENOENT, syscall.EINVAL, slog.LevelWarn},
	{fault.Corrupt, syscall.EIO, syscall.EIO, slog.LevelError},
	{fault.Unavailable, syscall.EIO, syscall.EIO, slog.LevelWarn},
	{nil, syscall.EIO, syscall.EIO, slog.LevelError},
}

// classify returns the index of err's row.
func classify(err error) int {
	kind := fault.Kind(err)
	for i, row := range errnos {
		if row.kind == kind {
			return i
		}
	}
	return len(errnos) - 1
}

// lookupErrno answers for a name that could not be resolved. ctx is that of
// request. When the request was given up, no program reads the answer and
// nothing is logged.
func (c *core) lookupErrno(ctx context.Context, name string, err error) syscall.Errno {
	if errors.Is(ctx.Err(), context.Canceled) {
		return syscall.EINTR
	}
	row := errnos[classify(err)]
	if row.lookup != syscall.ENOENT {
		c.log.report(row.level, "lookup "+name, "cannot look up an image", "name", name, "err", err)
	}
	return row.lookup
}

// openErrno answers for an image or sidecar that could not be opened. If it was
// there at the lookup and is not now, the answer is ESTALE. The kernel then
// looks the name up again by itself, and finds the next snapshot or ENOENT.
func (c *core) openErrno(img SnapshotFile, name string, err error) syscall.Errno {
	if errors.Is(err, fault.NotFound) {
		return syscall.ESTALE
	}
	row := errnos[classify(err)]
	c.log.report(row.level, "open "+img.ID(), "cannot open an image",
		"name", name, "snapshot", img.ID(), "err", err)
	return row.lookup
}

// readErrno answers for a range of an open image that could not be read.
func (c *core) readErrno(ctx context.Context, img SnapshotFile, off, n int64, err error) syscall.Errno {
	if errors.Is(ctx.Err(), context.Canceled) {
		return syscall.EINTR
	}
	row := errnos[classify(err)]
	c.log.report(row.level, "read "+img.ID(), "cannot read an image",
		"name", img.FileName(), "snapshot", img.ID(), "offset", off, "length", n, "err", err)
	return row.read
}

package store

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"
)

// cannot are the answers of file systems that lack a call: exFAT and others
// have no hard links, most of FUSE has no flags of a renaming.
var cannot = []error{
	syscall.EPERM, syscall.EINVAL, syscall.ENOSYS, syscall.EOPNOTSUPP, syscall.EMLINK, syscall.EXDEV,
}

// rename gives a file another name, if nothing has that name: else fs.ErrExist.
// The kernel guarantees this where the file system can. Otherwise the lock of
// the place does, which all publishers hold.
func (f *folder) rename(ctx context.Context, from, to string) error {
	err := unix.Renameat2(unix.AT_FDCWD, from, unix.AT_FDCWD, to, unix.RENAME_NOREPLACE)
	if !unsupported(err) {
		return named(from, to, err)
	}
	if err = os.Link(from, to); err == nil {
		return os.Remove(from)
	}
	if !unsupported(err) {
		return err
	}
	lock, err := f.lock(ctx)
	if err != nil {
		return err
	}
	defer lock.Close()
	if _, err := os.Lstat(to); err == nil {
		return named(from, to, fs.ErrExist)
	}
	return os.Rename(from, to)
}

// named returns err with both names, as package os does.
func named(from, to string, err error) error {
	if err == nil {
		return nil
	}
	return &os.LinkError{Op: "rename", Old: from, New: to, Err: err}
}

func unsupported(err error) bool {
	for _, e := range cannot {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// tryName gives a name to a file of no bytes, as rename will to the image.
func (f *folder) tryName(ctx context.Context, dir string) error {
	from := filepath.Join(dir, fmt.Sprintf("%strial-%d%s", partialPrefix, os.Getpid(), partialSuffix))
	to := from + ".named"
	file, err := os.OpenFile(from, os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	// A leftover of a killed trial, under this process's number.
	_ = os.Remove(to)
	err = errors.Join(file.Close(), f.rename(ctx, from, to))
	if err != nil {
		return errors.Join(err, os.Remove(from))
	}
	return os.Remove(to)
}

// Package output opens the files and devices that a user names as output.
//
// A regular file, or a new one, gets its name when it is whole: it is written
// beside and renamed. A symbolic link stays, and the file that it points to is
// replaced. A character device such as /dev/null, a FIFO, and standard output
// (the name "-") are written into, as they cannot be replaced. A block device is
// refused: half an image on a stick must be recognizable as half, which package
// stick does. So are folders and sockets.
//
// The package leaves out files that isofs names itself, in STATE and where bases
// are published.
package output

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/google/renameio/v2"
	"golang.org/x/sys/unix"

	"aesthetic.computer/isofs/fault"
)

// Standard is the name of standard output. A file with that name is "./-".
const Standard = "-"

const (
	// maxLinks is how many links in a row are followed, as in the kernel.
	maxLinks = 40
	// pause is the time between two looks for a reader of a FIFO.
	pause = 20 * time.Millisecond
)

// A File is open for writing. Commit or Abort ends it.
type File struct {
	// To is what to write to. It is empty, unless the file is a stream.
	To *os.File

	name    string
	pending *renameio.PendingFile // nil for a stream
}

// Create opens what name names. All whom the umask allows can read a new file; a
// replaced one keeps its mode. For a FIFO it waits until a program reads from
// it, or ctx ends.
//
// Errors: fault.Invalid for what Create refuses, fault.Unavailable for what the
// system does not allow.
func Create(ctx context.Context, name string) (*File, error) {
	if name == Standard {
		return &File{To: os.Stdout, name: "standard output"}, nil
	}
	f, err := create(ctx, name)
	if err != nil {
		return nil, failed(name, err)
	}
	return f, nil
}

func create(ctx context.Context, name string) (*File, error) {
	there, err := os.Stat(name)
	if err == nil && !there.Mode().IsRegular() {
		return stream(ctx, name, there.Mode())
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	target, err := follow(name)
	if err != nil {
		return nil, err
	}
	// Beside, and not in /tmp, which is where renameio looks first: an image may
	// not fit there.
	pending, err := renameio.NewPendingFile(target,
		renameio.WithTempDir(filepath.Dir(target)), renameio.WithPermissions(0o644), renameio.WithExistingPermissions())
	if err != nil {
		return nil, err
	}
	return &File{To: pending.File, name: name, pending: pending}, nil
}

// follow returns what a name means in the end, which need not exist.
func follow(name string) (string, error) {
	for range maxLinks {
		dir, last := filepath.Split(name)
		if last == "" {
			return "", fmt.Errorf("that is the name of a folder: name a file in it: %w", fault.Invalid)
		}
		if dir == "" {
			dir = "."
		}
		// Not cleaned before: "link/.." is where the link leads to.
		dir, err := filepath.EvalSymlinks(dir)
		if err != nil {
			return "", err
		}
		name = filepath.Join(dir, last)
		fi, err := os.Lstat(name)
		if errors.Is(err, fs.ErrNotExist) || err == nil && fi.Mode().Type() != fs.ModeSymlink {
			return name, nil
		}
		if err != nil {
			return "", err
		}
		// The owner of the link would decide which of our files is replaced.
		if owner := fi.Sys().(*syscall.Stat_t).Uid; owner != 0 && int(owner) != os.Geteuid() {
			return "", fmt.Errorf("%s is a link that user %d made: name the file itself: %w", name, owner, fault.Invalid)
		}
		to, err := os.Readlink(name)
		if err != nil {
			return "", err
		}
		if !filepath.IsAbs(to) {
			to = dir + "/" + to
		}
		name = to
	}
	return "", syscall.ELOOP
}

// stream opens what can be written into, and refuses the rest.
func stream(ctx context.Context, name string, mode fs.FileMode) (*File, error) {
	if err := refuse(mode); err != nil {
		return nil, err
	}
	for {
		// Without waiting in the kernel, where ctx would not be seen.
		f, err := os.OpenFile(name, os.O_WRONLY|unix.O_NOCTTY|unix.O_NONBLOCK, 0)
		if errors.Is(err, unix.ENXIO) && mode.Type() == fs.ModeNamedPipe {
			select {
			case <-ctx.Done():
				return nil, fmt.Errorf("no program reads from this FIFO: %w", ctx.Err())
			case <-time.After(pause):
				continue
			}
		}
		if err != nil {
			return nil, err
		}
		// Another program may have the name by now.
		now, err := f.Stat()
		if err == nil {
			err = refuse(now.Mode())
		}
		if err != nil {
			f.Close()
			return nil, err
		}
		return &File{To: f, name: name}, nil
	}
}

// refuse returns why isofs does not write into such a file; nil if it does.
func refuse(mode fs.FileMode) error {
	switch {
	case mode.IsDir():
		return fmt.Errorf("that is a folder: name a file in it: %w", fault.Invalid)
	case mode&fs.ModeNamedPipe != 0, mode&fs.ModeCharDevice != 0:
		return nil
	case mode&fs.ModeDevice != 0:
		return fmt.Errorf("that is a disk, and this would not see whether it is the right one: "+
			"isofs stick write looks at it, asks, and reads back what it wrote: %w", fault.Invalid)
	}
	return fmt.Errorf("that is not a file, device or FIFO: %w", fault.Invalid)
}

// IsStream reports whether bytes are passed on as they are written. Then no file
// can be put beside it, and nothing can be taken back.
func (f *File) IsStream() bool { return f.pending == nil }

// IsStandard reports whether it is standard output, where nothing else may be
// printed then.
func (f *File) IsStandard() bool { return f.To == os.Stdout }

// Share makes a file readable by everybody, whatever the umask is.
func (f *File) Share() error {
	if f.IsStream() {
		return nil
	}
	if err := f.To.Chmod(0o644); err != nil {
		return failed(f.name, err)
	}
	return nil
}

// Commit ends the writing; a file gets its name now, on the disk.
func (f *File) Commit() error {
	var err error
	switch {
	case f.pending != nil:
		err = f.pending.CloseAtomicallyReplace()
	case !f.IsStandard():
		err = f.To.Close()
	}
	if err != nil {
		return failed(f.name, err)
	}
	return nil
}

// Abort leaves what was there before. A stream keeps the bytes that it got.
// After Commit it does nothing.
func (f *File) Abort() {
	switch {
	case f.pending != nil:
		_ = f.pending.Cleanup() // a leftover file beside does not matter
	case !f.IsStandard():
		_ = f.To.Close() // it may be closed
	}
}

// WriteFile writes the whole content of name. If it is a file, everybody can
// read it. Its errors are those of Create.
func WriteFile(ctx context.Context, name string, data []byte) error {
	f, err := Create(ctx, name)
	if err != nil {
		return err
	}
	defer f.Abort()
	if err := f.Share(); err != nil {
		return err
	}
	if _, err := f.To.Write(data); err != nil {
		return failed(name, err)
	}
	return f.Commit()
}

// WriteNew writes a secret to a new file, for its owner alone, or to standard
// output. Anything that exists at the name is fault.Invalid.
func WriteNew(name string, data []byte) error {
	if name == Standard {
		if _, err := os.Stdout.Write(data); err != nil {
			return failed("standard output", err)
		}
		return nil
	}
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return failed(name, fmt.Errorf("it is there already, and is left alone: %w", fault.Invalid))
	}
	if err != nil {
		return failed(name, err)
	}
	_, err = f.Write(data)
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return errors.Join(failed(name, err), os.Remove(name))
	}
	return nil
}

// failed returns an error that says what could not be written, and gives it a
// kind.
func failed(name string, err error) error {
	if fault.Kind(err) != nil {
		return fmt.Errorf("write to %s: %w", name, err)
	}
	return fmt.Errorf("write to %s: %w: %w", name, fault.Unavailable, err)
}

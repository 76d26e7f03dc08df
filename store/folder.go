package store

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/google/renameio/v2"
	"golang.org/x/sys/unix"

	"aesthetic.computer/isofs/fault"
	"aesthetic.computer/isofs/origin"
)

const (
	// lockName is locked while an object is compared and replaced.
	lockName = ".isofs.lock"
	// partial is before and behind the name of a file that is not whole yet.
	partialPrefix, partialSuffix = ".", ".partial"
	// step is how much of a file is compared, and written, at a time.
	step = 4 << 20
	// lockPause is the pause between two attempts at a held lock.
	lockPause = 20 * time.Millisecond
)

// A folder is a Store in the file system.
type folder struct{ root string }

var _ Store = (*folder)(nil)

// String is the path.
func (f *folder) String() string { return f.root }

// newFolder returns the folder at a path. Package filepath removes "link/..".
// The kernel, which readers use, goes to the folder above the link's target. So
// this is resolved first.
func newFolder(path string) (*folder, error) {
	if !slices.Contains(strings.Split(path, "/"), "..") {
		return &folder{root: path}, nil
	}
	real, err := resolve(path)
	if err != nil {
		return nil, failed("find", path, err)
	}
	return &folder{root: real}, nil
}

// resolve is filepath.EvalSymlinks of a path whose last names need not exist.
func resolve(path string) (string, error) {
	real, err := filepath.EvalSymlinks(path)
	above, last := filepath.Split(strings.TrimRight(path, "/"))
	if !errors.Is(err, fs.ErrNotExist) || above == "" || last == ".." {
		return real, err
	}
	if above, err = resolve(above); err != nil {
		return "", err
	}
	return filepath.Join(above, last), nil
}

func (f *folder) path(name string) string { return filepath.Join(f.root, filepath.FromSlash(name)) }

// Read implements Store. The tag is a hash of the content.
func (f *folder) Read(ctx context.Context, name string, limit int64) ([]byte, string, error) {
	data, err := origin.ReadAll(ctx, f.path(name), limit)
	if err != nil {
		return nil, "", err
	}
	return data, tagOf(data), nil
}

func tagOf(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}

// Put implements Store. All writers hold the lock from the comparison to the
// rename, so that nothing comes between.
func (f *folder) Put(ctx context.Context, name string, data []byte, tag string) error {
	target := f.path(name)
	if err := makeDir(filepath.Dir(target)); err != nil {
		return failed("write", name, err)
	}
	lock, err := f.lock(ctx)
	if err != nil {
		return err
	}
	defer lock.Close()
	now := ""
	switch old, err := os.ReadFile(target); {
	case err == nil:
		now = tagOf(old)
	case !errors.Is(err, fs.ErrNotExist):
		return failed("write", name, err)
	}
	if now != tag {
		return conflict(name)
	}
	if err := renameio.WriteFile(target, data, 0o644, renameio.IgnoreUmask()); err != nil {
		return failed("write", name, err)
	}
	return syncDir(filepath.Dir(target))
}

// lock waits for the lock of the whole place. It ends with the process.
func (f *folder) lock(ctx context.Context) (*os.File, error) {
	file, err := os.OpenFile(filepath.Join(f.root, lockName), os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, failed("lock", f.root, err)
	}
	for {
		err := unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return file, nil
		}
		if !errors.Is(err, unix.EWOULDBLOCK) {
			file.Close()
			return nil, failed("lock", f.root, err)
		}
		select {
		case <-ctx.Done():
			file.Close()
			return nil, failed("lock", f.root, ctx.Err())
		case <-time.After(lockPause):
		}
	}
}

// Upload implements Store. It writes to a hidden file beside, over the wrong
// parts of what is there. The file gets its name when it is whole and on the
// disk.
func (f *folder) Upload(ctx context.Context, name string, from io.ReaderAt, size int64, done func(n int64)) error {
	target := f.path(name)
	hidden := filepath.Join(filepath.Dir(target), partialPrefix+filepath.Base(target)+partialSuffix)
	if err := makeDir(filepath.Dir(target)); err != nil {
		return failed("write", name, err)
	}
	file, err := os.OpenFile(hidden, os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return failed("write", name, err)
	}
	defer file.Close()
	// Held to the end: another program that has this file open does not write to
	// it.
	if err := unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return fmt.Errorf("write %s: another publisher is at it: %w: %w", name, fault.Unavailable, ErrConflict)
	}
	// The publisher that held the lock before may have finished. Then this file
	// has the name already, or none.
	if now, err := os.Stat(hidden); err != nil || !isFile(file, now) {
		return conflict(name)
	}
	if _, err := os.Lstat(target); err == nil {
		return errors.Join(conflict(name), os.Remove(hidden))
	}
	// A failure now saves copying gigabytes first.
	if err := f.tryName(ctx, filepath.Dir(target)); err != nil {
		return failed("write", name, fmt.Errorf("this file system gives no name to a file that is whole: %w", err))
	}
	if err := copyOver(ctx, file, from, size, done); err != nil {
		return failed("write", name, err)
	}
	if err := errors.Join(file.Truncate(size), file.Chmod(0o644), file.Sync()); err != nil {
		return failed("write", name, err)
	}
	if err := f.rename(ctx, hidden, target); errors.Is(err, fs.ErrExist) {
		return conflict(name)
	} else if err != nil {
		return failed("write", name, err)
	}
	return syncDir(filepath.Dir(target))
}

func isFile(file *os.File, info os.FileInfo) bool {
	own, err := file.Stat()
	return err == nil && os.SameFile(own, info)
}

// copyOver makes the first size bytes of to those of from, and skips what is
// right already.
func copyOver(ctx context.Context, to *os.File, from io.ReaderAt, size int64, done func(n int64)) error {
	want, have := make([]byte, step), make([]byte, step)
	for off := int64(0); off < size; off += step {
		if err := ctx.Err(); err != nil {
			return err
		}
		p := want[:min(step, size-off)]
		if _, err := io.ReadFull(io.NewSectionReader(from, off, int64(len(p))), p); err != nil {
			return fmt.Errorf("read the image at byte %d: %w", off, err)
		}
		n, _ := to.ReadAt(have[:len(p)], off) // what cannot be read is not there
		if n < len(p) || !bytes.Equal(have[:n], p) {
			if _, err := to.WriteAt(p, off); err != nil {
				return err
			}
		}
		done(int64(len(p)))
	}
	return nil
}

// maxDepth bounds List, which links could lead in circles. Published files lie
// five names deep at most.
const maxDepth = 8

// List implements Store. It skips hidden files, and follows links, as readers
// do.
func (f *folder) List(_ context.Context, below string) (map[string]int64, error) {
	found := map[string]int64{}
	if err := f.list(below, maxDepth, found); err != nil {
		return nil, failed("list", below, err)
	}
	return found, nil
}

func (f *folder) list(below string, depth int, found map[string]int64) error {
	entries, err := os.ReadDir(f.path(below))
	if errors.Is(err, fs.ErrNotExist) || depth == 0 {
		return nil // it was removed meanwhile, or never existed
	}
	if err != nil {
		return err
	}
	for _, entry := range entries {
		name := path.Join(below, entry.Name())
		info, err := os.Stat(f.path(name))
		switch {
		case strings.HasPrefix(entry.Name(), "."), errors.Is(err, fs.ErrNotExist), errors.Is(err, unix.ELOOP):
		case err != nil:
			return err
		case info.IsDir():
			if err := f.list(name, depth-1, found); err != nil {
				return err
			}
		case info.Mode().IsRegular():
			found[name] = info.Size()
		}
	}
	return nil
}

// Remove implements Store.
func (f *folder) Remove(_ context.Context, below, first string) error {
	if err := os.Remove(f.path(path.Join(below, first))); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return failed("remove", below, err)
	}
	if err := syncDir(f.path(below)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := os.RemoveAll(f.path(below)); err != nil {
		return failed("remove", below, err)
	}
	return nil
}

// Delete implements Store.
func (f *folder) Delete(_ context.Context, name string) error {
	if err := os.Remove(f.path(name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return failed("remove", name, err)
	}
	return nil
}

// Open implements Store.
func (f *folder) Open(name string, size int64) (origin.Origin, error) {
	return origin.Open(f.path(name), size)
}

// makeDir makes a directory and those above it, for everybody to read whatever
// the umask is. An existing one stays as it is.
func makeDir(dir string) error {
	if fi, err := os.Stat(dir); err == nil && fi.IsDir() {
		return nil
	}
	if above := filepath.Dir(dir); above != dir {
		if err := makeDir(above); err != nil {
			return err
		}
	}
	err := os.Mkdir(dir, 0o755)
	fi, statErr := os.Stat(dir)
	switch {
	case errors.Is(err, fs.ErrExist) && statErr == nil && fi.IsDir():
		return nil // another publisher's
	case err != nil || statErr != nil:
		return errors.Join(err, statErr)
	case fi.Mode().Perm() == 0o755:
		return nil // also where a file system has no modes to set
	}
	return os.Chmod(dir, 0o755)
}

// syncDir makes the names in a directory survive a power cut.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return failed("write", dir, err)
	}
	defer d.Close()
	if err := d.Sync(); err != nil {
		return failed("write", dir, err)
	}
	return nil
}

// failed gives an error of the file system its kind.
func failed(what, name string, err error) error {
	kind := fault.Kind(err)
	if kind != nil {
		return fmt.Errorf("%s %s: %w", what, name, err)
	}
	return fmt.Errorf("%s %s: %w: %w", what, name, fault.Unavailable, err)
}

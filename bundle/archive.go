package bundle

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"

	"aesthetic.computer/isofs/fault"
)

// leftover begins the name of a file that is being written.
const leftover = ".put-"

// An Archive keeps bundles in a directory as "<sha256 in hex>.html", or
// pictures as "….png". Pieces with the same bundle share one file. A file with
// a digest as its name is whole and durable, even after a power cut. Nothing is
// evicted: the caller must Remove. A directory belongs to one process. Safe for
// concurrent use.
type Archive struct {
	dir    string
	suffix string // of the files
	what   string // the kind of file, in errors

	mu       sync.Mutex
	verified map[[32]byte]bool // compared with their digest since the process started
}

// OpenBundles returns the archive of bundles in dir. It makes dir if necessary,
// and removes the unfinished files of a killed process. Errors wrap
// fault.Unavailable.
func OpenBundles(dir string) (*Archive, error) { return openArchive(dir, pageSuffix, "bundle") }

// OpenPictures is OpenBundles for the pictures of splashes.
func OpenPictures(dir string) (*Archive, error) { return openArchive(dir, ".png", "picture") }

func openArchive(dir, suffix, what string) (*Archive, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("open the archive of %ss: %w: %w", what, fault.Unavailable, err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("open the archive of %ss: %w: %w", what, fault.Unavailable, err)
	}
	for _, entry := range entries {
		if !strings.HasPrefix(entry.Name(), leftover) {
			continue
		}
		if err := os.Remove(filepath.Join(dir, entry.Name())); err != nil {
			return nil, fmt.Errorf("remove what was half-written to the archive of %ss: %w: %w", what, fault.Unavailable, err)
		}
	}
	return &Archive{dir: dir, suffix: suffix, what: what, verified: map[[32]byte]bool{}}, nil
}

func (s *Archive) path(sum [32]byte) string {
	return filepath.Join(s.dir, hex.EncodeToString(sum[:])+s.suffix)
}

// Put stores the bytes from fetch, and returns fetch's Info when they are
// durable. It fails with fetch's error, with fault.Corrupt if the bytes do not
// match the Info, or with fault.Unavailable if they cannot be stored. Then no
// unfinished file remains.
func (s *Archive) Put(fetch func(w io.Writer) (Info, error)) (Info, error) {
	f, err := os.CreateTemp(s.dir, leftover)
	if err != nil {
		return Info{}, s.diskError(err)
	}
	// After a rename neither has an effect.
	defer os.Remove(f.Name())
	defer f.Close()
	disk := &diskWriter{f: f}
	sum := sha256.New()
	info, err := fetch(io.MultiWriter(disk, sum))
	if disk.err != nil {
		return Info{}, s.diskError(disk.err)
	}
	if err != nil {
		return Info{}, err
	}
	if got := [32]byte(sum.Sum(nil)); got != info.SHA256 || disk.size != info.Size {
		return Info{}, fmt.Errorf("store a %s: %w: it should be %x with %d bytes, but %x with %d came",
			s.what, fault.Corrupt, info.SHA256, info.Size, got, disk.size)
	}
	if err := s.keep(f, info); err != nil {
		return Info{}, s.diskError(err)
	}
	return info, nil
}

// PutPicture stores the picture that Fetch returned with info.
func (s *Archive) PutPicture(info Info) error {
	_, err := s.Put(func(w io.Writer) (Info, error) {
		_, err := io.WriteString(w, info.PNG)
		return Info{SHA256: info.Splash.Picture, Size: info.Splash.PictureSize}, err
	})
	return err
}

// keep renames f to its digest. It replaces a file of that name, unless this
// process has verified that one: it may be damaged, and f is not.
func (s *Archive) keep(f *os.File, info Info) error {
	if err := f.Chmod(0o444); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.verified[info.SHA256] {
		if fi, err := os.Stat(s.path(info.SHA256)); err == nil && fi.Size() == info.Size {
			return nil
		}
	}
	if err := os.Rename(f.Name(), s.path(info.SHA256)); err != nil {
		return err
	}
	if err := syncDir(s.dir); err != nil {
		return err // the existing file is whole, and Open verifies it
	}
	s.verified[info.SHA256] = true
	return nil
}

// syncDir makes a rename in dir durable.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

// A diskWriter remembers its own failure, to separate it from its source's.
type diskWriter struct {
	f    *os.File
	size int64
	err  error
}

func (d *diskWriter) Write(p []byte) (int, error) {
	n, err := d.f.Write(p)
	d.size += int64(n)
	d.err = errors.Join(d.err, err)
	return n, err
}

func (s *Archive) diskError(err error) error {
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		return fmt.Errorf("store a %s: %w: %w; free some space in %s, or keep fewer snapshots", s.what, fault.Unavailable, err, s.dir)
	}
	return fmt.Errorf("store a %s: %w: %w", s.what, fault.Unavailable, err)
}

// Open returns the bundle with that digest and its size in bytes. The caller
// closes the file. The first Open since the process started compares all of it.
// On a mismatch it fails with fault.Corrupt and removes the file, so that the
// next Put heals. A missing bundle is fault.NotFound.
func (s *Archive) Open(sum [32]byte) (*os.File, int64, error) {
	f, err := os.Open(s.path(sum))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, 0, fmt.Errorf("open %s %x: %w", s.what, sum, fault.NotFound)
	}
	if err != nil {
		return nil, 0, fmt.Errorf("open %s: %w: %w", s.what, fault.Unavailable, err)
	}
	size, err := s.verify(f, sum)
	if err != nil {
		f.Close()
		return nil, 0, err
	}
	return f, size, nil
}

// verify returns the size of f, and seeks to its beginning. It reads without
// the lock: two first callers both read, and no other caller waits.
func (s *Archive) verify(f *os.File, sum [32]byte) (int64, error) {
	fi, err := f.Stat()
	if err != nil {
		return 0, fmt.Errorf("open %s: %w: %w", s.what, fault.Unavailable, err)
	}
	s.mu.Lock()
	known := s.verified[sum]
	s.mu.Unlock()
	if known {
		return fi.Size(), nil
	}
	h := sha256.New()
	if n, err := io.Copy(h, io.NewSectionReader(f, 0, fi.Size())); err != nil || n != fi.Size() {
		return 0, fmt.Errorf("verify %s: %w: read %d of %d bytes: %v", f.Name(), fault.Unavailable, n, fi.Size(), err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if [32]byte(h.Sum(nil)) == sum {
		s.verified[sum] = true
		return fi.Size(), nil
	}
	// A Put may have healed it since it was opened: remove only the file that
	// was read.
	if now, err := os.Stat(f.Name()); err == nil && os.SameFile(fi, now) {
		if err := os.Remove(f.Name()); err != nil {
			return 0, fmt.Errorf("verify %s: %w: it has other content; remove it by hand: %w", f.Name(), fault.Corrupt, err)
		}
	}
	return 0, fmt.Errorf("verify %s: %w: it had other content, and was removed to be fetched again", f.Name(), fault.Corrupt)
}

// Remove forgets a bundle. Open files stay readable. A missing bundle is not an
// error. Errors wrap fault.Unavailable.
func (s *Archive) Remove(sum [32]byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.verified, sum)
	if err := os.Remove(s.path(sum)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove %s: %w: %w", s.what, fault.Unavailable, err)
	}
	return nil
}

// List returns the digests of all bundles, sorted. Errors wrap
// fault.Unavailable.
func (s *Archive) List() ([][32]byte, error) {
	entries, err := os.ReadDir(s.dir)
	if err != nil {
		return nil, fmt.Errorf("list the archive of %ss: %w: %w", s.what, fault.Unavailable, err)
	}
	var sums [][32]byte
	for _, entry := range entries {
		stem, ok := strings.CutSuffix(entry.Name(), s.suffix)
		sum, err := hex.DecodeString(stem)
		// Upper case is refused: path would not find that name again.
		if ok && err == nil && len(sum) == 32 && hex.EncodeToString(sum) == stem {
			sums = append(sums, [32]byte(sum))
		}
	}
	slices.SortFunc(sums, func(a, b [32]byte) int { return slices.Compare(a[:], b[:]) })
	return sums, nil
}

package bundle

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"
	"syscall"
	"time"

	"aesthetic.computer/isofs/fault"
	"aesthetic.computer/isofs/piece"
)

const (
	pageSuffix = ".html"
	// racy is the time after a change in which a second change may keep the
	// size and the second of the time.
	racy = 2 * time.Second
)

// errTorn says that a program wrote to a file while isofs read it.
var errTorn = errors.New("the file changed while it was read; put files in place by renaming them")

// errTooLarge says that a file is larger than allowed.
var errTooLarge = errors.New("it is larger than it may be")

// A Dir is a Source with the HTML files of a directory. A file has the name of
// its piece's image, with ".html" for "-os.iso": "notepat.html",
// "at.jeffrey.tone.html", "kidlisp.39j.html". "notepat.splash.png" beside it is
// the picture of its splash. Other files are ignored, and so are directories. A
// symbolic link must stay within the directory. Safe for concurrent use.
type Dir struct {
	path string
	now  func() time.Time
	open func(file string) (fs.File, error) // openFile
}

var (
	_ Source = (*Dir)(nil)
	_ holder = (*Dir)(nil)
)

// NewDir returns the directory at path. Each call opens path again, so that the
// whole directory may be replaced. Errors wrap fault.Invalid.
func NewDir(path string) (*Dir, error) {
	fi, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("directory of pieces: %w: %w", fault.Invalid, err)
	}
	if !fi.IsDir() {
		return nil, fmt.Errorf("%w directory of pieces: %s is not a directory", fault.Invalid, path)
	}
	d := &Dir{path: path, now: time.Now}
	d.open = d.openFile
	return d, nil
}

// Fetch reads the file of name into memory before it writes to w. A file that
// changes in the meantime has to be read again.
func (d *Dir) Fetch(ctx context.Context, name piece.Name, w io.Writer, limit int64) (Info, error) {
	if name.IsZero() {
		return Info{}, fmt.Errorf("fetch a bundle: %w: the name is empty", fault.Invalid)
	}
	info, err := d.fetch(ctx, newSink(w, name, limit))
	if err != nil && fault.Kind(err) == nil {
		err = fmt.Errorf("%w: %w", fault.Unavailable, err)
	}
	if err != nil {
		return Info{}, fmt.Errorf("read %s of %s: %w", name.Stem()+pageSuffix, d.path, err)
	}
	return info, nil
}

// fetch returns errors of the operating system without a kind.
func (d *Dir) fetch(ctx context.Context, to *sink) (Info, error) {
	for try := 1; ; try++ {
		if err := ctx.Err(); err != nil {
			return Info{}, err
		}
		data, modTime, err := d.read(to.name.Stem()+pageSuffix, to.limit)
		if errors.Is(err, errTorn) && try == 1 {
			continue
		}
		if errors.Is(err, errTooLarge) {
			err = &TooLargeError{Name: to.name, Limit: to.limit}
		}
		if err != nil {
			return Info{}, err
		}
		if len(data) == 0 {
			return Info{}, errors.New("the file is empty")
		}
		if _, err := to.Write(data); err != nil {
			return Info{}, err
		}
		return d.addPicture(to.name, to.info(modTime)), nil
	}
}

// addPicture looks for a picture beside the bundle of info. It replaces one in
// the bundle. A bad picture is only noted.
func (d *Dir) addPicture(name piece.Name, info Info) Info {
	if info.Beside, info.ModTime = d.beside(name, info.ModTime); info.Beside == "" {
		return info
	}
	f := finding{splash: info.Splash, png: info.PNG}
	if info.Note != "" {
		f.notes = []string{info.Note}
	}
	file := name.Stem() + splashInDir
	if data, _, err := d.read(file, maxPicture); err != nil {
		f.note(file, err)
	} else {
		f.picture(file, data)
	}
	info.take(f)
	return info
}

// beside returns the identity of the picture's file, "" without one, and the
// later of its time and t, in whole seconds.
func (d *Dir) beside(name piece.Name, t time.Time) (string, time.Time) {
	fi, err := d.stat(name.Stem() + splashInDir)
	if err != nil {
		return "", t
	}
	if changed := fi.ModTime().UTC().Truncate(time.Second); changed.After(t) {
		t = changed
	}
	return fmt.Sprintf("%d %d", fi.Size(), fi.ModTime().UnixNano()), t
}

// read returns the whole file, if it had the same size and time before and
// after.
func (d *Dir) read(file string, limit int64) ([]byte, time.Time, error) {
	f, err := d.open(file)
	if err != nil {
		return nil, time.Time{}, err
	}
	defer f.Close()
	before, err := f.Stat()
	if err != nil {
		return nil, time.Time{}, err
	}
	if !before.Mode().IsRegular() {
		return nil, time.Time{}, fmt.Errorf("%w: it is not a regular file", fault.NotFound)
	}
	if before.Size() > limit {
		return nil, time.Time{}, errTooLarge
	}
	var data bytes.Buffer
	data.Grow(int(before.Size()) + bytes.MinRead)
	if _, err := io.Copy(&data, io.LimitReader(f, before.Size()+1)); err != nil {
		return nil, time.Time{}, err
	}
	after, err := f.Stat()
	if err != nil {
		return nil, time.Time{}, err
	}
	if int64(data.Len()) != before.Size() || !sameFile(before, after) {
		return nil, time.Time{}, errTorn
	}
	return data.Bytes(), before.ModTime(), nil
}

// openFile opens a file of any kind within d.
func (d *Dir) openFile(file string) (fs.File, error) {
	root, err := os.OpenRoot(d.path)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	// Without O_NONBLOCK, opening a named pipe would wait for a writer.
	f, err := root.OpenFile(file, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fault.NotFound
	}
	return f, err
}

func sameFile(a, b fs.FileInfo) bool {
	return a.Size() == b.Size() && a.ModTime().Equal(b.ModTime())
}

// Names lists the regular files with a piece's name, and links to such files.
func (d *Dir) Names(ctx context.Context) ([]piece.Name, error) {
	names, err := d.list(ctx)
	if err != nil {
		return nil, fmt.Errorf("list the pieces in %s: %w: %w", d.path, fault.Unavailable, err)
	}
	slices.SortFunc(names, piece.Compare)
	return names, nil
}

func (d *Dir) list(ctx context.Context) ([]piece.Name, error) {
	root, err := os.OpenRoot(d.path)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	entries, err := fs.ReadDir(root.FS(), ".")
	if err != nil {
		return nil, err
	}
	var names []piece.Name
	for _, entry := range entries {
		stem, ok := strings.CutSuffix(entry.Name(), pageSuffix)
		if !ok {
			continue
		}
		name, err := piece.ParseStem(stem)
		if err != nil {
			continue
		}
		// A link that leads out of the directory, or nowhere, fails here.
		if fi, err := root.Stat(entry.Name()); err == nil && fi.Mode().IsRegular() {
			names = append(names, name)
		}
		if err := ctx.Err(); err != nil {
			return nil, err
		}
	}
	return names, nil
}

// Changed compares size and time of the file, and of the picture beside it,
// with info. A file that cannot be examined may have changed. So may a file
// that was written just before it was read, since a time in whole seconds does
// not show a later write.
func (d *Dir) Changed(_ context.Context, name piece.Name, info Info, age time.Duration) bool {
	fi, err := d.stat(name.Stem() + pageSuffix)
	if err != nil {
		return true
	}
	beside, modTime := d.beside(name, fi.ModTime().UTC().Truncate(time.Second))
	if fi.Size() != info.Size || !modTime.Equal(info.ModTime) || beside != info.Beside {
		return true
	}
	settled := d.now().Add(-age).Sub(info.ModTime) // when it was read
	return settled >= 0 && settled < racy
}

// holds reports whether there is anything under the name of name's file.
func (d *Dir) holds(name piece.Name) bool {
	_, err := d.stat(name.Stem() + pageSuffix)
	return !errors.Is(err, fs.ErrNotExist)
}

// stat returns fs.ErrNotExist for a missing file, not for a missing directory:
// that one should come back, and Fetch fails until then.
func (d *Dir) stat(file string) (fs.FileInfo, error) {
	root, err := os.OpenRoot(d.path)
	if err != nil {
		return nil, fmt.Errorf("open the directory of pieces: %v", err)
	}
	defer root.Close()
	fi, err := root.Stat(file)
	if err == nil && !fi.Mode().IsRegular() {
		return nil, fs.ErrNotExist
	}
	return fi, err
}

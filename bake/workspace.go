package bake

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"syscall"

	"aesthetic.computer/isofs/base"
	"aesthetic.computer/isofs/fault"
)

// A workspace is a work directory in use by this bake.
type workspace struct {
	scratch string
	lock    *os.File
}

// scratchPattern names scratch directories. Each bake has a new one: a tool
// that outlives a killed bake for a moment still writes to the old one.
const scratchPattern = "scratch-*"

// openWorkspace takes dir, and clears the leftovers of killed bakes.
func openWorkspace(dir string) (*workspace, error) {
	ownModes.begin()
	lock, err := lockDir(dir)
	if err != nil {
		ownModes.end()
		return nil, fmt.Errorf("use the work directory: %w", err)
	}
	w := &workspace{lock: lock}
	stale, _ := filepath.Glob(filepath.Join(dir, scratchPattern))
	for _, s := range stale {
		_ = os.RemoveAll(s) // what cannot be removed now, the next bake removes
	}
	if w.scratch, err = os.MkdirTemp(dir, scratchPattern); err != nil {
		w.close()
		return nil, fmt.Errorf("use the work directory: %w", kindOf(context.Background(), err))
	}
	return w, nil
}

// A fileModes makes the files of a bake as readable as the bake sets them, for
// every user that runs it. Modes of files get into images, from tools too
// (debugfs copies them, dpkg and dracut make files). Bases are for others to
// read. The umask belongs to the process, so it is changed from the first
// bake's beginning to the last one's end.
type fileModes struct {
	mu    sync.Mutex
	bakes int
	was   int // the umask before
}

var ownModes fileModes

func (m *fileModes) begin() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.bakes++; m.bakes == 1 {
		m.was = syscall.Umask(0o022)
	}
}

func (m *fileModes) end() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.bakes--; m.bakes == 0 {
		syscall.Umask(m.was)
	}
}

func (w *workspace) close() {
	ownModes.end()
	if w.scratch != "" {
		_ = os.RemoveAll(w.scratch) // else the next bake does
	}
	w.lock.Close()
}

// lockDir makes dir and takes a lock on it that ends with this process.
func lockDir(dir string) (*os.File, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, kindOf(context.Background(), err)
	}
	d, err := os.Open(dir)
	if err != nil {
		return nil, kindOf(context.Background(), err)
	}
	if err := syscall.Flock(int(d.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		d.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, fmt.Errorf("another bake works in %s; wait for it, or choose another directory: %w", dir, fault.Unavailable)
		}
		return nil, fmt.Errorf("lock %s: %w", dir, kindOf(context.Background(), err))
	}
	return d, nil
}

// An output is the folder of one version, in use by this bake.
type output struct {
	dir  string
	lock *os.File
}

// openOutput takes dir and checks that files can be made in it.
func openOutput(dir string) (*output, error) {
	lock, err := lockDir(dir)
	if err != nil {
		return nil, fmt.Errorf("use the output directory: %w", err)
	}
	o := &output{dir, lock}
	if err := os.WriteFile(o.temp(ImageName), nil, 0o644); err != nil {
		o.close()
		return nil, fmt.Errorf("use the output directory: %w", err)
	}
	return o, nil
}

// temp is the path of a file before it gets its name.
func (o *output) temp(name string) string { return filepath.Join(o.dir, "."+name+".tmp") }

func (o *output) close() {
	for _, name := range []string{ImageName, ManifestName} {
		_ = os.Remove(o.temp(name))
	}
	// Only if a failed bake leaves it empty.
	_ = os.Remove(o.dir)
	o.lock.Close()
}

// publish gives the image and then the manifest their names. A version is
// immutable: a version with the same bytes is left alone, and one with others
// is an error.
func (o *output) publish(m *base.Manifest) (unchanged bool, err error) {
	data, err := m.Marshal()
	if err != nil {
		return false, err
	}
	present, err := os.ReadFile(filepath.Join(o.dir, ManifestName))
	switch {
	case err == nil && !bytes.Equal(present, data):
		return false, fmt.Errorf("%s holds another base of that version already (%s); versions never change: choose another version, such as %s.1, or remove the folder: %w",
			o.dir, describe(present), m.Version[:len("2006-01-02")], fault.Invalid)
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return false, fmt.Errorf("look for a present manifest: %w", err)
	}
	if err == nil && o.holds(m) {
		return true, nil
	}
	if err := writeSynced(o.temp(ManifestName), data); err != nil {
		return false, fmt.Errorf("write the manifest: %w", err)
	}
	for _, name := range []string{ImageName, ManifestName} {
		if err := os.Rename(o.temp(name), filepath.Join(o.dir, name)); err != nil {
			return false, fmt.Errorf("put %s into place: %w", name, err)
		}
	}
	if err := o.lock.Sync(); err != nil {
		return false, fmt.Errorf("sync %s: %w", o.dir, err)
	}
	return false, nil
}

// describe describes the base of a present manifest.
func describe(manifest []byte) string {
	m, err := base.Parse(manifest)
	if err != nil {
		return "its manifest is damaged"
	}
	return "sha256 " + m.SHA256.String()
}

// holds reports whether the present image is the manifest's. A damaged one is
// not an error: publish replaces it.
func (o *output) holds(m *base.Manifest) bool {
	f, err := os.Open(filepath.Join(o.dir, ImageName))
	if err != nil {
		return false
	}
	defer f.Close()
	info, err := f.Stat()
	return err == nil && m.Verify(context.Background(), f, info.Size(), nil) == nil
}

// writeSynced writes a file whose bytes are on the disk when it returns.
func writeSynced(path string, data []byte) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

// needSpace returns an error if the next step would fill the disk under dir.
func needSpace(dir string, n int64) error {
	var st syscall.Statfs_t
	if err := syscall.Statfs(dir, &st); err != nil {
		return fmt.Errorf("look for free space in %s: %w", dir, err)
	}
	if free := int64(st.Bavail) * st.Bsize; free < n {
		return fmt.Errorf("%s has %d MB free, this needs about %d MB; free some space or choose another directory: %w", dir, free>>20, n>>20, fault.Unavailable)
	}
	return nil
}

package catalog

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"

	"aesthetic.computer/isofs/base"
	"aesthetic.computer/isofs/fault"
	"aesthetic.computer/isofs/image"
)

// Files in the state directory, beside those of the snapshots and the bundles.
const (
	basesFile   = "bases.json"
	marksFile   = "times.json"
	clientsFile = "clients.log"
	saltFile    = "clients.salt"
)

// baseList has the base of new images, and all bases that there ever were. A
// client that the catalog does not remember may have begun with another of
// them.
type baseList struct {
	path    string
	current atomic.Pointer[image.Base]

	mu  sync.Mutex  // guards all
	all []base.Hash // in the file
}

// openBases reads the list of the catalog in dir. It adds the current base, and
// the bases of records, in case the file was lost.
func openBases(dir string, current image.Base, records []record) (*baseList, error) {
	l := &baseList{path: filepath.Join(dir, basesFile)}
	var err error
	if l.all, err = readBases(l.path); err != nil {
		return nil, err
	}
	sums := []base.Hash{}
	for _, r := range records {
		sums = append(sums, r.Base)
	}
	if err := l.note(append(sums, current.Manifest.SHA256)...); err != nil {
		return nil, err
	}
	l.current.Store(&current)
	return l, nil
}

// set makes new images on another base. The list has it before any client can
// get an image of it.
func (l *baseList) set(b image.Base) error {
	if err := l.note(b.Manifest.SHA256); err != nil {
		return err
	}
	l.current.Store(&b)
	return nil
}

// several reports whether there was ever more than one base.
func (l *baseList) several() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.all) > 1
}

// note adds to the file the sums that the list lacks.
func (l *baseList) note(sums ...base.Hash) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	all := slices.Clone(l.all)
	for _, sum := range sums {
		if !slices.Contains(all, sum) {
			all = append(all, sum)
		}
	}
	if len(all) == len(l.all) {
		return nil
	}
	data, err := json.Marshal(all)
	if err != nil {
		return fmt.Errorf("write the list of bases: %w: %w", fault.Invalid, err)
	}
	if err := writeFile(l.path, append(data, '\n'), 0o644); err != nil {
		return fmt.Errorf("write the list of bases: %w: %w", fault.Unavailable, err)
	}
	l.all = all
	return nil
}

func readBases(path string) ([]base.Hash, error) {
	var bases []base.Hash
	data, err := os.ReadFile(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return nil, fmt.Errorf("read the list of bases: %w: %w", fault.Unavailable, err)
	default:
		if err := json.Unmarshal(data, &bases); err != nil {
			return nil, fmt.Errorf("read the list of bases in %s: %w: %w; remove the file if no download of an earlier base can still be resumed", path, fault.Corrupt, err)
		}
	}
	return bases, nil
}

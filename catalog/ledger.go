package catalog

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"aesthetic.computer/isofs/base"
	"aesthetic.computer/isofs/bundle"
	"aesthetic.computer/isofs/fault"
	"aesthetic.computer/isofs/piece"
)

// A ledger is the catalog's state on disk: bundles, records that name them, and
// marks.
//
// A bundle is stored before its record and removed after it. A kill in between
// leaves a bundle that no record names, and sweep removes that. It never leaves
// a record without its bundle.
type ledger struct {
	bundles  *bundle.Archive
	pictures *bundle.Archive // of splashes; stored like bundles
	records  recordDir

	// The state at the start. Only restoreAll changes it afterwards.
	found  []record
	stored map[base.Hash]bool

	// mu is held while a record and the index change together, and while sweep
	// removes bundles.
	mu    sync.Mutex
	marks *marks
	// claims count the builds that are about to make a snapshot of a bundle or
	// picture. sweep leaves these, though no snapshot in the index has them.
	claims map[base.Hash]int
}

// openLedger reads the state in dir, and makes dir if necessary.
func openLedger(dir string, log *slog.Logger) (*ledger, error) {
	l := &ledger{
		records: recordDir(filepath.Join(dir, "snapshots")),
		stored:  map[base.Hash]bool{}, claims: map[base.Hash]int{},
	}
	if err := os.MkdirAll(string(l.records), 0o755); err != nil {
		return nil, fmt.Errorf("make the catalog's directory: %w: %w", fault.Unavailable, err)
	}
	for dir, names := range map[string][]string{
		dir: {basesFile, marksFile, clientsFile, saltFile}, string(l.records): nil,
	} {
		if err := removeLeftovers(dir, names...); err != nil {
			return nil, fmt.Errorf("remove what was half-written to %s: %w: %w", dir, fault.Unavailable, err)
		}
	}
	var err error
	if l.bundles, err = bundle.OpenBundles(filepath.Join(dir, "bundles")); err != nil {
		return nil, err
	}
	if l.pictures, err = bundle.OpenPictures(filepath.Join(dir, "splashes")); err != nil {
		return nil, err
	}
	for _, archive := range []*bundle.Archive{l.bundles, l.pictures} {
		stored, err := archive.List()
		if err != nil {
			return nil, err
		}
		for _, sum := range stored {
			l.stored[sum] = true
		}
	}
	if l.found, err = l.records.readAll(log); err != nil {
		return nil, err
	}
	if l.marks, err = openMarks(filepath.Join(dir, marksFile)); err != nil {
		log.Warn("times of forgotten snapshots lost", "err", err)
	}
	return l, nil
}

// put stores the bundle that fetch writes. sweep leaves it until release.
func (l *ledger) put(fetch func(io.Writer) (bundle.Info, error)) (info bundle.Info, release func(), err error) {
	release = func() {}
	info, err = l.bundles.Put(func(w io.Writer) (bundle.Info, error) {
		info, err := fetch(w)
		if err == nil {
			// The claim comes before the archive has the bundle under its name.
			// Otherwise: A stores X, B forgets the last snapshot of X and
			// sweeps, A does not find X.
			release = l.claim(info.SHA256, info.Splash.Picture)
		}
		return info, err
	})
	if err == nil && info.PNG != "" {
		err = l.pictures.PutPicture(info)
	}
	if err != nil {
		release()
		return bundle.Info{}, nil, err
	}
	info.PNG = ""
	return info, release, nil
}

// claim keeps sweep from removing bundles and pictures until release.
func (l *ledger) claim(sums ...base.Hash) (release func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, sum := range sums {
		l.claims[sum]++
	}
	return func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		for _, sum := range sums {
			if l.claims[sum]--; l.claims[sum] == 0 {
				delete(l.claims, sum)
			}
		}
	}
}

// spare claims the files of r for good.
func (l *ledger) spare(r record) { l.claim(slices.Collect(maps.Keys(r.files()))...) }

// discard removes a record that is not in the index.
func (l *ledger) discard(r record) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.remove(r, true)
}

// remove removes a record. If it is the piece's newest snapshot, it leaves a
// mark. It needs mu.
func (l *ledger) remove(r record, newest bool) error {
	if newest {
		if err := l.marks.set(r); err != nil {
			return err
		}
	}
	return l.records.remove(r.ID)
}

// markOf returns the mark of a piece.
func (l *ledger) markOf(name piece.Name) mark {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.marks.of(name)
}

// sweep removes the bundles and pictures that no snapshot or build needs.
// wanted returns those of the index.
func (l *ledger) sweep(wanted func() map[base.Hash]bool) error {
	return errors.Join(l.sweepArchive(l.bundles, wanted), l.sweepArchive(l.pictures, wanted))
}

func (l *ledger) sweepArchive(archive *bundle.Archive, wanted func() map[base.Hash]bool) error {
	stored, err := archive.List()
	if err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	keep := wanted()
	for _, sum := range stored {
		if keep[sum] || l.claims[sum] > 0 {
			continue
		}
		if err := archive.Remove(sum); err != nil {
			return err
		}
	}
	return nil
}

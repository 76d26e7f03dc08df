package catalog

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"aesthetic.computer/isofs/base"
	"aesthetic.computer/isofs/fault"
)

// Files in the state directory, beside those of the snapshots and the bundles.
const (
	basesFile   = "bases.json"
	marksFile   = "times.json"
	clientsFile = "clients.log"
	saltFile    = "clients.salt"
)

// readBases returns the bases that the catalog in dir ever had: those in its
// file, the current one, and those of records, should the file be lost. It is
// what tells whether a client whose beginning nobody remembers may have begun
// with another base.
func readBases(dir string, current base.Hash, records []record) ([]base.Hash, error) {
	path := filepath.Join(dir, basesFile)
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
	written := len(bases)
	for _, r := range records {
		if !slices.Contains(bases, r.Base) {
			bases = append(bases, r.Base)
		}
	}
	if !slices.Contains(bases, current) {
		bases = append(bases, current)
	}
	if len(bases) == written {
		return bases, nil
	}
	if data, err = json.Marshal(bases); err != nil {
		return nil, fmt.Errorf("write the list of bases: %w: %w", fault.Invalid, err)
	}
	if err := writeFile(path, append(data, '\n'), 0o644); err != nil {
		return nil, fmt.Errorf("write the list of bases: %w: %w", fault.Unavailable, err)
	}
	return bases, nil
}

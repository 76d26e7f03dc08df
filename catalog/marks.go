package catalog

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"time"

	"aesthetic.computer/isofs/fault"
	"aesthetic.computer/isofs/piece"
)

// marksKept bounds the marks; the oldest is forgotten first.
const marksKept = 4096

// A mark is what stays of a piece's newest snapshot when the catalog forgets it
// before there is a newer one. A later snapshot must not have its time with
// other bytes. nginx's ETag would be the same, and a client that resumes by it
// would mix the two.
type mark struct {
	Time time.Time `json:"time"`
	ID   string    `json:"id"`
}

// marks has the mark of each piece, in a file. It is not safe for concurrent
// access.
type marks struct {
	path    string
	byPiece map[string]mark
}

// openMarks reads the marks. If it cannot parse the file, it returns an error
// together with marks that are empty and usable.
func openMarks(path string) (*marks, error) {
	m := &marks{path: path, byPiece: map[string]mark{}}
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return m, nil
	}
	if err != nil {
		return m, fmt.Errorf("read the times of forgotten snapshots: %w: %w", fault.Unavailable, err)
	}
	var known map[string]mark
	if err := json.Unmarshal(data, &known); err != nil {
		return m, fmt.Errorf("read the times of forgotten snapshots in %s: %w: %w", path, fault.Corrupt, err)
	}
	maps.Copy(m.byPiece, known)
	return m, nil
}

// of returns the mark of a piece; its time is zero if it has none.
func (m *marks) of(name piece.Name) mark { return m.byPiece[keyOf(name)] }

// set marks a forgotten snapshot, unless the piece has a later mark already.
func (m *marks) set(r record) error {
	if known, ok := m.byPiece[r.key()]; ok && !r.Time.After(known.Time) {
		return nil
	}
	m.byPiece[r.key()] = mark{r.Time, r.ID}
	for len(m.byPiece) > marksKept {
		m.forgetOldest()
	}
	return m.write()
}

// unset removes the mark of a piece that has a snapshot of that time or later.
func (m *marks) unset(r record) error {
	if known, ok := m.byPiece[r.key()]; !ok || r.Time.Before(known.Time) {
		return nil
	}
	delete(m.byPiece, r.key())
	return m.write()
}

func (m *marks) forgetOldest() {
	var oldest string
	for key, k := range m.byPiece {
		if oldest == "" || k.Time.Before(m.byPiece[oldest].Time) {
			oldest = key
		}
	}
	delete(m.byPiece, oldest)
}

func (m *marks) write() error {
	data, err := json.Marshal(m.byPiece)
	if err != nil {
		return fmt.Errorf("write the times of forgotten snapshots: %w: %w", fault.Invalid, err)
	}
	if err := writeFile(m.path, append(data, '\n'), 0o644); err != nil {
		return fmt.Errorf("write the times of forgotten snapshots: %w: %w", fault.Unavailable, err)
	}
	return nil
}

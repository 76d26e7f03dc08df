package catalog

import (
	"cmp"
	"slices"
	"strings"
	"sync"
	"time"

	"aesthetic.computer/isofs/base"
	"aesthetic.computer/isofs/piece"
)

// An index has the snapshots that the catalog shows at the moment.
type index struct {
	mu sync.RWMutex // guards all below; never held over I/O
	// byID has every retained snapshot, byPiece those of each piece, newest
	// first.
	byID    map[string]*Snapshot
	byPiece map[piece.Name][]*Snapshot
	// missing has the time since which the source of a piece no longer has it,
	// though snapshots of it are kept.
	missing map[piece.Name]time.Time
}

func newIndex() *index {
	return &index{
		byID: map[string]*Snapshot{}, byPiece: map[piece.Name][]*Snapshot{},
		missing: map[piece.Name]time.Time{},
	}
}

func (i *index) add(s *Snapshot) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.byID[s.record.ID] = s
	list := append(slices.Clone(i.byPiece[s.piece]), s)
	slices.SortFunc(list, func(a, b *Snapshot) int {
		return cmp.Or(b.record.Time.Compare(a.record.Time), strings.Compare(a.record.ID, b.record.ID))
	})
	i.byPiece[s.piece] = list
	delete(i.missing, s.piece)
}

func (i *index) remove(s *Snapshot) {
	i.mu.Lock()
	defer i.mu.Unlock()
	delete(i.byID, s.record.ID)
	list := slices.DeleteFunc(slices.Clone(i.byPiece[s.piece]), func(o *Snapshot) bool { return o == s })
	if len(list) == 0 {
		delete(i.byPiece, s.piece)
		delete(i.missing, s.piece)
		return
	}
	i.byPiece[s.piece] = list
}

// find returns the retained snapshot of that id, or nil.
func (i *index) find(id string) *Snapshot {
	i.mu.RLock()
	defer i.mu.RUnlock()
	return i.byID[id]
}

// at returns the retained snapshot of a piece with the given time, or nil.
func (i *index) at(name piece.Name, t time.Time) *Snapshot {
	i.mu.RLock()
	defer i.mu.RUnlock()
	for _, s := range i.byPiece[name] {
		if s.record.Time.Equal(t) {
			return s
		}
	}
	return nil
}

// newest returns the latest snapshot of a piece, or nil, and whether the source
// no longer has the piece.
func (i *index) newest(name piece.Name) (s *Snapshot, missing bool) {
	i.mu.RLock()
	defer i.mu.RUnlock()
	if list := i.byPiece[name]; len(list) > 0 {
		s = list[0]
	}
	_, missing = i.missing[name]
	return s, missing
}

// setMissing notes that the source no longer has the piece, if the piece has
// snapshots.
func (i *index) setMissing(name piece.Name, since time.Time) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if _, already := i.missing[name]; !already && len(i.byPiece[name]) > 0 {
		i.missing[name] = since
	}
}

// unsetMissing notes that the source has the piece.
func (i *index) unsetMissing(name piece.Name) {
	i.mu.Lock()
	defer i.mu.Unlock()
	delete(i.missing, name)
}

func (i *index) ids() []string {
	i.mu.RLock()
	defer i.mu.RUnlock()
	ids := make([]string, 0, len(i.byID))
	for id := range i.byID {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	return ids
}

// pieces lists those with a snapshot under their plain name, if the source
// still has them.
func (i *index) pieces() []piece.Name {
	i.mu.RLock()
	defer i.mu.RUnlock()
	var names []piece.Name
	for name := range i.byPiece {
		if _, missing := i.missing[name]; !missing && name.Density() == 0 {
			names = append(names, name)
		}
	}
	return names
}

// bundles are those of the retained snapshots, and the pictures of their
// splashes.
func (i *index) bundles() map[base.Hash]bool {
	i.mu.RLock()
	defer i.mu.RUnlock()
	all := map[base.Hash]bool{}
	for _, s := range i.byID {
		for sum := range s.record.files() {
			all[sum] = true
		}
	}
	return all
}

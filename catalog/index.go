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

// An index is what the catalog shows at the moment.
type index struct {
	mu sync.RWMutex // guards all below; never held over I/O
	// byID has every retained snapshot, byPiece those of a piece, newest first.
	byID    map[string]*Snapshot
	byPiece map[piece.Name][]*Snapshot
	// gone says since when a piece is no longer had by its source, though
	// snapshots of it are kept.
	gone map[piece.Name]time.Time
}

func newIndex() *index {
	return &index{
		byID: map[string]*Snapshot{}, byPiece: map[piece.Name][]*Snapshot{},
		gone: map[piece.Name]time.Time{},
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
	delete(i.gone, s.piece)
}

func (i *index) remove(s *Snapshot) {
	i.mu.Lock()
	defer i.mu.Unlock()
	delete(i.byID, s.record.ID)
	list := slices.DeleteFunc(slices.Clone(i.byPiece[s.piece]), func(o *Snapshot) bool { return o == s })
	if len(list) == 0 {
		delete(i.byPiece, s.piece)
		delete(i.gone, s.piece)
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

// at returns the retained snapshot of a piece that has the given time, or nil.
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

// newest returns the latest snapshot of a piece, or nil, and whether the
// source has the piece no more.
func (i *index) newest(name piece.Name) (s *Snapshot, gone bool) {
	i.mu.RLock()
	defer i.mu.RUnlock()
	if list := i.byPiece[name]; len(list) > 0 {
		s = list[0]
	}
	_, gone = i.gone[name]
	return s, gone
}

// setGone notes that the source has the piece no more, if it is known.
func (i *index) setGone(name piece.Name, since time.Time) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if _, already := i.gone[name]; !already && len(i.byPiece[name]) > 0 {
		i.gone[name] = since
	}
}

// unsetGone notes that the source has the piece.
func (i *index) unsetGone(name piece.Name) {
	i.mu.Lock()
	defer i.mu.Unlock()
	delete(i.gone, name)
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

// pieces are those that have a snapshot under their plain name, and that the
// source still has.
func (i *index) pieces() []piece.Name {
	i.mu.RLock()
	defer i.mu.RUnlock()
	var names []piece.Name
	for name := range i.byPiece {
		if _, gone := i.gone[name]; !gone && name.Density() == 0 {
			names = append(names, name)
		}
	}
	return names
}

// bundles are those that retained snapshots are made of, and the pictures of
// their splashes.
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

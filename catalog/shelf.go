package catalog

import (
	"sync"

	"github.com/hashicorp/golang-lru/v2/simplelru"
)

// A shelf keeps images open while they are read, and a few after that: nginx
// opens the file for every range.
type shelf struct {
	mu   sync.Mutex // guards all below, and the refs of every openSnapshot
	held map[string]*openSnapshot
	idle *simplelru.LRU[string, *openSnapshot]
}

func newShelf(idle int) *shelf {
	// NewLRU fails only for a size below 1, and Limits.withDefaults gives at
	// least 1.
	lru, err := simplelru.NewLRU(max(idle, 1), func(_ string, o *openSnapshot) {
		if o.refs == 0 {
			o.close()
		}
	})
	if err != nil {
		panic(err)
	}
	return &shelf{held: map[string]*openSnapshot{}, idle: lru}
}

// take returns the open image of id, or calls open to open it. It does not hold
// the lock during open, which reads the disk. If two callers open the same
// image at once, the second to finish closes its own and takes the first's.
func (s *shelf) take(id string, open func() (*openSnapshot, error)) (*openSnapshot, error) {
	if o := s.find(id); o != nil {
		return o, nil
	}
	opened, err := open()
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if o := s.findLocked(id); o != nil {
		opened.close()
		return o, nil
	}
	opened.refs = 1
	s.held[id] = opened
	return opened, nil
}

func (s *shelf) find(id string) *openSnapshot {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.findLocked(id)
}

func (s *shelf) findLocked(id string) *openSnapshot {
	o := s.held[id]
	if o == nil {
		idle, ok := s.idle.Peek(id)
		if !ok {
			return nil
		}
		// Counted before it leaves the list, so that its file stays open.
		idle.refs = 1
		s.idle.Remove(id)
		s.held[id] = idle
		return idle
	}
	o.refs++
	return o
}

// put gives back what take returned.
func (s *shelf) put(o *openSnapshot) {
	s.mu.Lock()
	defer s.mu.Unlock()
	o.refs--
	if o.refs > 0 {
		return
	}
	delete(s.held, o.id)
	if o.forgotten {
		o.close()
		return
	}
	s.idle.Add(o.id, o)
}

// isHeld reports whether a reader has the image open.
func (s *shelf) isHeld(id string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.held[id] != nil
}

// forget closes the image when its last reader closes it, which frees the space
// of a removed bundle.
func (s *shelf) forget(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.idle.Remove(id)
	if o := s.held[id]; o != nil {
		o.forgotten = true
	}
}

// close forgets all images.
func (s *shelf) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.idle.Purge()
	for _, o := range s.held {
		o.forgotten = true
	}
}

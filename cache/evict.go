package cache

// keep writes a verified block to disk, evicting others for it. If the disk
// does not take it, the block is served from memory this time.
//
// The room is accounted before the write and the block is shown after it, so
// that the bound holds and no reader sees half a block. Only one flight of a
// block runs at a time, so nobody else writes it meanwhile.
func (s *Store) keep(f *blockFile, b int, data []byte) {
	k := key{f, b}
	s.mu.Lock()
	if !s.shrink(int64(len(data))) {
		s.mu.Unlock()
		return // everything is pinned
	}
	s.bytes += int64(len(data))
	s.mu.Unlock()

	_, err := f.file.WriteAt(data, f.offset(b))

	s.mu.Lock()
	defer s.mu.Unlock()
	if err == nil {
		f.state[b] = present
		s.lru.Add(k, struct{}{})
		if s.sick {
			s.sick = false
			s.cfg.Log.Info("the cache can be written again")
		}
		return
	}
	s.bytes -= int64(len(data))
	s.count.writeErrors.Add(1)
	// What was written of it is given back; if that fails too it is found, and
	// not trusted, at the next start.
	_ = f.punch(b)
	if !s.sick {
		s.sick = true
		s.cfg.Log.Error("the cache cannot be written; serving without keeping", "dir", s.cfg.Dir, "err", err)
	}
}

// shrink evicts until extra bytes fit the bound. It reports whether they do.
// It is not safe for concurrent access.
func (s *Store) shrink(extra int64) bool {
	if s.bytes+extra <= s.cfg.MaxBytes {
		return true
	}
	for _, k := range s.lru.Keys() { // oldest first
		if k.file.pins[k.block] > 0 {
			continue
		}
		s.evict(k)
		if s.bytes+extra <= s.cfg.MaxBytes {
			return true
		}
	}
	return false
}

// evict forgets a block and gives its bytes back. It is not safe for
// concurrent access.
func (s *Store) evict(k key) {
	k.file.state[k.block] = absent
	s.lru.Remove(k)
	s.bytes -= k.file.length(k.block)
	s.count.evictions.Add(1)
	if err := k.file.punch(k.block); err != nil {
		s.cfg.Log.Warn("an evicted block still takes room", "base", k.file.ID, "block", k.block, "err", err)
	}
}

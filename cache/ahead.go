package cache

// Prefetch has the missing blocks of [off, off+n) fetched soon, behind whatever
// readers wait for. It returns at once and reports no failure. What lies
// outside the base is ignored.
//
// It does less, or nothing, where that would be for nothing or at the expense
// of others: if the disk takes no blocks now (they would be fetched once more
// by who reads them), if half of the cache is blocks that were fetched ahead
// and not yet read, and if more waits than the fetches at once may hold.
func (f *File) Prefetch(off, n int64) {
	if off < 0 {
		off, n = 0, n+off
	}
	b := f.current()
	if off >= b.Size {
		return
	}
	if n = min(n, b.Size-off); n > 0 {
		first, last := b.span(off, n)
		f.advance(b, first, last)
	}
}

// advance starts flights without waiters.
func (f *File) advance(b *baseBlocks, first, last int) {
	s, x := f.store, f.store.index
	if s.disk.failing.Load() {
		return
	}
	s.disk.look(b, first, last)
	x.mu.Lock()
	defer x.mu.Unlock()
	for first <= last && b.blocks[first].state == present {
		first++
	}
	if first > last || x.closed {
		return
	}
	var runs []*run
	room := s.queue.room(ahead)
	for i := first; i <= last && room > 0; i++ {
		bl := &b.blocks[i]
		if bl.state == present {
			continue
		}
		if bl.flight != nil {
			bl.flight.run.promote(ahead)
			continue
		}
		if bl.state == absent {
			if x.unused+b.cost(i) > s.disk.max/2 {
				break
			}
			bl.ahead = true
			x.unused += b.cost(i)
			room -= b.length(i)
			s.count.ahead.Add(1)
		}
		runs = f.board(b, runs, i, ahead)
	}
	for _, r := range runs {
		r.depart(ahead)
	}
}

// clearAhead clears the block's read-ahead mark and reports whether it was set.
// The caller holds mu.
func (x *blockIndex) clearAhead(b *baseBlocks, i int) bool {
	bl := &b.blocks[i]
	was := bl.ahead
	if was {
		bl.ahead = false
		x.unused -= b.cost(i)
	}
	return was
}

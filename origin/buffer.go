package origin

import "sync/atomic"

// A buffer is the memory that a Fetch fills, from its beginning on.
type buffer struct {
	p      []byte
	off    int64        // of p in the object
	n      atomic.Int64 // p[:n] is there; only the goroutine of the Fetch writes it
	whole  bool         // all bytes must be of one mirror
	got    func(n int)  // nil: the caller needs only the end
	givers *provenance
}

func (b *buffer) end() int64 { return b.off + int64(len(b.p)) }

// claim notes that p[:n] is there, and that this mirror gave the new bytes. They
// extend the part with this number, or become a new one (-1). It returns the
// part's number.
func (b *buffer) claim(number, mirror, n int) int {
	before := b.n.Load()
	if int64(n) <= before {
		return number
	}
	number = b.givers.add(number, b.off+before, b.off+int64(n), mirror)
	b.n.Store(int64(n))
	if b.got != nil {
		b.got(n)
	}
	return number
}

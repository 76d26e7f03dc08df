package origin

import "sync/atomic"

// A buffer is what a Fetch fills: from the beginning on, by one request after
// the other.
type buffer struct {
	p      []byte
	off    int64        // of p in the object
	n      atomic.Int64 // p[:n] is there; only the goroutine of the Fetch writes it
	whole  bool         // all bytes must be of one mirror
	got    func(n int)  // nil: the caller wants to know only the end
	givers *provenance
}

func (b *buffer) end() int64 { return b.off + int64(len(b.p)) }

// claim notes that p[:n] is there, the last of it from this mirror, as part
// number of the bytes that it gave (-1: a new one), and returns the number.
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

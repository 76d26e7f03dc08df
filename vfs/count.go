package vfs

import "sync/atomic"

// ReadBytes are bytes of images by what they are of.
type ReadBytes struct {
	Base   uint64 // the base
	Volume uint64 // what ext4gen generated, its zeroes included
	Bundle uint64 // the bundle
}

// Stats are the bytes read, and the open images. They leave out what the kernel
// answers from its own pages, in profile PageCache.
type Stats struct {
	Open            int // images
	Spliced, Copied ReadBytes
}

// Stats returns the counters since Mount and the current gauges.
func (s *Server) Stats() Stats {
	c := &s.core.count
	return Stats{Open: s.core.open.len(), Spliced: c.spliced.load(), Copied: c.copied.load()}
}

// counts are kept on the read path, so they are atomics and nothing more.
type counts struct{ spliced, copied bytesRead }

type bytesRead struct{ base, volume, bundle atomic.Uint64 }

// add counts a read of n bytes from off on.
func (b *bytesRead) add(h Handle, off, n int64) {
	base, volume, bundle := h.Sources(off, n)
	// Nearly every read is of one.
	if base > 0 {
		b.base.Add(uint64(base))
	}
	if volume > 0 {
		b.volume.Add(uint64(volume))
	}
	if bundle > 0 {
		b.bundle.Add(uint64(bundle))
	}
}

func (b *bytesRead) load() ReadBytes {
	return ReadBytes{Base: b.base.Load(), Volume: b.volume.Load(), Bundle: b.bundle.Load()}
}

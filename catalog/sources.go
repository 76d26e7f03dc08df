package catalog

import (
	"aesthetic.computer/isofs/extent"
)

// A span is a run of bytes of an image.
type span struct{ off, end int64 }

// within returns how many bytes of [off, end) are in the span.
func (s span) within(off, end int64) int64 { return max(0, min(s.end, end)-max(s.off, off)) }

// A layout says which bytes of an image are whose: outside of the slot the
// base's, in it the bundle's where that lies and the volume's elsewhere.
type layout struct {
	slot   span
	bundle []span // mostly one
}

func layoutOf(whole *extent.Map, slot span) layout {
	l := layout{slot: slot}
	for _, e := range whole.Extents(slot.off, slot.end-slot.off) {
		// What ext4gen makes is in memory; the bundle alone lies in a file.
		if _, inFile := e.Source.(extent.Pinner); inFile {
			l.bundle = append(l.bundle, span{e.Off, e.Off + e.Len})
		}
	}
	return l
}

// Sources tells of how many of the n bytes from off on the base, the generated
// volume and the bundle are the source. It costs next to nothing.
func (h *Handle) Sources(off, n int64) (base, volume, bundle int64) {
	end := min(off+n, h.Size()) + h.start
	off += h.start
	inSlot := h.img.layout.slot.within(off, end)
	for _, s := range h.img.layout.bundle {
		bundle += s.within(off, end)
	}
	return max(0, end-off) - inSlot, inSlot - bundle, bundle
}

package catalog

import (
	"aesthetic.computer/isofs/extent"
)

// A span is a run of bytes of an image.
type span struct{ off, end int64 }

// within returns how many bytes of [off, end) are in the span.
func (s span) within(off, end int64) int64 { return max(0, min(s.end, end)-max(s.off, off)) }

// A layout gives the source of an image's bytes. Outside of the slot it is the
// base. In the slot it is the bundle or the generated volume.
type layout struct {
	slot   span
	bundle []span // usually one
}

func layoutOf(whole *extent.Map, slot span) layout {
	l := layout{slot: slot}
	for _, e := range whole.Extents(slot.off, slot.end-slot.off) {
		// Only the bundle is in a file. The rest from ext4gen is in memory.
		if _, inFile := e.Source.(extent.Pinner); inFile {
			l.bundle = append(l.bundle, span{e.Off, e.Off + e.Len})
		}
	}
	return l
}

// Sources counts how many of the n bytes from off on come from the base, the
// generated volume and the bundle. It costs next to nothing.
func (h *Handle) Sources(off, n int64) (base, volume, bundle int64) {
	end := min(off+n, h.Size()) + h.start
	off += h.start
	inSlot := h.img.layout.slot.within(off, end)
	for _, s := range h.img.layout.bundle {
		bundle += s.within(off, end)
	}
	return max(0, end-off) - inSlot, inSlot - bundle, bundle
}

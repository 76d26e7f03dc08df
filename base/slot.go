package base

import (
	"fmt"
	"io"

	"aesthetic.computer/isofs/fault"
	"aesthetic.computer/isofs/partition"
)

// A layout has the partitions of an image, from its table.
type layout struct {
	slot  partition.Span
	esps  []partition.Span // the EFI system partitions, in order
	parts []partition.Span // the partitions before the slot, in order
}

// readLayout finds the slot and the ESPs of an image of size bytes. It refuses
// an image that breaks the image contract, and any damage of either partition
// table.
func readLayout(r io.ReaderAt, size int64) (*layout, error) {
	parts, err := partition.List(r, size)
	if err != nil {
		return nil, err
	}
	var l layout
	slot := -1
	for i, p := range parts {
		if p.IsESP() {
			l.esps = append(l.esps, p.Span)
		}
		if p.Label != SlotLabel {
			continue
		}
		if slot >= 0 {
			return nil, fmt.Errorf("partitions %d and %d both have the ext4 label %s: %w", parts[slot].Number, p.Number, SlotLabel, fault.Invalid)
		}
		slot = i
	}
	if slot < 0 {
		return nil, fmt.Errorf("none of the %d partitions is an ext4 labelled %s: %w", len(parts), SlotLabel, fault.Invalid)
	}
	if slot != len(parts)-1 {
		return nil, fmt.Errorf("partition %d (%s) is not the last on the disk: partition %d lies behind it: %w",
			parts[slot].Number, SlotLabel, parts[len(parts)-1].Number, fault.Invalid)
	}
	l.slot = parts[slot].Span
	for _, p := range parts[:slot] {
		l.parts = append(l.parts, p.Span)
	}
	return &l, checkSlot(l.slot, size)
}

func (m *Manifest) slot() partition.Span {
	return partition.Span{Offset: m.PiecePartitionOffset, Size: m.PiecePartitionSize}
}

// checkSlot checks the slot's place in an image of size bytes.
func checkSlot(slot partition.Span, size int64) error {
	off, length := slot.Offset, slot.Size
	switch {
	case off <= 0 || off%SlotAlignment != 0:
		return fmt.Errorf("piecePartitionOffset %d is not a positive multiple of %d: %w", off, SlotAlignment, fault.Invalid)
	case length < MinSlotSize || length > MaxSlotSize:
		return fmt.Errorf("piecePartitionSize %d is not in %d..%d: %w", length, MinSlotSize, MaxSlotSize, fault.Invalid)
	case length%SlotAlignment != 0:
		return fmt.Errorf("piecePartitionSize %d is not a multiple of %d: %w", length, SlotAlignment, fault.Invalid)
	case off > size-length:
		return fmt.Errorf("the slot [%d, %d) ends behind totalSize %d: %w", off, off+length, size, fault.Corrupt)
	case size-off-length > MaxTailSize:
		return fmt.Errorf("%d bytes lie behind the slot, at most %d are allowed: %w", size-off-length, MaxTailSize, fault.Invalid)
	}
	return nil
}

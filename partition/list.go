package partition

import (
	"cmp"
	"fmt"
	"io"
	"slices"

	"aesthetic.computer/isofs/fault"
)

// List returns the partitions of an image of size bytes by their place on the
// disk. It refuses any damage of either partition table, since every image
// contains the backup. An image without a GPT is fault.Invalid. A damaged or
// truncated one is fault.Corrupt. A reader's error keeps its kind, or is
// fault.Unavailable.
func List(r io.ReaderAt, size int64) ([]Partition, error) {
	table, err := readBoth(r, size)
	if err != nil {
		return nil, err
	}
	list, err := table.sorted(size)
	if err != nil {
		return nil, err
	}
	for i := range list {
		if list[i].Label, err = ext4Label(r, list[i].Span); err != nil {
			return nil, fmt.Errorf("read the label of partition %d: %w", list[i].Number, err)
		}
	}
	return list, nil
}

// readBoth reads the primary table, and requires an equal backup.
func readBoth(r io.ReaderAt, size int64) (*Table, error) {
	if size%SectorSize != 0 || size < 3*SectorSize {
		return nil, fmt.Errorf("an image of %d bytes is not made of %d-byte sectors: %w", size, SectorSize, fault.Invalid)
	}
	last := size/SectorSize - 1
	primary, err := ReadTable(r, 1)
	if err != nil {
		return nil, withoutPrimary(r, last, err)
	}
	if want := primary.field(headerOther); want != last {
		return nil, fmt.Errorf("the GPT is made for a disk of %d bytes, the image has %d (truncated, or padded): %w", (want+1)*SectorSize, size, fault.Corrupt)
	}
	backup, err := ReadTable(r, last)
	if fault.Kind(err) == fault.Invalid {
		return nil, fmt.Errorf("no backup GPT header at offset %d: %w", last*SectorSize, fault.Corrupt)
	}
	if err != nil {
		return nil, fmt.Errorf("read the backup GPT at the end of the image: %w", err)
	}
	if !primary.agrees(backup) {
		return nil, fmt.Errorf("the primary and the backup GPT list different partitions: %w", fault.Corrupt)
	}
	if got, want := primary.field(headerLastUsable), last-int64(len(primary.entries))/SectorSize-1; got != want {
		return nil, fmt.Errorf("the GPT says that sector %d is the last for partitions, and it is %d: %w", got, want, fault.Corrupt)
	}
	return primary, nil
}

// withoutPrimary explains why ReadTable refused the primary table with err: the
// image never had a GPT, or has a damaged one.
func withoutPrimary(r io.ReaderAt, last int64, err error) error {
	has := func(off int64) bool {
		sig := make([]byte, len(signature))
		return ReadFull(r, sig, off) == nil && string(sig) == signature
	}
	if fault.Kind(err) == fault.Corrupt {
		if _, backupErr := ReadTable(r, last); backupErr != nil {
			return fmt.Errorf("the primary GPT is damaged, the backup GPT also invalid (%v): %w", backupErr, err)
		}
		return fmt.Errorf("the primary GPT is damaged (only the backup at the end is whole); repair it with sgdisk -e or write the image again: %w", err)
	}
	switch {
	case fault.Kind(err) != fault.Invalid:
		return err
	case has(last * SectorSize):
		return fmt.Errorf("the primary GPT is damaged (there is a backup at the end): no GPT header at offset %d: %w", SectorSize, fault.Corrupt)
	case has(4096):
		return fmt.Errorf("the image is made for 4096-byte sectors, only %d are supported: %w", SectorSize, fault.Invalid)
	}
	return fmt.Errorf("the image has no GPT (no %q at offset %d): %w", signature, SectorSize, fault.Invalid)
}

// sorted returns the partitions by their place on the disk. It checks that they
// are inside the usable area and do not overlap.
func (t *Table) sorted(size int64) ([]Partition, error) {
	parts := t.Partitions()
	slices.SortStableFunc(parts, func(a, b Partition) int {
		first, _ := a.sectors()
		other, _ := b.sectors()
		return cmp.Compare(first, other)
	})
	var behind uint64 // the sector behind the partition before
	for i, p := range parts {
		first, last := p.sectors()
		usable := t.field(headerLastUsable)
		if first < 2 || last < first || last > uint64(usable) || last >= uint64(size/SectorSize) {
			return nil, fmt.Errorf("partition %d claims sectors %d..%d of %d usable: %w", p.Number, first, last, usable, fault.Corrupt)
		}
		if i > 0 && first < behind {
			return nil, fmt.Errorf("partitions %d and %d overlap at sector %d: %w", parts[i-1].Number, p.Number, first, fault.Corrupt)
		}
		behind = last + 1
	}
	return parts, nil
}

package stick

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"slices"

	"aesthetic.computer/isofs/base"
	"aesthetic.computer/isofs/fault"
	"aesthetic.computer/isofs/partition"
)

// spread is how many blocks a quick look takes from all over the base, beside
// the first and the last of each partition.
const spread = 32

// sector is the size of the sectors of a partition table.
const sector = partition.SectorSize

// smallest is the size of a partition table.
const smallest = 34 * sector

// A basis is what a stick has beside its slot, compared with a base.
type basis struct {
	m     *base.Manifest
	table *partition.Table // of the base
	parts []partition.Partition
	// seen is the stick, with the base's tables where another tool changed them.
	seen io.ReaderAt
	// moved is true if another tool changed them; added are the partitions that
	// it made.
	moved bool
	added []partition.Partition
	// found is all that differs from the base, notes what is only worth a
	// message.
	found, notes []string
	// wrong are the blocks that the last scan found to differ from the base.
	wrong []int
}

// lookAtBasis reads the partition tables of a stick. A stick without a slot is
// fault.Invalid; one of another base has findings.
func lookAtBasis(t Target, m *base.Manifest) (*basis, error) {
	b := &basis{m: m, seen: t}
	var err error
	if b.table, err = tableOf(m); err != nil {
		return nil, err
	}
	b.parts = b.table.Partitions()
	has, err := partition.ReadTable(t, 1)
	switch {
	case t.Size() < smallest:
		return nil, fmt.Errorf("this is not a stick of isofs: it has only %d bytes: %w", t.Size(), fault.Invalid)
	case errors.Is(err, fault.Unavailable):
		return nil, err
	case errors.Is(err, fault.Corrupt):
		b.found = append(b.found, err.Error())
		return b, nil
	case err != nil:
		return nil, fmt.Errorf("this is not a stick of isofs: %w", err)
	}
	if !slices.ContainsFunc(has.Partitions(), func(p partition.Partition) bool { return p.Name == base.SlotLabel || isSlot(t, p) }) {
		return nil, fmt.Errorf("this is not a stick of isofs: none of its %d partitions is %s: %w", len(has.Partitions()), base.SlotLabel, fault.Invalid)
	}
	if t.Size() < m.TotalSize {
		b.found = append(b.found, fmt.Sprintf("it has %d bytes, and images of this base have %d", t.Size(), m.TotalSize))
		return b, nil
	}
	missing, more := has.Compare(b.table)
	b.added = more
	for _, p := range missing {
		b.found = append(b.found, fmt.Sprintf("%s is not at bytes %d to %d, or not the same", p, p.Offset, p.End()-1))
	}
	for _, p := range more {
		if p.Offset < m.SlotEnd() {
			b.found = append(b.found, fmt.Sprintf("%s, which the base has not, begins at byte %d, inside of the image", p, p.Offset))
		}
		b.notes = append(b.notes, fmt.Sprintf("%s was added by somebody; it stays as it is", p))
	}
	if len(b.found) > 0 {
		return b, nil
	}
	return b, b.lookForMove(t, has)
}

// isSlot reports whether a partition has the volume of a slot.
func isSlot(r io.ReaderAt, p partition.Partition) bool {
	label := make([]byte, len(base.SlotLabel))
	return readAt(r, label, p.Offset+1024+0x78) == nil && string(label) == base.SlotLabel
}

// lookForMove finds out whether the tables are where the image has them. Tools
// that find a disk larger than its table says offer to move one of the two to
// the end of the disk, and write the other again to say so.
func (b *basis) lookForMove(t Target, has *partition.Table) error {
	tail := make([]byte, len(b.m.Tail))
	if err := readAt(t, tail, b.m.SlotEnd()); err != nil {
		return err
	}
	var tables []overlaid
	if !has.Equal(b.table) || string(tail) != string(b.m.Tail) {
		b.moved = true
		b.notes = append(b.notes, "another tool wrote its partition table again, with the same partitions; it stays as it is")
		tables = withTablesOf(b.m, b.table)
		b.seen = &overlay{t, tables}
	}
	buf := make([]byte, b.m.BlockSize)
	for n, mbr := range masterRecords(b.m.TotalSize / sector) {
		try := &overlay{t, append(slices.Clone(tables), mbr...)}
		same, err := b.sameBlock(try, 0, buf)
		if err != nil {
			return err
		}
		if !same {
			continue
		}
		b.seen = try
		if n > 0 && !b.moved {
			b.moved = true
			b.notes = append(b.notes, "another tool changed the boot flag, the size or the signature in its first sector (MBR); that stays as it is")
		}
		break
	}
	return nil
}

// sameBlock compares one block with its hash in the manifest.
func (b *basis) sameBlock(r io.ReaderAt, i int, buf []byte) (bool, error) {
	off, n := b.m.BlockRange(i)
	if err := readAt(r, buf[:n], off); err != nil {
		return false, err
	}
	return sha256.Sum256(buf[:n]) == b.m.Blocks[i], nil
}

// inBase reports whether all of a block belongs to the base, and nothing to the
// slot.
func (b *basis) inBase(i int) bool {
	off, n := b.m.BlockRange(i)
	return off+n <= b.m.PiecePartitionOffset || off >= b.m.SlotEnd()
}

// differs describes a block that differs from the base.
func (b *basis) differs(i int) string {
	off, n := b.m.BlockRange(i)
	return fmt.Sprintf("block %d (bytes %d to %d, %s) is not that of the base", i, off, off+n-1, b.where(off))
}

// where names the part of the image that has the byte at off.
func (b *basis) where(off int64) string {
	for _, p := range b.parts {
		if p.Offset <= off && off < p.End() {
			return p.String()
		}
	}
	if off >= b.m.SlotEnd() {
		return "the partition table at the end"
	}
	return "before the first partition"
}

// lookQuickly compares the first and the last block of each partition and some
// from all over the base. If most of them are wrong it returns an
// *OtherBaseError.
func (b *basis) lookQuickly(ctx context.Context) error {
	var look []int
	for _, p := range b.parts {
		look = append(look, int(p.Offset/b.m.BlockSize), int((p.Offset+b.m.BlockSize-1)/b.m.BlockSize), int((p.End()-1)/b.m.BlockSize), int(p.End()/b.m.BlockSize)-1)
	}
	for n := range spread {
		look = append(look, n*int(b.m.PiecePartitionOffset/b.m.BlockSize)/spread)
	}
	slices.Sort(look)
	buf, looked := make([]byte, b.m.BlockSize), 0
	for _, i := range slices.Compact(look) {
		if i < 0 || i >= len(b.m.Blocks) || !b.inBase(i) {
			continue
		}
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("look at the base on the stick: %w: %w", fault.Unavailable, err)
		}
		same, err := b.sameBlock(b.seen, i, buf)
		if err != nil {
			return err
		}
		looked++
		if !same {
			b.found = append(b.found, b.differs(i))
		}
	}
	if len(b.found)*2 > looked {
		return &OtherBaseError{b.found}
	}
	return nil
}

// lookAtAll compares every block of the base, and the digest of an image with
// these bytes, changed as an update would change them. The digest is proof also
// for the blocks that the slot begins or ends in.
func (b *basis) lookAtAll(ctx context.Context, changed io.ReaderAt, want base.Hash, show Progress) error {
	b.found = nil
	sum, err := b.scan(ctx, changed, show)
	if err == nil && len(b.found) == 0 && sum != want {
		b.found = append(b.found, fmt.Sprintf("some bytes next to the slot are not those of the base: with this piece the image would have sha256 %s, not %s", sum, want))
	}
	return err
}

// maxFound bounds the findings of a stick that has nothing right.
const maxFound = 5

// scan reads an image whole from r. It notes the blocks that differ from the
// base, and returns the digest of all.
func (b *basis) scan(ctx context.Context, r io.ReaderAt, show Progress) (base.Hash, error) {
	whole := sha256.New()
	buf := make([]byte, b.m.BlockSize)
	b.wrong = nil
	for i, want := range b.m.Blocks {
		if err := ctx.Err(); err != nil {
			return base.Hash{}, fmt.Errorf("read the stick: %w: %w", fault.Unavailable, err)
		}
		off, n := b.m.BlockRange(i)
		if err := readAt(r, buf[:n], off); err != nil {
			return base.Hash{}, err
		}
		whole.Write(buf[:n])
		if b.inBase(i) && sha256.Sum256(buf[:n]) != want {
			if b.wrong = append(b.wrong, i); len(b.wrong) <= maxFound {
				b.found = append(b.found, b.differs(i))
			}
		}
		show.report(off+n, b.m.TotalSize)
	}
	if more := len(b.wrong) - maxFound; more > 0 {
		b.found = append(b.found, fmt.Sprintf("and %d blocks more", more))
	}
	return base.Hash(whole.Sum(nil)), nil
}

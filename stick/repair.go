package stick

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"

	"aesthetic.computer/isofs/fault"
)

// maxRepair bounds how many bytes of a base are repaired: they stay in memory
// until all are checked. A mount of the stick changes one block or two.
const maxRepair = 64 << 20

// touched tells a base that was changed in some places from another one: in the
// last scan less than half of it is wrong. It returns an error for either.
func (b *basis) touched() error {
	of := 0
	for i := range b.m.Blocks {
		if b.inBase(i) {
			of++
		}
	}
	wrong := len(b.wrong)
	switch {
	case wrong == 0 || wrong*2 > of || int64(wrong)*b.m.BlockSize > maxRepair:
		return &OtherBaseError{b.found}
	case b.repairsTable() && len(b.added) > 0:
		// The table would have to be the base's again, without that partition.
		return &OtherBaseError{append(b.found, fmt.Sprintf("%s was added, which a repair would remove", b.added[0]))}
	}
	return &TouchedError{Wrong: wrong, Of: of, Findings: b.found}
}

// planRepair finds out which blocks of the base were changed.
func (u *Update) planRepair(ctx context.Context, o Options) error {
	b := u.basis
	if err := b.lookQuickly(ctx); err != nil {
		return err
	}
	if len(b.found) == 0 && !o.Repair {
		return nil
	}
	b.found = nil
	if _, err := b.scan(ctx, b.seen, o.Compared); err != nil {
		return err
	}
	if len(b.wrong) == 0 {
		return nil
	}
	err := b.touched()
	if _, touched := errors.AsType[*TouchedError](err); !touched || !o.Repair {
		return err
	}
	u.Repair, u.repairsTable, u.All = b.wrong, b.repairsTable(), true
	return nil
}

// repairsTable reports whether a wrong block has a part of the partition table.
func (b *basis) repairsTable() bool {
	for _, i := range b.wrong {
		if off, _ := b.m.BlockRange(i); off < 2*sector+int64(len(b.table.Entries())) {
			return true
		}
	}
	return false
}

// fetchBlocks downloads blocks of the base, out of the image, and compares each
// with its hash.
func (s *Download) fetchBlocks(ctx context.Context, blocks []int, show Progress) ([]overlaid, error) {
	var got []overlaid
	total := int64(len(blocks)) * s.Manifest.BlockSize
	for n, i := range blocks {
		off, size := s.Manifest.BlockRange(i)
		data := make([]byte, 0, size)
		err := s.fetch(ctx, s.Name.FileName(), span{off, off + size, s.Manifest.TotalSize}, func(p []byte) error {
			data = append(data, p...)
			return nil
		}, nil)
		if err != nil {
			return nil, err
		}
		if sha256.Sum256(data) != s.Manifest.Blocks[i] {
			return nil, fmt.Errorf("block %d of the image came with other bytes than the manifest of its base has: %w", i, fault.Corrupt)
		}
		got = append(got, overlaid{off, data})
		show.report(int64(n+1)*s.Manifest.BlockSize, total)
	}
	return got, nil
}

// repair downloads the wrong blocks of the base. It returns what has to be
// written, and the stick as it will be then.
func (u *Update) repair(ctx context.Context, show Progress) (pieces []overlaid, seen io.ReaderAt, err error) {
	b := u.basis
	if len(u.Repair) == 0 {
		return nil, b.seen, nil
	}
	if pieces, err = u.Snapshot.fetchBlocks(ctx, u.Repair, show); err != nil {
		return nil, nil, err
	}
	seen = b.seen
	if u.repairsTable {
		// Then both tables are the base's, at their places.
		pieces = append(pieces, overlaid{b.m.SlotEnd(), b.m.Tail})
		seen = u.target
	}
	return pieces, &overlay{seen, pieces}, nil
}

// prove reads all of the future stick, before anything is written. The bytes
// must have the digest of the image. If signatures are checked and blocks of
// the base come from the server, the image's signature must fit, too.
func (u *Update) prove(ctx context.Context, seen io.ReaderAt, slot []byte, show Progress) error {
	b, s := u.basis, u.Snapshot
	changed := &overlay{seen, []overlaid{{b.m.PiecePartitionOffset, slot}}}
	if err := b.lookAtAll(ctx, changed, s.SHA256, show); err != nil {
		return err
	}
	if len(b.found) > 0 {
		return b.touched()
	}
	if len(u.Repair) == 0 {
		return nil
	}
	_, err := s.verify(ctx, s.Name.FileName(), io.NewSectionReader(changed, 0, b.m.TotalSize))
	return err
}

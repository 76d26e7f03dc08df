package stick

import (
	"context"
	"crypto/sha256"
	"fmt"
	"io"

	"aesthetic.computer/isofs/base"
	"aesthetic.computer/isofs/fault"
)

func sum256(p []byte) [32]byte { return sha256.Sum256(p) }

// An Update is a plan for a stick. Run carries it out.
type Update struct {
	Snapshot *Download
	// Has is what the stick says that it carries now; nil if it says nothing.
	Has *Contents
	// Same is true if it already has this image's slot, and nothing needs a
	// repair.
	Same bool
	// All is true if the whole base has to be compared: because Options say so,
	// or because the stick says another base than the image's.
	All bool
	// Repair are the blocks of the base that Run writes again.
	Repair []int
	// Notes are worth a message.
	Notes []string

	target       Target
	basis        *basis
	repairsTable bool // a block of Repair has a part of the partition table
}

// Options of an update.
type Options struct {
	// VerifyBase compares all blocks of the base, not some.
	VerifyBase bool
	// Repair compares them all, too, and writes the changed ones again.
	Repair bool
	// Compared receives the progress of comparing all blocks, where Plan does
	// that.
	Compared Progress
}

// Plan looks at a stick that is to become s. It writes nothing. A stick of
// another base is an *OtherBaseError. One whose base was changed, without
// Options.Repair, is a *TouchedError. One that is not of isofs is fault.Invalid.
func Plan(ctx context.Context, t Target, s *Download, o Options) (*Update, error) {
	b, err := lookAtBasis(t, s.Manifest)
	if err != nil {
		return nil, err
	}
	if len(b.found) > 0 {
		return nil, &OtherBaseError{b.found}
	}
	u := &Update{Snapshot: s, All: o.VerifyBase, target: t, basis: b}
	if u.Has, err = readContents(t, s.Manifest); err != nil {
		return nil, err
	}
	if err := u.planRepair(ctx, o); err != nil {
		return nil, err
	}
	u.Notes = b.notes
	switch {
	case u.Has != nil && u.Has.Repairing:
		u.All = true
		u.Notes = append(u.Notes, "repairing its base was not finished, so all of it is compared first")
	case u.Has == nil:
		u.All = true
		u.Notes = append(u.Notes, "it does not say which piece and base it carries, so all of its base is compared first")
	case u.Has.BaseSHA256 != s.Manifest.SHA256:
		u.All = true
		u.Notes = append(u.Notes, fmt.Sprintf("it says that it has another base (%.12s, not %.12s) and looks as if it had this one, so all of it is compared first", u.Has.BaseSHA256, s.Manifest.SHA256))
	}
	slot := io.NewSectionReader(t, s.Manifest.PiecePartitionOffset, s.Manifest.PiecePartitionSize)
	whole := sha256.New()
	if _, err := io.CopyBuffer(whole, onlyReader{slot}, make([]byte, chunk)); err != nil {
		return nil, fmt.Errorf("read the slot of the stick: %w: %w", fault.Unavailable, err)
	}
	u.Same = base.Hash(whole.Sum(nil)) == s.SlotSHA256 && len(u.Repair) == 0
	return u, nil
}

// onlyReader hides that a reader can write itself, in smaller pieces.
type onlyReader struct{ io.Reader }

// Bytes returns how much Run writes of the piece's partition, and how much of the
// base.
func (u *Update) Bytes() (slot, base int64) {
	m := u.Snapshot.Manifest
	for _, i := range u.Repair {
		_, n := m.BlockRange(i)
		base += n
	}
	return m.PiecePartitionSize, base
}

// A Step is a part of an update that takes time.
type Step string

// The steps of an update, of which the second may be left out.
const (
	Downloading  Step = "downloading the piece"
	CheckingBase Step = "comparing the base"
	Writing      Step = "writing and reading back"
)

// Run downloads the piece and the blocks to repair, compares the base if the plan
// says so, writes the slot and reads it back. show may be nil. An
// *UnfinishedError means that the stick was written to and cannot be used. With
// any other error nothing was written.
func (u *Update) Run(ctx context.Context, show func(Step) Progress) error {
	if show == nil {
		show = func(Step) Progress { return nil }
	}
	slot, err := u.Snapshot.Slot(ctx, show(Downloading))
	if err != nil {
		return err
	}
	pieces, seen, err := u.repair(ctx, show(Downloading))
	if err != nil {
		return err
	}
	if u.All {
		if err := u.prove(ctx, seen, slot, show(CheckingBase)); err != nil {
			return err
		}
	}
	return u.writeSlot(ctx, slot, pieces, show(Writing))
}

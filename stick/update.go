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

// An Update is what would be done to a stick, before it is.
type Update struct {
	Snapshot *Snapshot
	// Has is what the stick says that it carries now; nil if it says nothing.
	Has *Contents
	// Same is true if it already has this image's slot.
	Same bool
	// All is true if the whole base has to be compared: because that was asked
	// for, or because what the stick says of its base is not what is wanted.
	All bool
	// Notes are worth telling.
	Notes []string

	target Target
	basis  *basis
}

// Options of an update.
type Options struct {
	// VerifyBase compares all blocks of the base, not some.
	VerifyBase bool
}

// Plan looks at a stick that is to become s. Nothing is written. A stick of
// another base is an *OtherBaseError, what is no stick of isofs fault.Invalid.
func Plan(ctx context.Context, t Target, s *Snapshot, o Options) (*Update, error) {
	b, err := lookAtBasis(t, s.Manifest)
	if err != nil {
		return nil, err
	}
	u := &Update{Snapshot: s, All: o.VerifyBase, target: t, basis: b}
	if len(b.found) == 0 {
		if u.Has, err = readContents(t, s.Manifest); err != nil {
			return nil, err
		}
		if err := b.lookQuickly(ctx); err != nil {
			return nil, err
		}
	}
	if len(b.found) > 0 {
		return nil, &OtherBaseError{b.found}
	}
	u.Notes = b.notes
	switch {
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
	u.Same = base.Hash(whole.Sum(nil)) == s.SlotSHA256
	return u, nil
}

// onlyReader hides that a reader can write itself, in smaller pieces.
type onlyReader struct{ io.Reader }

// Bytes is how much Run writes.
func (u *Update) Bytes() int64 { return u.Snapshot.Manifest.PiecePartitionSize }

// A Stage is a part of an update that takes time.
type Stage string

// The stages of an update, of which the second may be left out.
const (
	Downloading  Stage = "downloading the piece"
	CheckingBase Stage = "comparing the base"
	Writing      Stage = "writing and reading back"
)

// Run downloads the piece, compares the base if that is to be done, writes the
// slot and reads it back. show may be nil. An *UnfinishedError says that the
// stick was written to and cannot be used; before that nothing was written.
func (u *Update) Run(ctx context.Context, show func(Stage) Progress) error {
	if show == nil {
		show = func(Stage) Progress { return nil }
	}
	slot, err := u.Snapshot.Slot(ctx, show(Downloading))
	if err != nil {
		return err
	}
	if u.All {
		if err := u.basis.lookAtAll(ctx, slot, u.Snapshot.SHA256, show(CheckingBase)); err != nil {
			return err
		}
		if len(u.basis.found) > 0 {
			return &OtherBaseError{u.basis.found}
		}
	}
	return writeSlot(ctx, u.target, u.Snapshot, slot, show(Writing))
}

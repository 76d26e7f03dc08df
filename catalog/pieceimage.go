package catalog

import (
	"crypto/sha256"
	"fmt"
	"io"
	"sync"
	"time"

	"aesthetic.computer/isofs/base"
	"aesthetic.computer/isofs/fault"
	"aesthetic.computer/isofs/image"
)

// A PieceImage is the slot of a snapshot as a file. Written to the slot of
// another image of the same base, it makes that one this snapshot's image.
type PieceImage struct{ snapshot *Snapshot }

// Slot returns the snapshot's slot as a file.
func (s *Snapshot) Slot() *PieceImage { return &PieceImage{s} }

// ID is that of the snapshot.
func (i *PieceImage) ID() string { return i.snapshot.ID() }

// FileName is the name of the file: "notepat-piece.img".
func (i *PieceImage) FileName() string { return i.snapshot.piece.SlotFileName() }

// Time is the snapshot's modification time.
func (i *PieceImage) Time() time.Time { return i.snapshot.Time() }

// Size is the slot's length in bytes.
func (i *PieceImage) Size() int64 { return i.snapshot.Base().PiecePartitionSize }

// Whole is Snapshot.Whole.
func (i *PieceImage) Whole() bool { return i.snapshot.Whole() }

// Open opens the file as Snapshot.Open opens the image.
func (i *PieceImage) Open() (*Handle, error) {
	h, err := i.snapshot.Open()
	if err != nil {
		return nil, err
	}
	h.Map, h.start = h.img.image.Volume, i.snapshot.Base().PiecePartitionOffset
	return h, nil
}

// SHA256 is the digest of the file. The first call computes it, also for the
// calls that wait at that time. It reads the slot and nothing of the base.
func (i *PieceImage) SHA256() (base.Hash, error) {
	s := i.snapshot
	s.mu.Lock()
	known := s.slotSum
	s.mu.Unlock()
	if known != nil {
		return *known, nil
	}
	sum, err, _ := s.catalog.sidecars.making.Do(sidecarKey(s.record.ID, i.FileName()), func() (any, error) {
		sum, err := i.computeSHA256()
		if err == nil {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.slotSum = &sum
		}
		return sum, err
	})
	return sum.(base.Hash), err
}

func (i *PieceImage) computeSHA256() (base.Hash, error) {
	h, err := i.Open()
	if err != nil {
		return base.Hash{}, err
	}
	defer h.Close()
	hash := sha256.New()
	if _, err := io.Copy(hash, io.NewSectionReader(h, 0, h.Size())); err != nil {
		return base.Hash{}, fmt.Errorf("compute the digest of %s of snapshot %s: %w", i.FileName(), i.ID(), err)
	}
	return base.Hash(hash.Sum(nil)), nil
}

// Suffixes lists the file's sidecars, in alphabetical order.
func (i *PieceImage) Suffixes() []string { return i.snapshot.catalog.sidecars.ofSlots }

// Listed is Snapshot.Listed for this file. It is empty, as even the digest is
// made on request.
func (i *PieceImage) Listed() []string { return nil }

// Sidecar is Snapshot.Sidecar for this file.
func (i *PieceImage) Sidecar(suffix string) ([]byte, error) {
	if suffix == sha256Suffix {
		sum, err := i.SHA256()
		if err != nil {
			return nil, err
		}
		return fmt.Appendf(nil, "%s  %s\n", sum, i.FileName()), nil
	}
	maker := i.snapshot.catalog.sidecars.makers[suffix]
	if maker.MakeForSlot == nil {
		return nil, fmt.Errorf("%s has no sidecar .%s: %w", i.FileName(), suffix, fault.NotFound)
	}
	return i.snapshot.makeSidecar(i.FileName()+"."+suffix, maker.MakeForSlot)
}

// ManifestSuffix is the suffix of the sidecar with the manifest of an image's
// base.
const ManifestSuffix = "manifest"

// ManifestSidecar makes the sidecar with the manifest of an image's base. It
// tells the owner of a stick where the slot is, and lets them check the rest.
// It leaves out other addresses of the base, which may be private to the
// operator. It also leaves out the data for other sidecars, which may be
// megabytes. Consecutive images of a base share one copy, since its size grows
// with the base.
func ManifestSidecar() SidecarMaker {
	var mu sync.Mutex // guards both below
	var of *base.Manifest
	var text []byte
	return SidecarMaker{Suffix: ManifestSuffix, Make: func(_ *Snapshot, img *image.Image) ([]byte, error) {
		mu.Lock()
		defer mu.Unlock()
		if of == img.Manifest {
			return text, nil
		}
		m := *img.Manifest
		m.Mirrors, m.Zsync, m.Empty = nil, nil, nil
		written, err := m.Marshal()
		if err != nil {
			return nil, err
		}
		of, text = img.Manifest, written
		return text, nil
	}}
}

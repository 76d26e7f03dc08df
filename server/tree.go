package server

import (
	"context"

	"aesthetic.computer/isofs/catalog"
	"aesthetic.computer/isofs/vfs"
)

// A catalogTree shows a catalog as what is mounted.
type catalogTree struct{ c *catalog.Catalog }

func (t catalogTree) FileNames() []string {
	pieces := t.c.Pieces(context.Background())
	names := make([]string, len(pieces))
	for i, p := range pieces {
		names[i] = p.FileName()
	}
	return names
}

func (t catalogTree) Current(ctx context.Context, fileName string) (vfs.SnapshotFile, error) {
	s, err := t.c.CurrentFile(ctx, fileName)
	if err != nil {
		return nil, err
	}
	return vfs.FileOf(snapshotImage{s}, fileName), nil
}

func (t catalogTree) IDs() []string { return t.c.IDs() }

func (t catalogTree) ByID(id string) (vfs.SnapshotFile, error) {
	s, err := t.c.ByID(id)
	if err != nil {
		return nil, err
	}
	return snapshotImage{s}, nil
}

// snapshotImage is a snapshot whose Open returns package vfs's Handle.
type snapshotImage struct{ *catalog.Snapshot }

// Slot implements vfs.Slotted.
func (i snapshotImage) Slot() vfs.SnapshotFile { return slotImage{i.Snapshot.Slot()} }

// slotImage is what is in a snapshot's slot, likewise.
type slotImage struct{ *catalog.PieceImage }

func (i slotImage) Open() (vfs.Handle, error) {
	h, err := i.PieceImage.Open()
	if err != nil {
		return nil, err
	}
	return h, nil
}

func (i snapshotImage) Open() (vfs.Handle, error) {
	h, err := i.Snapshot.Open()
	if err != nil {
		return nil, err
	}
	return h, nil
}

package server

import (
	"context"

	"aesthetic.computer/isofs/catalog"
	"aesthetic.computer/isofs/vfs"
)

// A catalogTree presents a catalog as a vfs.Tree.
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

// snapshotImage is a snapshot's image as package vfs wants it.
type snapshotImage struct{ *catalog.Snapshot }

// Slot implements vfs.SnapshotFile.
func (i snapshotImage) Slot() vfs.SnapshotFile { return pieceImage{i.Snapshot.Slot()} }

func (i snapshotImage) Open() (vfs.Handle, error) { return handle(i.Snapshot.Open()) }

// pieceImage is the content of a snapshot's slot, likewise.
type pieceImage struct{ *catalog.PieceImage }

// Slot implements vfs.SnapshotFile: this is the slot.
func (i pieceImage) Slot() vfs.SnapshotFile { return nil }

func (i pieceImage) Open() (vfs.Handle, error) { return handle(i.PieceImage.Open()) }

// handle returns a nil interface for a nil handle.
func handle(h *catalog.Handle, err error) (vfs.Handle, error) {
	if err != nil {
		return nil, err
	}
	return h, nil
}

package stick

import (
	"encoding/binary"
	"fmt"
	"io"
	"slices"

	"aesthetic.computer/isofs/base"
	"aesthetic.computer/isofs/partition"
)

// tailReader reads a manifest's tail at its place in the image.
type tailReader struct{ m *base.Manifest }

func (r tailReader) ReadAt(p []byte, off int64) (int, error) {
	if off < r.m.SlotEnd() || off >= r.m.TotalSize {
		return 0, io.EOF
	}
	n := copy(p, r.m.Tail[off-r.m.SlotEnd():])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

// tableOf returns the table that images of the base have at their start. It
// follows from the other, which the manifest has.
func tableOf(m *base.Manifest) (*partition.Table, error) {
	last, err := partition.ReadTable(tailReader{m}, m.TotalSize/sector-1)
	if err != nil {
		return nil, fmt.Errorf("find the partition table of base %s: %w", m.SHA256, err)
	}
	return last.First(), nil
}

// An overlay shows a stick with some bytes as they are in the image: the
// partition tables, which other tools may have moved.
type overlay struct {
	r      io.ReaderAt
	pieces []overlaid
}

type overlaid struct {
	off  int64
	data []byte
}

func (o *overlay) ReadAt(p []byte, off int64) (int, error) {
	if err := readAt(o.r, p, off); err != nil {
		return 0, err
	}
	for _, piece := range o.pieces {
		from, to := max(off, piece.off), min(off+int64(len(p)), piece.off+int64(len(piece.data)))
		if from < to {
			copy(p[from-off:to-off], piece.data[from-piece.off:])
		}
	}
	return len(p), nil
}

// withTablesOf returns the tables that images of the base have.
func withTablesOf(m *base.Manifest, t *partition.Table) []overlaid {
	return []overlaid{
		{sector, t.HeaderSector()},
		{2 * sector, t.Entries()},
		{m.SlotEnd(), m.Tail},
	}
}

// Fields of the MBR (UEFI specification 2.10, section 5.2.1), in bytes.
const (
	mbrSignature = 440 // of the disk, and two unused bytes
	mbrEntry     = 446
	mbrActive    = 0x80
)

// masterRecords returns what the MBR of a base of that many sectors may have
// been, whatever it is now. The first of them is the unchanged one. Tools write
// the size of the disk and cylinders into its entry, and the flag that old
// BIOSes want. Windows writes its own signature. The manifest has only the hash
// of its block.
func masterRecords(sectors int64) [][]overlaid {
	entries := [][]overlaid{nil, {protective(sectors, false)}, {protective(sectors, true)}, {protective(1<<33, true)}}
	var all [][]overlaid
	for _, signature := range [][]overlaid{nil, {{mbrSignature, make([]byte, mbrEntry-mbrSignature)}}} {
		for _, entry := range entries {
			for _, flag := range [][]overlaid{nil, {{mbrEntry, []byte{0}}}, {{mbrEntry, []byte{mbrActive}}}} {
				all = append(all, slices.Concat(signature, entry, flag))
			}
		}
	}
	return all
}

// protective returns the one entry of the MBR before a GPT of a disk of that
// many sectors, by the UEFI specification (5.2.3).
//
// isofs's own bases have no cylinders in it.
func protective(sectors int64, cylinders bool) overlaid {
	entry := []byte{0, 0, 0, 0, 0xee, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0}
	if cylinders {
		copy(entry, []byte{0, 0, 2, 0, 0xee, 0xff, 0xff, 0xff})
	}
	binary.LittleEndian.PutUint32(entry[12:], uint32(min(sectors-1, 0xffffffff)))
	return overlaid{mbrEntry, entry}
}

package stick

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
	"slices"
	"unicode/utf16"

	"aesthetic.computer/isofs/base"
	"aesthetic.computer/isofs/fault"
)

// Fields of a GPT header and of its entries (UEFI specification 2.10, sections
// 5.3.2 and 5.3.3), in bytes.
const (
	sector = 512

	headerSize    = 92
	headerCRC     = 16
	headerOwn     = 24 // LBA of this header
	headerOther   = 32 // LBA of the other
	headerEntries = 72
	headerCount   = 80
	headerEach    = 84
	entriesCRC    = 88

	entrySize  = 128
	entryFirst = 32
	entryLast  = 40
	entryName  = 56
	maxEntries = 1024
)

// A table is a GPT as it is written: package base reads those of whole images
// and refuses all else, while that of a stick may have been moved to its end.
type table struct {
	header  []byte
	entries []byte
}

func (t *table) field(off int) int64 { return int64(binary.LittleEndian.Uint64(t.header[off:])) }

// readTable reads the table whose header is in sector lba, and checks its sums.
func readTable(r io.ReaderAt, lba int64) (*table, error) {
	t := &table{header: make([]byte, headerSize)}
	if err := readAt(r, t.header, lba*sector); err != nil {
		return nil, err
	}
	if string(t.header[:8]) != "EFI PART" || t.field(headerOwn) != lba {
		return nil, fmt.Errorf("there is no partition table (GPT) in sector %d: %w", lba, fault.Invalid)
	}
	count, each := binary.LittleEndian.Uint32(t.header[headerCount:]), binary.LittleEndian.Uint32(t.header[headerEach:])
	if said := binary.LittleEndian.Uint32(t.header[headerCRC:]); said != sumOfHeader(t.header) || count > maxEntries || each != entrySize {
		return nil, fmt.Errorf("the partition table in sector %d is damaged: %w", lba, fault.Corrupt)
	}
	at := t.field(headerEntries)
	if at < 2 || at > base.MaxImageSize {
		return nil, fmt.Errorf("the partition table in sector %d says that its entries are in sector %d: %w", lba, at, fault.Corrupt)
	}
	t.entries = make([]byte, count*entrySize)
	if err := readAt(r, t.entries, at*sector); err != nil {
		return nil, err
	}
	if crc32.ChecksumIEEE(t.entries) != binary.LittleEndian.Uint32(t.header[entriesCRC:]) {
		return nil, fmt.Errorf("the entries of the partition table in sector %d are damaged: %w", lba, fault.Corrupt)
	}
	return t, nil
}

func sumOfHeader(header []byte) uint32 {
	h := bytes.Clone(header)
	clear(h[headerCRC:][:4])
	return crc32.ChecksumIEEE(h)
}

// tailReader shows a manifest's tail where it lies in the image.
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
func tableOf(m *base.Manifest) (*table, error) {
	last := m.TotalSize/sector - 1
	t, err := readTable(tailReader{m}, last)
	if err != nil {
		return nil, fmt.Errorf("find the partition table of base %s: %w", m.SHA256, err)
	}
	binary.LittleEndian.PutUint64(t.header[headerOwn:], 1)
	binary.LittleEndian.PutUint64(t.header[headerOther:], uint64(last))
	binary.LittleEndian.PutUint64(t.header[headerEntries:], 2)
	binary.LittleEndian.PutUint32(t.header[headerCRC:], sumOfHeader(t.header))
	return t, nil
}

// A partition is an entry that is used.
type partition struct {
	number   int // from 1
	name     string
	off, end int64
	entry    []byte
}

func (p partition) String() string {
	if p.name == "" {
		return fmt.Sprintf("partition %d", p.number)
	}
	return fmt.Sprintf("partition %d (%s)", p.number, p.name)
}

func (t *table) partitions() []partition {
	var list []partition
	for i := range len(t.entries) / entrySize {
		e := t.entries[i*entrySize:][:entrySize]
		if [16]byte(e) == [16]byte{} {
			continue
		}
		p := partition{number: i + 1, entry: e}
		p.off = int64(binary.LittleEndian.Uint64(e[entryFirst:])) * sector
		p.end = (int64(binary.LittleEndian.Uint64(e[entryLast:])) + 1) * sector
		var name []uint16
		for at := entryName; at < entrySize; at += 2 {
			if unit := binary.LittleEndian.Uint16(e[at:]); unit != 0 {
				name = append(name, unit)
			}
		}
		p.name = string(utf16.Decode(name))
		list = append(list, p)
	}
	return list
}

// samePlace reports whether two partitions are of one kind and have the same
// bytes. Their names, numbers (GUIDs) and flags nothing goes by that boots: it
// finds file systems by their labels.
func (p partition) samePlace(of partition) bool {
	return bytes.Equal(p.entry[:16], of.entry[:16]) && p.off == of.off && p.end == of.end
}

// compare tells what partitions of a base the table has not as they are there,
// and which others it has.
func (t *table) compare(of *table) (missing, more []partition) {
	has := map[int]partition{}
	for _, p := range t.partitions() {
		has[p.number] = p
	}
	for _, want := range of.partitions() {
		if got, ok := has[want.number]; !ok || !got.samePlace(want) {
			missing = append(missing, want)
		}
		delete(has, want.number)
	}
	for _, p := range t.partitions() {
		if _, ok := has[p.number]; ok {
			more = append(more, p)
		}
	}
	return missing, more
}

func (t *table) equal(other *table) bool {
	return bytes.Equal(t.header, other.header) && bytes.Equal(t.entries, other.entries)
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

// withTablesOf are the tables that images of the base have.
func withTablesOf(m *base.Manifest, t *table) []overlaid {
	return []overlaid{
		// The rest of a header's sector is reserved, and zero.
		{sector, append(bytes.Clone(t.header), make([]byte, sector-headerSize)...)},
		{2 * sector, t.entries},
		{m.SlotEnd(), m.Tail},
	}
}

// Fields of the MBR (UEFI specification 2.10, section 5.2.1), in bytes.
const (
	mbrSignature = 440 // of the disk, and two bytes that nobody uses
	mbrEntry     = 446
	mbrActive    = 0x80
)

// masterRecords are what the MBR of a base of that many sectors may have been,
// whatever it is now; the first of them is that nobody changed it. Tools write
// the size of the disk and cylinders into its entry, the flag that old BIOSes
// want, and Windows a signature of its own. The manifest has no more of it
// than the hash of its block.
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

// protective is the one entry of the MBR before a GPT of a disk of that many
// sectors, as the UEFI specification has it (5.2.3).
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

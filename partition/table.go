package partition

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
	"slices"
	"unicode/utf16"

	"aesthetic.computer/isofs/fault"
)

// Fields of a GPT header and of its entries (UEFI specification 2.10, sections
// 5.3.2 and 5.3.3), in bytes.
const (
	signature = "EFI PART"
	// revision 1.0, a header of 92 bytes.
	revisionAndSize = "\x00\x00\x01\x00\x5c\x00\x00\x00"

	headerSize       = 92
	headerRevision   = 8
	headerCRC        = 16
	headerReserved   = 20
	headerOwn        = 24 // LBA of this header
	headerOther      = 32 // LBA of the other
	headerLastUsable = 48
	headerEntries    = 72
	headerCount      = 80
	headerEach       = 84
	headerEntriesCRC = 88

	entrySize  = 128
	entryFirst = 32
	entryLast  = 40
	entryName  = 56

	maxEntries = 4096
	maxLBA     = 1 << 40
)

// espType is the type GUID of an EFI system partition,
// C12A7328-F81F-11D2-BA4B-00A0C93EC93B, in the byte order of the disk.
const espType = "\x28\x73\x2a\xc1\x1f\xf8\xd2\x11\xba\x4b\x00\xa0\xc9\x3e\xc9\x3b"

// A Table is one of the two partition tables of a disk, as written there. Its
// checksums are right. It may differ from the other table, and its partitions
// may be impossible: see List.
type Table struct {
	header  []byte
	entries []byte
}

func (t *Table) field(off int) int64 { return int64(binary.LittleEndian.Uint64(t.header[off:])) }

// ReadTable reads the table whose header is in sector lba. It is fault.Invalid
// if there is no table, and fault.Corrupt if the table is damaged.
func ReadTable(r io.ReaderAt, lba int64) (*Table, error) {
	t := &Table{header: make([]byte, headerSize)}
	if err := ReadFull(r, t.header, lba*SectorSize); err != nil {
		return nil, err
	}
	if string(t.header[:len(signature)]) != signature {
		return nil, fmt.Errorf("there is no partition table (GPT) in sector %d: %w", lba, fault.Invalid)
	}
	// Checked before they decide about memory.
	count, each := binary.LittleEndian.Uint32(t.header[headerCount:]), binary.LittleEndian.Uint32(t.header[headerEach:])
	if count == 0 || count > maxEntries || each != entrySize {
		return nil, fmt.Errorf("the partition table in sector %d is damaged: it claims %d entries of %d bytes, wanted 1..%d of %d: %w",
			lba, count, each, maxEntries, entrySize, fault.Corrupt)
	}
	if binary.LittleEndian.Uint32(t.header[headerCRC:]) != sumOfHeader(t.header) || t.field(headerOwn) != lba ||
		string(t.header[headerRevision:headerCRC]) != revisionAndSize || binary.LittleEndian.Uint32(t.header[headerReserved:]) != 0 {
		return nil, fmt.Errorf("the partition table in sector %d is damaged: %w", lba, fault.Corrupt)
	}
	at := t.field(headerEntries)
	if at < 2 || at > maxLBA {
		return nil, fmt.Errorf("the partition table in sector %d says that its entries are in sector %d: %w", lba, at, fault.Corrupt)
	}
	t.entries = make([]byte, count*entrySize)
	if err := ReadFull(r, t.entries, at*SectorSize); err != nil {
		return nil, err
	}
	if crc32.ChecksumIEEE(t.entries) != binary.LittleEndian.Uint32(t.header[headerEntriesCRC:]) {
		return nil, fmt.Errorf("the entries of the partition table in sector %d are damaged: %w", lba, fault.Corrupt)
	}
	return t, nil
}

func sumOfHeader(header []byte) uint32 {
	h := bytes.Clone(header)
	clear(h[headerCRC:][:4])
	return crc32.ChecksumIEEE(h)
}

// First returns the table for the start of a disk with t, the backup, at its
// end. Its entries are in sector 2, where isofs writes them.
func (t *Table) First() *Table {
	h := bytes.Clone(t.header)
	binary.LittleEndian.PutUint64(h[headerOwn:], 1)
	binary.LittleEndian.PutUint64(h[headerOther:], uint64(t.field(headerOwn)))
	binary.LittleEndian.PutUint64(h[headerEntries:], 2)
	binary.LittleEndian.PutUint32(h[headerCRC:], sumOfHeader(h))
	return &Table{header: h, entries: t.entries}
}

// HeaderSector returns the sector of the header. The bytes behind the header
// are reserved, and zero.
func (t *Table) HeaderSector() []byte {
	return append(bytes.Clone(t.header), make([]byte, SectorSize-headerSize)...)
}

// Entries returns the bytes of all entries. The caller must not change them.
func (t *Table) Entries() []byte { return t.entries }

// Equal reports whether two tables have the same bytes.
func (t *Table) Equal(other *Table) bool {
	return bytes.Equal(t.header, other.header) && bytes.Equal(t.entries, other.entries)
}

// agrees reports whether t and the table at the other end of the disk are equal
// except for their places.
func (t *Table) agrees(other *Table) bool {
	a, b := bytes.Clone(t.header), bytes.Clone(other.header)
	for _, h := range [][]byte{a, b} {
		clear(h[headerCRC:][:4])
		clear(h[headerOwn : headerOther+8])
		clear(h[headerEntries:][:8])
		clear(h[headerEntriesCRC:][:4]) // unused entries may differ
	}
	return bytes.Equal(a, b) && t.field(headerOwn) == other.field(headerOther) && t.field(headerOther) == other.field(headerOwn) &&
		slices.EqualFunc(t.Partitions(), other.Partitions(), func(p, q Partition) bool {
			return p.Number == q.Number && bytes.Equal(p.entry, q.entry)
		})
}

// A Partition is an entry of a partition table.
type Partition struct {
	Number int    // from 1
	Name   string // of the entry
	Label  string // of the ext4 in it, "" without one; only List reads it
	Span

	entry []byte
}

// String returns the number, and the name if there is one.
func (p Partition) String() string {
	if p.Name == "" {
		return fmt.Sprintf("partition %d", p.Number)
	}
	return fmt.Sprintf("partition %d (%s)", p.Number, p.Name)
}

// IsESP reports whether it is an EFI system partition.
func (p Partition) IsESP() bool { return string(p.entry[:len(espType)]) == espType }

// sectors returns the first and the last sector in the entry.
func (p Partition) sectors() (first, last uint64) {
	return binary.LittleEndian.Uint64(p.entry[entryFirst:]), binary.LittleEndian.Uint64(p.entry[entryLast:])
}

// Partitions returns the used entries, in the order of the table.
func (t *Table) Partitions() []Partition {
	var list []Partition
	for i := range len(t.entries) / entrySize {
		e := t.entries[i*entrySize:][:entrySize]
		if [16]byte(e) == [16]byte{} {
			continue
		}
		p := Partition{Number: i + 1, Name: nameOf(e), entry: e}
		first, last := p.sectors()
		p.Span = Span{int64(first) * SectorSize, int64(last-first+1) * SectorSize}
		list = append(list, p)
	}
	return list
}

// nameOf is an entry's name, which ends with the first zero.
func nameOf(entry []byte) string {
	var name []uint16
	for at := entryName; at < entrySize; at += 2 {
		unit := binary.LittleEndian.Uint16(entry[at:])
		if unit == 0 {
			break
		}
		name = append(name, unit)
	}
	return string(utf16.Decode(name))
}

// samePlace reports whether two partitions have the same kind and the same
// bytes. Their names, GUIDs and flags do not count: a booting machine finds
// file systems by their labels.
func (p Partition) samePlace(of Partition) bool {
	return bytes.Equal(p.entry[:16], of.entry[:16]) && p.Span == of.Span
}

// Compare returns the partitions of another table that t lacks or has
// differently, and the additional ones of t.
func (t *Table) Compare(of *Table) (missing, more []Partition) {
	has := map[int]Partition{}
	for _, p := range t.Partitions() {
		has[p.Number] = p
	}
	for _, want := range of.Partitions() {
		if got, ok := has[want.Number]; !ok || !got.samePlace(want) {
			missing = append(missing, want)
		}
		delete(has, want.Number)
	}
	for _, p := range t.Partitions() {
		if _, ok := has[p.Number]; ok {
			more = append(more, p)
		}
	}
	return missing, more
}

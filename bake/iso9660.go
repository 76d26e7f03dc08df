package bake

import (
	"encoding/binary"
	"fmt"
	"regexp"
	"strings"
	"time"

	"aesthetic.computer/isofs/fault"
)

// An isoVolume is the ISO 9660 file system in the room before the first
// partition, which makes the disk a CD-ROM as well (ECMA-119; El Torito 1.0).
// It has four folders and three files. It claims the length of the whole disk:
// firmware that finds no length for the EFI boot image reads up to the end.
type isoVolume struct {
	volume string    // its name
	time   time.Time // of all files
	total  int64     // bytes of the whole image
	core   []byte    // GRUB for BIOS, as grub-mkimage makes it for a CD-ROM
	stub   []byte    // the configuration that GRUB reads there
}

// Sectors of 2048 bytes, with their contents. Before them is the system area,
// with the MBR and the GPT.
const (
	isoSector     = 2048
	isoPrimary    = 16 // volume descriptors
	isoBootRecord = 17
	isoTerminator = 18
	isoPathsLE    = 19
	isoPathsBE    = 20
	isoCatalog    = 21 // the list of boot images
	isoRoot       = 22 // folders, a sector each
	isoBoot       = 23
	isoEFI        = 24
	isoEFIDebian  = 25
	isoStub       = 26
	isoCore       = 27 // to the end
)

// Offsets in GRUB's images of the sector, of 512 bytes, where the rest begins.
// The first 2048 bytes are the CD-ROM's own start. The disk's start is in the
// MBR, and continues behind those.
const (
	mbrCodeSize  = 440
	mbrNextBlock = 0x1b0
	coreInfo     = 8                // the boot information table
	coreNext     = isoSector + 500  // in GRUB's first block, which loads the others
	coreMinSize  = isoSector + 2048 // far below any real size
)

// volumeName matches the names that ECMA-119 allows.
var volumeName = regexp.MustCompile(`^[A-Z0-9_]{1,32}$`)

// check refuses parts that do not fit.
func (s *isoVolume) check() error {
	if !volumeName.MatchString(s.volume) {
		return fmt.Errorf("volume name %.60q is not 1 to 32 of A-Z, 0-9 and _: %w", s.volume, fault.Invalid)
	}
	if s.total%isoSector != 0 {
		return fmt.Errorf("an image of %d bytes is not made of sectors of %d: %w", s.total, isoSector, fault.Invalid)
	}
	if len(s.stub) > isoSector {
		return fmt.Errorf("GRUB's first configuration has %d bytes, at most %d fit: %w", len(s.stub), isoSector, fault.Invalid)
	}
	if n, room := len(s.core), espStart-isoCore*isoSector; n < coreMinSize || n > room {
		return fmt.Errorf("GRUB for BIOS has %d bytes, not %d to %d, as much as fits before the first partition; embed other modules: %w", n, coreMinSize, room, fault.Invalid)
	}
	return nil
}

// bytes returns all from sector isoPrimary on.
func (s *isoVolume) bytes() ([]byte, error) {
	if err := s.check(); err != nil {
		return nil, err
	}
	core := s.bootableCore()
	files := []isoEntry{
		{name: "BOOT.CAT;1", sector: isoCatalog, size: isoSector},
		{name: "ELTORITO.IMG;1", sector: isoCore, size: len(core)},
	}
	out := make([]byte, isoCore*isoSector+len(core))
	at := func(sector int) []byte { return out[sector*isoSector:][:isoSector] }
	s.describe(at(isoPrimary))
	copy(at(isoBootRecord), "\x00CD001\x01EL TORITO SPECIFICATION")
	binary.LittleEndian.PutUint32(at(isoBootRecord)[71:], isoCatalog)
	copy(at(isoTerminator), "\xffCD001\x01")
	copy(at(isoPathsLE), pathTable(binary.LittleEndian))
	copy(at(isoPathsBE), pathTable(binary.BigEndian))
	bootCatalog(at(isoCatalog))
	copy(at(isoRoot), s.folder(isoRoot, isoRoot, isoFolder("BOOT", isoBoot), isoFolder("EFI", isoEFI)))
	copy(at(isoBoot), s.folder(isoBoot, isoRoot, files...))
	copy(at(isoEFI), s.folder(isoEFI, isoRoot, isoFolder("DEBIAN", isoEFIDebian)))
	copy(at(isoEFIDebian), s.folder(isoEFIDebian, isoEFI, isoEntry{name: "GRUB.CFG;1", sector: isoStub, size: len(s.stub)}))
	copy(at(isoStub), s.stub)
	copy(out[isoCore*isoSector:], core)
	return out[isoPrimary*isoSector:], nil
}

// describe writes the primary volume descriptor (ECMA-119, section 8.4).
func (s *isoVolume) describe(p []byte) {
	copy(p, "\x01CD001\x01")
	for _, text := range []struct{ off, n int }{{8, 64}, {190, 623}} {
		copy(p[text.off:], strings.Repeat(" ", text.n))
	}
	copy(p[40:], s.volume)
	putBoth32(p[80:], uint32(s.total/isoSector))
	putBoth16(p[120:], 1) // one volume, and it is the first
	putBoth16(p[124:], 1)
	putBoth16(p[128:], isoSector)
	putBoth32(p[132:], uint32(len(pathTable(binary.LittleEndian))))
	binary.LittleEndian.PutUint32(p[140:], isoPathsLE)
	binary.BigEndian.PutUint32(p[148:], isoPathsBE)
	copy(p[156:], s.record(isoFolder("\x00", isoRoot)))
	now := s.time.Format("20060102150405") + "00\x00"
	never := strings.Repeat("0", 16) + "\x00"
	copy(p[813:], now+now+never+now)
	p[881] = 1
}

// An isoEntry is an entry of a folder: a file or a folder.
type isoEntry struct {
	name   string
	sector int
	size   int
	folder bool
}

func isoFolder(name string, sector int) isoEntry {
	return isoEntry{name: name, sector: sector, size: isoSector, folder: true}
}

// folder lists the entries, which are sorted by name, behind the folder itself
// and its parent.
func (s *isoVolume) folder(self, parent int, entries ...isoEntry) (list []byte) {
	for _, e := range append([]isoEntry{isoFolder("\x00", self), isoFolder("\x01", parent)}, entries...) {
		list = append(list, s.record(e)...)
	}
	return list
}

// record is a directory record (ECMA-119, section 9.1).
func (s *isoVolume) record(e isoEntry) []byte {
	r := make([]byte, (33+len(e.name)+1)&^1)
	r[0] = byte(len(r))
	putBoth32(r[2:], uint32(e.sector))
	putBoth32(r[10:], uint32(e.size))
	t := s.time
	copy(r[18:], []byte{byte(t.Year() - 1900), byte(t.Month()), byte(t.Day()), byte(t.Hour()), byte(t.Minute()), byte(t.Second()), 0})
	if e.folder {
		r[25] = 2
	}
	putBoth16(r[28:], 1)
	r[32] = byte(len(e.name))
	copy(r[33:], e.name)
	return r
}

// pathTable lists all folders again, each with the number of its parent.
func pathTable(order binary.ByteOrder) (table []byte) {
	for _, d := range []struct {
		name   string
		sector uint32
		parent uint16
	}{{"\x00", isoRoot, 1}, {"BOOT", isoBoot, 1}, {"EFI", isoEFI, 1}, {"DEBIAN", isoEFIDebian, 3}} {
		r := make([]byte, (8+len(d.name)+1)&^1)
		r[0] = byte(len(d.name))
		order.PutUint32(r[2:], d.sector)
		order.PutUint16(r[6:], d.parent)
		copy(r[8:], d.name)
		table = append(table, r...)
	}
	return table
}

// bootCatalog writes the list of boot images: GRUB for BIOS, and the EFI system
// partition for UEFI. The partition's length does not fit into 16 bits. Zero
// means all to the end of the CD-ROM (UEFI specification 2.10, section
// 13.3.2.1).
func bootCatalog(p []byte) {
	const (
		bootable, efi, lastSection = 0x88, 0xef, 0x91
		signature                  = 0xaa55
	)
	le := binary.LittleEndian
	p[0] = 1
	le.PutUint16(p[28:], 1<<16-1-signature) // the entry's words add up to zero
	le.PutUint16(p[30:], signature)
	p[32] = bootable
	le.PutUint16(p[38:], 4) // BIOS loads 2048 bytes, and these load the rest
	le.PutUint32(p[40:], isoCore)
	p[64], p[65] = lastSection, efi
	le.PutUint16(p[66:], 1)
	p[96] = bootable
	le.PutUint32(p[104:], espStart/isoSector)
}

// bootableCore is the core with its own place filled in.
func (s *isoVolume) bootableCore() []byte {
	// Whole words, for the sum.
	core := append([]byte(nil), s.core...)
	core = append(core, make([]byte, -len(core)&3)...)
	le := binary.LittleEndian
	le.PutUint64(core[coreNext:], isoCore*(isoSector/sectorSize)+isoSector/sectorSize+1)
	info := core[coreInfo:][:56]
	clear(info)
	le.PutUint32(info[0:], isoPrimary)
	le.PutUint32(info[4:], isoCore)
	le.PutUint32(info[8:], uint32(len(core)))
	var sum uint32
	for i := coreInfo + len(info); i < len(core); i += 4 {
		sum += le.Uint32(core[i:])
	}
	le.PutUint32(info[12:], sum)
	return core
}

// masterBoot is the code with which BIOS starts the image as a disk: GRUB's
// own, with the place of the rest filled in.
func masterBoot(image []byte) ([]byte, error) {
	if len(image) != sectorSize {
		return nil, fmt.Errorf("GRUB's boot sector has %d bytes, not %d: %w", len(image), sectorSize, fault.Invalid)
	}
	code := append([]byte(nil), image[:mbrCodeSize]...)
	binary.LittleEndian.PutUint64(code[mbrNextBlock:], isoCore*(isoSector/sectorSize)+isoSector/sectorSize)
	return code, nil
}

// Numbers that are written in both byte orders.
func putBoth32(p []byte, n uint32) {
	binary.LittleEndian.PutUint32(p, n)
	binary.BigEndian.PutUint32(p[4:], n)
}

func putBoth16(p []byte, n uint16) {
	binary.LittleEndian.PutUint16(p, n)
	binary.BigEndian.PutUint16(p[2:], n)
}

package partition

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/bits"
	"strings"

	"github.com/diskfs/go-diskfs/filesystem/fat32"
)

// Fields of a FAT32 boot sector (Microsoft's FAT specification 1.03, "Boot
// Sector and BPB"). They are checked before go-diskfs allocates by them.
const (
	fatBytesPerSector    = 11
	fatSectorsPerCluster = 13
	fatReserved          = 14
	fatCopies            = 16
	fatSectors           = 36
	fatHeaderBytes       = 64
	maxFATBytes          = 16 << 20 // 4 Mi clusters
)

// openFAT opens the FAT32 at esp. It first checks the few fields on which
// go-diskfs would allocate without bound or hang.
func openFAT(d *disk, esp Span) (fs *fat32.FileSystem, err error) {
	defer recovered(&err)
	h := make([]byte, fatHeaderBytes)
	if err := ReadFull(d, h, esp.Offset); err != nil {
		return nil, err
	}
	g, err := readFATShape(h, esp)
	if err != nil {
		return nil, err
	}
	fat := make([]byte, g.bytes)
	if err := ReadFull(d, fat, esp.Offset+g.reserved); err != nil {
		return nil, err
	}
	if err := checkChains(fat); err != nil {
		return nil, err
	}
	return fat32.Read(d, esp.Size, esp.Offset, SectorSize)
}

// A fatShape is the place of the first of the two FATs in its partition.
type fatShape struct{ reserved, bytes int64 }

// readFATShape reads it from the first bytes of a partition.
func readFATShape(h []byte, part Span) (fatShape, error) {
	g := fatShape{
		reserved: int64(binary.LittleEndian.Uint16(h[fatReserved:])) * SectorSize,
		bytes:    int64(binary.LittleEndian.Uint32(h[fatSectors:])) * SectorSize,
	}
	if binary.LittleEndian.Uint16(h[fatBytesPerSector:]) != SectorSize || h[fatCopies] != 2 ||
		g.bytes == 0 || g.bytes > maxFATBytes || g.reserved+2*g.bytes > part.Size {
		return fatShape{}, errors.New("no FAT32 with 512-byte sectors and two FATs")
	}
	return g, nil
}

// checkChains refuses a FAT with a chain that runs in a circle.
func checkChains(fat []byte) error {
	const unseen, onPath, done = 0, 1, 2
	state := make([]byte, len(fat)/4)
	for start := 2; start < len(state); start++ {
		c := start
		for c >= 2 && c < len(state) && state[c] == unseen {
			state[c] = onPath
			c = int(binary.LittleEndian.Uint32(fat[4*c:]))
		}
		if c >= 2 && c < len(state) && state[c] == onPath {
			return fmt.Errorf("the FAT is damaged: the chain through cluster %d is a circle", c)
		}
		for c = start; c >= 2 && c < len(state) && state[c] == onPath; {
			state[c] = done
			c = int(binary.LittleEndian.Uint32(fat[4*c:]))
		}
	}
	return nil
}

// FATLabel returns the label of the FAT32 in a partition of an image of size
// bytes, or "" if there is no FAT32.
func (p Partition) FATLabel(r io.ReaderAt, size int64) string {
	volume, err := openFAT(&disk{r: r, size: size}, p.Span)
	if err != nil {
		return ""
	}
	return strings.TrimSpace(volume.Label())
}

// freeOfFAT returns the clusters of the FAT32 at part that belong to no file.
func freeOfFAT(r io.ReaderAt, part Span) ([]Span, error) {
	h := make([]byte, fatHeaderBytes)
	if err := ReadFull(r, h, part.Offset); err != nil {
		return nil, err
	}
	g, err := readFATShape(h, part)
	cluster := int64(h[fatSectorsPerCluster]) * SectorSize
	if err != nil || bits.OnesCount8(h[fatSectorsPerCluster]) != 1 {
		return nil, errors.Join(err, errors.New("no FAT32"))
	}
	fat := make([]byte, g.bytes)
	if err := ReadFull(r, fat, part.Offset+g.reserved); err != nil {
		return nil, err
	}
	var free []Span
	data := part.Offset + g.reserved + 2*g.bytes
	for c := int64(2); c < g.bytes/4 && data+(c-1)*cluster <= part.End(); c++ {
		// The upper four bits are reserved.
		if binary.LittleEndian.Uint32(fat[4*c:])&0x0FFFFFFF == 0 {
			free = appendSpan(free, Span{data + (c-2)*cluster, cluster})
		}
	}
	return free, nil
}

// recovered turns a panic of the FAT reader into an error. The reader uses
// values from the disk as indices, and damage in an ESP must not end the
// program.
func recovered(err *error) {
	if p := recover(); p != nil {
		*err = fmt.Errorf("the FAT is damaged: %v", p)
	}
}

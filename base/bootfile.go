package base

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/diskfs/go-diskfs/filesystem/fat12"
	"github.com/diskfs/go-diskfs/filesystem/fat32"
)

// bootPaths are the places in the ESP where bases keep kernel and initrd; the
// first that exists counts.
var bootPaths = []struct {
	name  string
	paths []string
}{
	{"kernel", []string{"/boot/vmlinuz", "/loader/linux", "/images/pxeboot/vmlinuz"}},
	{"initrd", []string{"/boot/initrd.img", "/loader/initrd", "/images/pxeboot/initrd.img"}},
}

// Fields of a FAT32 boot sector (Microsoft's FAT specification 1.03, "Boot
// Sector and BPB") that are looked at before go-diskfs allocates by them.
const (
	fatBytesPerSector = 11
	fatReserved       = 14
	fatCopies         = 16
	fatSectors        = 36
	fatHeaderBytes    = 64
	maxFATBytes       = 16 << 20 // 4 Mi clusters
)

// findBootFiles looks for kernel and initrd in the ESPs. What is there but
// cannot be used is told to omitted; nothing of this fails an index, as a base
// without boot files is only missing network boot. Hashes are left zero.
func findBootFiles(r io.ReaderAt, size int64, esps []span, omitted func(path, reason string)) []BootFile {
	var found []BootFile
	for i, esp := range esps {
		fs, err := openFAT(&disk{r: r, size: size}, esp)
		if err != nil {
			omitted(fmt.Sprintf("EFI system partition %d", i+1), err.Error())
			continue
		}
		for _, want := range bootPaths {
			if (&Manifest{BootFiles: found}).hasBootFile(want.name) {
				continue
			}
			for _, path := range want.paths {
				s, ok, err := locate(fs, esp, path)
				if err != nil {
					omitted(path, err.Error())
				} else if ok {
					found = append(found, BootFile{Name: want.name, Path: path, Offset: s.off, Length: s.size})
					break
				}
			}
		}
	}
	return found
}

func (m *Manifest) hasBootFile(name string) bool { _, ok := m.BootFile(name); return ok }

// openFAT opens the FAT32 at esp, after checking the few things on which
// go-diskfs would allocate without bound or never come back.
func openFAT(d *disk, esp span) (fs *fat32.FileSystem, err error) {
	defer recovered(&err)
	h := make([]byte, fatHeaderBytes)
	if err := readFull(d, h, esp.off); err != nil {
		return nil, err
	}
	g, err := readFATShape(h, esp)
	if err != nil {
		return nil, err
	}
	fat := make([]byte, g.bytes)
	if err := readFull(d, fat, esp.off+g.reserved); err != nil {
		return nil, err
	}
	if err := checkChains(fat); err != nil {
		return nil, err
	}
	return fat32.Read(d, esp.size, esp.off, sectorSize)
}

// A fatShape is where in its partition the first of the two FATs lies.
type fatShape struct{ reserved, bytes int64 }

// readFATShape takes it from the first bytes of a partition.
func readFATShape(h []byte, part span) (fatShape, error) {
	g := fatShape{
		reserved: int64(binary.LittleEndian.Uint16(h[fatReserved:])) * sectorSize,
		bytes:    int64(binary.LittleEndian.Uint32(h[fatSectors:])) * sectorSize,
	}
	if binary.LittleEndian.Uint16(h[fatBytesPerSector:]) != sectorSize || h[fatCopies] != 2 ||
		g.bytes == 0 || g.bytes > maxFATBytes || g.reserved+2*g.bytes > part.size {
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

// locate returns where in the image the file at path lies; ok is false if
// there is no such file.
func locate(fs *fat32.FileSystem, esp span, path string) (s span, ok bool, err error) {
	defer recovered(&err)
	f, err := fs.Open(path)
	if err != nil {
		return span{}, false, nil
	}
	file, isFile := f.(*fat12.File)
	info, err := f.Stat()
	if err != nil || !isFile || info.IsDir() || info.Size() == 0 {
		return span{}, false, errors.New("no regular file with content")
	}
	// Offsets are relative to the partition; lengths are whole clusters.
	ranges, err := file.GetDiskRanges()
	if err != nil {
		return span{}, false, err
	}
	if int64(ranges[0].Length) < info.Size() {
		return span{}, false, fmt.Errorf("not contiguous: in %d fragments", len(ranges))
	}
	s = span{esp.off + int64(ranges[0].Offset), info.Size()}
	if s.off < esp.off || s.end() > esp.end() {
		return span{}, false, fmt.Errorf("lies at [%d, %d), outside its partition", s.off, s.end())
	}
	return s, true, nil
}

// recovered turns a panic of the FAT reader, which indexes by what it reads,
// into an error: damage in an ESP must not end the program.
func recovered(err *error) {
	if p := recover(); p != nil {
		*err = fmt.Errorf("the FAT is damaged: %v", p)
	}
}

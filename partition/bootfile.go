package partition

import (
	"errors"
	"fmt"
	"io"
	"slices"

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

// A BootFile is a kernel or initrd that lies contiguously in an ESP.
type BootFile struct {
	Name string // "kernel" or "initrd"
	Path string // in the ESP, "/boot/vmlinuz"
	Span        // in the image
}

// BootFiles looks for kernel and initrd in the ESPs of an image of size bytes.
// It calls omitted for files that it finds but cannot use. It returns no error:
// a base without boot files lacks only network boot.
func BootFiles(r io.ReaderAt, size int64, esps []Span, omitted func(path, reason string)) []BootFile {
	var found []BootFile
	for i, esp := range esps {
		fs, err := openFAT(&disk{r: r, size: size}, esp)
		if err != nil {
			omitted(fmt.Sprintf("EFI system partition %d", i+1), err.Error())
			continue
		}
		for _, want := range bootPaths {
			if slices.ContainsFunc(found, func(f BootFile) bool { return f.Name == want.name }) {
				continue
			}
			if path, at, ok := locateFirst(fs, esp, want.paths, omitted); ok {
				found = append(found, BootFile{want.name, path, at})
			}
		}
	}
	return found
}

// locateFirst returns the first path that exists, and its place.
func locateFirst(fs *fat32.FileSystem, esp Span, paths []string, omitted func(path, reason string)) (path string, s Span, ok bool) {
	for _, path := range paths {
		s, ok, err := locate(fs, esp, path)
		if err != nil {
			omitted(path, err.Error())
		} else if ok {
			return path, s, true
		}
	}
	return "", Span{}, false
}

// locate returns the place in the image of the file at path. ok is false if
// there is no such file.
func locate(fs *fat32.FileSystem, esp Span, path string) (s Span, ok bool, err error) {
	defer recovered(&err)
	f, err := fs.Open(path)
	if err != nil {
		return Span{}, false, nil
	}
	file, isFile := f.(*fat12.File)
	info, err := f.Stat()
	if err != nil || !isFile || info.IsDir() || info.Size() == 0 {
		return Span{}, false, errors.New("no regular file with content")
	}
	// Offsets are relative to the partition; lengths are whole clusters.
	ranges, err := file.GetDiskRanges()
	if err != nil {
		return Span{}, false, err
	}
	if int64(ranges[0].Length) < info.Size() {
		return Span{}, false, fmt.Errorf("not contiguous: in %d fragments", len(ranges))
	}
	s = Span{esp.Offset + int64(ranges[0].Offset), info.Size()}
	if s.Offset < esp.Offset || s.End() > esp.End() {
		return Span{}, false, fmt.Errorf("lies at [%d, %d), outside its partition", s.Offset, s.End())
	}
	return s, true, nil
}

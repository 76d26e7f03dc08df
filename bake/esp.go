package bake

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"aesthetic.computer/isofs/fault"
)

// The ESP's identity and geometry. A FAT32 needs 65,525 clusters, so a cluster
// of so small a partition has one sector.
const (
	espLabel   = "BOOT"
	espMinSize = 34 << 20
	espReserve = 4 << 20 // FATs and directories
)

// An espFile is a file of the ESP with its source.
type espFile struct {
	path   string // in the ESP
	source string // a pattern that one file matches; "": data
	data   []byte
}

// esp writes the EFI system partition and returns its path. It adds files one
// by one in a fixed order to an empty FAT. So each is contiguous, and the bytes
// do not depend on the order in which this machine lists a folder.
func (h *hybrid) esp(ctx context.Context, run *runner, scratch string) (path string, err error) {
	files := slices.Concat(h.bootChain(), []espFile{{path: h.folder() + "/grub.cfg", data: h.config}}, h.files)
	size := int64(espReserve)
	staged := make([]string, len(files))
	for i, f := range files {
		var n int64
		if staged[i], n, err = h.stage(scratch, f); err != nil {
			return "", err
		}
		size += n
	}
	path = filepath.Join(scratch, "esp.img")
	if err := sparseFile(path, roundUp(max(size, espMinSize), partitionAlign)); err != nil {
		return "", err
	}
	// --invariant must come before -i, as it sets the volume id too.
	if _, err := run.output(ctx, scratch, "mkfs.vfat", "--invariant", "-i", fmt.Sprintf("%08x", h.id.fatID()), "-n", espLabel,
		"-F", "32", "-s", "1", "-S", "512", "-R", "32", "-f", "2", "-h", fmt.Sprint(espStart/sectorSize), path); err != nil {
		return "", err
	}
	if _, err := run.output(ctx, scratch, "mmd", append([]string{"-i", path}, espFolders(files)...)...); err != nil {
		return "", err
	}
	for i, f := range files {
		if _, err := run.output(ctx, scratch, "mcopy", "-m", "-i", path, staged[i], "::"+f.path); err != nil {
			return "", fmt.Errorf("copy %s: %w", f.path, err)
		}
	}
	return path, nil
}

// bootChain has the files that the firmware starts.
func (h *hybrid) bootChain() []espFile {
	if h.chain != nil {
		return h.chain
	}
	return []espFile{
		{path: "/EFI/BOOT/BOOTX64.EFI", source: h.root + "/usr/lib/shim/shimx64.efi.signed"},
		// grubx64 looks for its configuration on the disk that it came from.
		// gcdx64 would take it from any disk with a certain file.
		{path: "/EFI/BOOT/grubx64.efi", source: h.root + "/usr/lib/grub/x86_64-efi-signed/grubx64.efi.signed"},
	}
}

// espFolders lists the folders of the files in mmd's order: each behind its
// parent.
func espFolders(files []espFile) (folders []string) {
	for _, f := range files {
		for i, c := range f.path {
			if folder := "::" + f.path[:i]; c == '/' && i > 0 && !slices.Contains(folders, folder) {
				folders = append(folders, folder)
			}
		}
	}
	return folders
}

// stage puts f into the scratch directory with the image's time, and returns
// its path and size.
func (h *hybrid) stage(scratch string, f espFile) (path string, size int64, err error) {
	data := f.data
	if f.source != "" {
		found, err := filepath.Glob(f.source)
		if err != nil || len(found) != 1 {
			return "", 0, fmt.Errorf("%d files for %s in the packages, expected one: %w", len(found), f.path, fault.NotFound)
		}
		if data, err = os.ReadFile(found[0]); err != nil {
			return "", 0, err
		}
	}
	path = filepath.Join(scratch, "stage-"+strings.ReplaceAll(f.path, "/", "-"))
	if err := os.WriteFile(path, data, 0o644); err != nil {
		return "", 0, err
	}
	return path, int64(len(data)), os.Chtimes(path, h.time, h.time)
}

// sparseFile makes a file of size zero bytes that takes no space.
func sparseFile(path string, size int64) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	if err := f.Truncate(size); err != nil {
		f.Close()
		return err
	}
	return f.Close()
}

// roundUp returns the least multiple of unit that is not below n.
func roundUp(n, unit int64) int64 { return (n + unit - 1) / unit * unit }

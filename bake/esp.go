package bake

import (
	"context"
	_ "embed" // GRUB's configuration
	"fmt"
	"os"
	"path/filepath"

	"aesthetic.computer/isofs/fault"
)

//go:embed grub.cfg
var grubConfig []byte

// The ESP's identity and geometry. One sector a cluster is what makes so small
// a partition a FAT32: it needs 65,525 clusters.
const (
	espLabel    = "BOOT"
	espVolumeID = "15050f5a"
	espMinSize  = 34 << 20
	espReserve  = 4 << 20 // FATs and directories
)

// An espFile is a file of the ESP and where it comes from.
type espFile struct {
	path   string // in the ESP
	source string // a pattern that one file matches; "": data
	data   []byte
}

// esp writes the EFI system partition and returns its path. Files are added
// one by one in a fixed order to an empty FAT, so each is contiguous, and the
// bytes do not depend on the order in which this machine lists a folder.
func (k *kitchen) esp(ctx context.Context, root, initrd string) (path string, err error) {
	k.Progress(stageESP, 0, 1)
	files := []espFile{
		{path: "/EFI/BOOT/BOOTX64.EFI", source: root + "/usr/lib/shim/shimx64.efi.signed"},
		// grubx64 and not gcdx64: this one looks for its configuration on the
		// partition that it came from, that one on any disk with a certain file.
		{path: "/EFI/BOOT/grubx64.efi", source: root + "/usr/lib/grub/x86_64-efi-signed/grubx64.efi.signed"},
		{path: "/EFI/debian/grub.cfg", data: grubConfig},
		{path: "/boot/vmlinuz", source: root + "/boot/vmlinuz-*"},
		{path: "/boot/initrd.img", source: initrd},
	}
	size := int64(espReserve)
	staged := make([]string, len(files))
	for i, f := range files {
		var n int64
		if staged[i], n, err = k.stage(f); err != nil {
			return "", err
		}
		size += n
	}
	path = k.path("esp.img")
	if err := sparseFile(path, roundUp(max(size, espMinSize), partitionAlign)); err != nil {
		return "", err
	}
	// --invariant must come before -i, or it sets the volume id itself.
	if _, err := k.run.output(ctx, k.scratch, "mkfs.vfat", "--invariant", "-i", espVolumeID, "-n", espLabel,
		"-F", "32", "-s", "1", "-S", "512", "-R", "32", "-f", "2", "-h", fmt.Sprint(espStart/sectorSize), path); err != nil {
		return "", err
	}
	if _, err := k.run.output(ctx, k.scratch, "mmd", "-i", path, "::/EFI", "::/EFI/BOOT", "::/EFI/debian", "::/boot"); err != nil {
		return "", err
	}
	for i, f := range files {
		if _, err := k.run.output(ctx, k.scratch, "mcopy", "-m", "-i", path, staged[i], "::"+f.path); err != nil {
			return "", fmt.Errorf("copy %s: %w", f.path, err)
		}
	}
	k.Progress(stageESP, 1, 1)
	return path, nil
}

// stage puts f into the scratch directory with the bake's time, and returns
// its path and size.
func (k *kitchen) stage(f espFile) (path string, size int64, err error) {
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
	path = k.path("stage-" + filepath.Base(f.path))
	if err := os.WriteFile(path, data, 0o644); err != nil {
		return "", 0, err
	}
	return path, int64(len(data)), os.Chtimes(path, k.time(), k.time())
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

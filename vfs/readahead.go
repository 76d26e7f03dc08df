package vfs

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"

	"aesthetic.computer/isofs/fault"
)

// readAheadKiB is how far the kernel reads ahead in the page-cache profile: one
// largest request. FUSE cannot request more than the 128 KiB of its default.
const readAheadKiB = maxRead / 1024

// RaiseReadAhead lets the kernel read ahead 1 MiB in the files of the isofs at
// mountpoint. It needs root, and a mount that is being served, as the kernel sets
// its default when the server first answers. Mount calls it in the page-cache
// profile. Where a parent mounted, the parent does.
func RaiseReadAhead(mountpoint string) error {
	point, err := resolveMount(mountpoint)
	if err != nil {
		return err
	}
	top, err := topMount(point)
	if err != nil {
		return err
	}
	if top == nil || top.fsType != fsType {
		return fmt.Errorf("raise read-ahead of %s: %w: no isofs is mounted there", mountpoint, fault.NotFound)
	}
	file := filepath.Join("/sys/class/bdi", top.device, "read_ahead_kb")
	// Not os.WriteFile, which would create a missing file.
	f, err := os.OpenFile(file, os.O_WRONLY, 0)
	if err == nil {
		_, err = f.WriteString(strconv.Itoa(readAheadKiB))
		f.Close()
	}
	if err != nil {
		return fmt.Errorf("raise read-ahead of %s: %w: %w", mountpoint, fault.Unavailable, err)
	}
	return nil
}

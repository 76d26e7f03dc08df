package bake

import (
	"bytes"
	"context"
	"fmt"
	"os"

	"aesthetic.computer/isofs/fault"
)

// FEDAC-LIVE holds one small file, but it is found and mounted as that of a
// base of gigabytes is.
const (
	liveSize  = 4 << 20
	liveLabel = "FEDAC-LIVE"
	liveUUID  = "15050f00-0000-4000-8000-00000000011e"
	erofsUUID = "15050f00-0000-4000-8000-0000000e05f5"
)

// squashfsPath is where a live system keeps its root, whatever its format.
const squashfsPath = "/LiveOS/squashfs.img"

// liveFeatures spells all features out: defaults differ between releases of
// e2fsprogs. No journal, as nobody writes to it.
const liveFeatures = "none,extent,filetype,64bit,sparse_super,large_file,huge_file,dir_nlink,extra_isize,metadata_csum"

// live writes the partition FEDAC-LIVE and returns its path.
func (k *kitchen) live(ctx context.Context, baseID string) (path string, err error) {
	k.Progress(stageLive, 0, 1)
	rootfs, err := k.rootfs(ctx, baseID)
	if err != nil {
		return "", err
	}
	path = k.path("live.img")
	if err := sparseFile(path, liveSize); err != nil {
		return "", err
	}
	if _, err := k.run.output(ctx, k.scratch, "mke2fs", "-q", "-F", "-t", "ext4", "-b", "4096", "-I", "256", "-N", "64", "-m", "0",
		"-O", liveFeatures, "-L", liveLabel, "-U", liveUUID,
		"-E", "hash_seed="+liveUUID+",lazy_itable_init=0,nodiscard,root_owner=0:0", path); err != nil {
		return "", err
	}
	// mke2fs -d would copy the file's change time, which nobody can set.
	for _, request := range []string{"mkdir /LiveOS", "write " + rootfs + " " + squashfsPath} {
		if _, err := k.run.output(ctx, k.scratch, "debugfs", "-w", "-R", request, path); err != nil {
			return "", err
		}
	}
	if err := k.readBack(ctx, path, rootfs); err != nil {
		return "", err
	}
	k.Progress(stageLive, 1, 1)
	return path, nil
}

// rootfs writes the EROFS and returns its path relative to the scratch
// directory, as debugfs does not quote names.
func (k *kitchen) rootfs(ctx context.Context, baseID string) (string, error) {
	dir := k.path("rootfs")
	if err := os.Mkdir(dir, 0o755); err != nil {
		return "", err
	}
	file := k.path("rootfs", "base-id")
	if err := os.WriteFile(file, []byte(baseID+"\n"), 0o644); err != nil {
		return "", err
	}
	// Whatever the umask of this process is.
	if err := os.Chmod(dir, 0o755); err != nil {
		return "", err
	}
	if err := os.Chmod(file, 0o644); err != nil {
		return "", err
	}
	_, err := k.run.output(ctx, k.scratch, "mkfs.erofs", "-T", fmt.Sprint(k.SourceDateEpoch), "-U", erofsUUID, "--all-root", "rootfs.erofs", "rootfs")
	return "rootfs.erofs", err
}

// readBack compares what is in the volume: debugfs exits with 0 when it fails.
func (k *kitchen) readBack(ctx context.Context, volume, rootfs string) error {
	if _, err := k.run.output(ctx, k.scratch, "debugfs", "-R", "dump "+squashfsPath+" readback", volume); err != nil {
		return err
	}
	want, err := os.ReadFile(k.path(rootfs))
	if err != nil {
		return err
	}
	got, err := os.ReadFile(k.path("readback"))
	if err != nil || !bytes.Equal(got, want) {
		return fmt.Errorf("%s reads back as %d bytes other than the %d written (%v): %w", squashfsPath, len(got), len(want), err, fault.Unavailable)
	}
	return nil
}

package bake

import (
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"os"

	"aesthetic.computer/isofs/fault"
)

// FEDAC-LIVE has one file. That of tiny is small, but machines find and mount
// it like that of a base of gigabytes.
const (
	liveMinSize = 4 << 20
	liveReserve = 2 << 20 // inodes, directories, superblocks
	liveLabel   = "FEDAC-LIVE"
	liveUUID    = "15050f00-0000-4000-8000-00000000011e"
	erofsUUID   = "15050f00-0000-4000-8000-0000000e05f5"
)

// squashfsPath is where a live system keeps its root, in any format.
const squashfsPath = "/LiveOS/squashfs.img"

// liveFeatures lists all features: defaults differ between releases of
// e2fsprogs. It has no journal, as no program writes to the partition.
const liveFeatures = "none,extent,filetype,64bit,sparse_super,large_file,huge_file,dir_nlink,extra_isize,metadata_csum"

// live writes the partition FEDAC-LIVE of tiny and returns its path.
func (j *job) live(ctx context.Context, baseID string) (path string, err error) {
	rootfs, err := j.rootfs(ctx, baseID)
	if err != nil {
		return "", err
	}
	return j.liveVolume(ctx, rootfs)
}

// liveVolume writes the partition FEDAC-LIVE with the EROFS rootfs in it, and
// returns its path.
func (j *job) liveVolume(ctx context.Context, rootfs string) (path string, err error) {
	j.Progress(stageLive, 0, 1)
	info, err := os.Stat(rootfs)
	if err != nil {
		return "", err
	}
	// debugfs does not quote names.
	if err := os.Symlink(rootfs, j.path("squashfs.img")); err != nil {
		return "", err
	}
	path = j.path("live.img")
	// A thousandth is more than enough for bitmaps, copies of the superblock,
	// and extents.
	size := info.Size() + info.Size()/1000 + liveReserve
	if err := sparseFile(path, roundUp(max(size, liveMinSize), partitionAlign)); err != nil {
		return "", err
	}
	if _, err := j.run.output(ctx, j.scratch, "mke2fs", "-q", "-F", "-t", "ext4", "-b", "4096", "-I", "256", "-N", "64", "-m", "0",
		"-O", liveFeatures, "-L", liveLabel, "-U", liveUUID,
		"-E", "hash_seed="+liveUUID+",lazy_itable_init=0,nodiscard,root_owner=0:0", path); err != nil {
		return "", err
	}
	// mke2fs -d would copy the file's change time, which no program can set.
	for _, request := range []string{"mkdir /LiveOS", "write squashfs.img " + squashfsPath} {
		if _, err := j.run.output(ctx, j.scratch, "debugfs", "-w", "-R", request, path); err != nil {
			return "", err
		}
	}
	if err := j.readBack(ctx, path, rootfs); err != nil {
		return "", err
	}
	j.Progress(stageLive, 1, 1)
	return path, nil
}

// rootfs writes the EROFS of tiny and returns its path.
func (j *job) rootfs(ctx context.Context, baseID string) (string, error) {
	dir := j.path("rootfs")
	if err := os.Mkdir(dir, 0o755); err != nil {
		return "", err
	}
	file := j.path("rootfs", "base-id")
	if err := os.WriteFile(file, []byte(baseID+"\n"), 0o644); err != nil {
		return "", err
	}
	// The umask of this process may differ.
	if err := os.Chmod(dir, 0o755); err != nil {
		return "", err
	}
	if err := os.Chmod(file, 0o644); err != nil {
		return "", err
	}
	_, err := j.run.output(ctx, j.scratch, "mkfs.erofs", "-T", fmt.Sprint(j.SourceDateEpoch), "-U", erofsUUID, "--all-root", "rootfs.erofs", "rootfs")
	return j.path("rootfs.erofs"), err
}

// readBack compares the file in the volume: debugfs exits with 0 when it fails.
func (j *job) readBack(ctx context.Context, volume, rootfs string) error {
	if _, err := j.run.output(ctx, j.scratch, "debugfs", "-R", "dump "+squashfsPath+" readback", volume); err != nil {
		return err
	}
	defer os.Remove(j.path("readback"))
	want, err := fileSum(rootfs)
	if err != nil {
		return err
	}
	got, err := fileSum(j.path("readback"))
	if err != nil || got != want {
		return fmt.Errorf("%s reads back as other bytes than those written, sha256 %x instead of %x (%v): %w", squashfsPath, got, want, err, fault.Unavailable)
	}
	return nil
}

// fileSum returns the SHA-256 of a file.
func fileSum(path string) (sum [sha256.Size]byte, err error) {
	f, err := os.Open(path)
	if err != nil {
		return sum, err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return sum, fmt.Errorf("read %s: %w", path, err)
	}
	return [sha256.Size]byte(h.Sum(nil)), nil
}

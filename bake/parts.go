package bake

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"aesthetic.computer/isofs/ext4gen"
	"aesthetic.computer/isofs/extent"
	"aesthetic.computer/isofs/fault"
	"aesthetic.computer/isofs/image"
)

// makeESP makes the EFI system partition, FAT32, of the tree at dir.
func makeESP(r runner, out, dir string, bytes int64, volumeID string) error {
	if err := r.stamp(dir); err != nil {
		return err
	}
	if err := makeFile(out, bytes); err != nil {
		return err
	}
	// --invariant sets the id as well, so the one wanted comes after it. One
	// sector a cluster keeps a partition this small FAT32.
	if _, err := r.run("mkfs.vfat", "--invariant", "-i", volumeID, "-F", "32", "-s", "1", "-n", "BOOT", out); err != nil {
		return err
	}
	entries, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil {
		return fmt.Errorf("bake: %w: %w", fault.Unavailable, err)
	}
	hidden, err := filepath.Glob(filepath.Join(dir, ".[!.]*"))
	if err != nil {
		return fmt.Errorf("bake: %w: %w", fault.Unavailable, err)
	}
	args := append([]string{"-s", "-p", "-m", "-i", out}, append(hidden, entries...)...)
	_, err = r.run("mcopy", append(args, "::/")...)
	return err
}

// makeLive makes FEDAC-LIVE: an ext4 with rootfs, an EROFS, at
// /LiveOS/squashfs.img. mke2fs makes it empty and debugfs fills it, since
// mke2fs -d copies times that cannot be set.
func makeLive(r runner, out, rootfs string, bytes int64, uuid string) error {
	if err := makeFile(out, bytes); err != nil {
		return err
	}
	_, err := r.run("mke2fs", "-q", "-F", "-t", "ext4", "-L", "FEDAC-LIVE", "-U", uuid,
		"-O", "^has_journal,^orphan_file,^resize_inode",
		"-E", "hash_seed="+uuid+",lazy_itable_init=0,root_owner=0:0", out)
	if err != nil {
		// orphan_file is unknown to mke2fs before 1.47.
		return err
	}
	for _, request := range []string{"mkdir LiveOS", "write " + rootfs + " LiveOS/squashfs.img"} {
		if _, err := r.run("debugfs", "-w", "-R", request, out); err != nil {
			return err
		}
	}
	// debugfs exits 0 when it failed, so what it wrote is read back.
	back := out + ".back"
	defer os.Remove(back)
	if _, err := r.run("debugfs", "-R", "dump LiveOS/squashfs.img "+back, out); err != nil {
		return err
	}
	return sameFiles(rootfs, back)
}

// makeEROFS makes an EROFS of the tree at dir.
func makeEROFS(r runner, out, dir, uuid string) error {
	if err := r.stamp(dir); err != nil {
		return err
	}
	_, err := r.run("mkfs.erofs", "-T", fmt.Sprint(r.epoch.Unix()), "-U", uuid, "--all-root", out, dir)
	return err
}

// placeholder is the volume of a base that nothing was put into.
func placeholder(html []byte, uuid [16]byte, epoch int64) (*extent.Map, error) {
	about := []byte("{\"piece\": null}\n")
	return ext4gen.Build(ext4gen.Options{
		Size: SlotSize, Label: image.VolumeLabel, UUID: uuid, HashSeed: uuid, Time: epoch,
	},
		ext4gen.File{Name: "piece.html", Source: extent.Bytes(html)},
		ext4gen.File{Name: "piece.json", Source: extent.Bytes(about)},
	)
}

// makeFile makes a file of zeroes, replacing one that is there.
func makeFile(path string, bytes int64) error {
	f, err := os.Create(path)
	if err != nil {
		return fmt.Errorf("bake: %w: %w", fault.Unavailable, err)
	}
	defer f.Close()
	if err := f.Truncate(bytes); err != nil {
		return fmt.Errorf("bake: %w: %w", fault.Unavailable, err)
	}
	return nil
}

func sameFiles(want, got string) error {
	a, err := fileSum(want)
	if err != nil {
		return err
	}
	b, err := fileSum(got)
	if err != nil {
		return err
	}
	if !bytes.Equal(a, b) {
		return fmt.Errorf("bake: %s was not written whole into its file system; is the partition too small?: %w", want, fault.Corrupt)
	}
	return nil
}

func fileSum(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("bake: %w: %w", fault.Unavailable, err)
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return nil, fmt.Errorf("bake: read %s: %w: %w", path, fault.Unavailable, err)
	}
	return h.Sum(nil), nil
}

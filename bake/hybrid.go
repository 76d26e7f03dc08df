package bake

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"aesthetic.computer/isofs/extent"
)

// A hybrid is an image that boots as a disk and as a CD-ROM, by UEFI, with
// Secure Boot or without, and by BIOS. It is one file, and each way reads the
// same bytes. Every flavor is assembled so.
//
//	0          MBR with GRUB's boot code, GPT       disk, BIOS
//	32 KiB     ISO 9660: El Torito, GRUB for BIOS   CD-ROM
//	1 MiB      p1 BOOT, FAT32: shim, GRUB, kernel   disk and CD-ROM, UEFI
//	           p2 FEDAC-LIVE, ext4
//	           p3 FEDAC-PIECE, ext4: the slot
//	           backup GPT
//
// In all ways GRUB ends with the configuration in p1 and with p1 as its root.
// From a CD-ROM or by BIOS it starts with the whole disk as its root and reads
// the ISO 9660. The configuration there leads to p1. Linux does not look for
// partitions on a CD-ROM. The initramfs has to (losetup -P, or the offsets in
// the GPT).
type hybrid struct {
	root   string      // the folder with the unpacked hybridPackages
	files  []espFile   // of p1 beside the boot chain: kernel, initrd
	config []byte      // GRUB's, with p1 as its root
	prefix string      // its folder in p1; "": grubPrefix
	chain  []espFile   // the files of p1 that the firmware starts; nil: Debian's, of root
	live   string      // path of p2's contents
	slot   *extent.Map // p3's contents
	volume string      // name of the ISO 9660: A-Z, 0-9 and _
	id     identity    // another for each flavor
	time   time.Time   // the only time in p1 and in the ISO 9660, in UTC
}

// The identities of the flavors.
const (
	identityTiny   identity = 0
	identityDebian identity = 1
	identityFedora identity = 2
)

// hybridPackages are the Debian packages that a hybrid boots by: the chain that
// Secure Boot accepts, and GRUB for BIOS.
var hybridPackages = []string{"grub-efi-amd64-signed", "grub-pc-bin", "shim-signed"}

// grubPrefix is where GRUB as Debian signed it looks for its configuration, on
// the volume that it came from. GRUB for BIOS gets the same prefix.
const grubPrefix = "/EFI/debian"

// coreModules are in GRUB for BIOS, which loads none from the disk. They are
// all that a configuration may use, with a picture or without.
var coreModules = []string{
	"biosdisk", "part_gpt", "part_msdos", "iso9660", "fat", "ext2",
	"normal", "configfile", "search", "search_fs_uuid", "search_fs_file", "search_label",
	"linux", "echo", "test", "true", "sleep", "regexp", "minicmd", "ls", "cat", "halt", "reboot", "serial",
	"all_video", "gfxterm", "gfxterm_background", "font", "png",
}

// write writes the image to path and returns the open file, synced.
func (h *hybrid) write(ctx context.Context, run *runner, scratch, path string) (*os.File, error) {
	esp, err := h.esp(ctx, run, scratch)
	if err != nil {
		return nil, fmt.Errorf("make the EFI system partition: %w", err)
	}
	core, err := h.biosCore(ctx, run, scratch)
	if err != nil {
		return nil, fmt.Errorf("make GRUB for BIOS: %w", err)
	}
	f, err := writeImage(path, h.id, []partition{espPartition(esp), livePartition(h.live), slotPartition(h.slot)})
	if err != nil {
		return nil, fmt.Errorf("write %s: %w", path, err)
	}
	if err := errors.Join(h.writeShell(f, core), f.Sync()); err != nil {
		f.Close()
		return nil, fmt.Errorf("write the boot blocks of %s: %w", path, err)
	}
	return f, nil
}

// biosCore makes GRUB for BIOS from the unpacked modules.
func (h *hybrid) biosCore(ctx context.Context, run *runner, scratch string) ([]byte, error) {
	path := filepath.Join(scratch, "eltorito.img")
	args := append([]string{"-O", "i386-pc-eltorito", "-d", h.biosModules(), "-p", h.folder(), "-o", path}, coreModules...)
	if _, err := run.output(ctx, scratch, "grub-mkimage", args...); err != nil {
		return nil, err
	}
	return os.ReadFile(path)
}

// folder is the folder of GRUB's configuration in p1.
func (h *hybrid) folder() string { return cmp.Or(h.prefix, grubPrefix) }

func (h *hybrid) biosModules() string { return filepath.Join(h.root, "usr/lib/grub/i386-pc") }

// writeShell writes the MBR's code and the ISO 9660 into the image, around the
// existing tables.
func (h *hybrid) writeShell(f *os.File, core []byte) error {
	info, err := f.Stat()
	if err != nil {
		return err
	}
	sector, err := os.ReadFile(filepath.Join(h.biosModules(), "boot_hybrid.img"))
	if err != nil {
		return err
	}
	code, err := masterBoot(sector)
	if err != nil {
		return err
	}
	s := &isoVolume{volume: h.volume, time: h.time, total: info.Size(), core: core, stub: h.stub()}
	data, err := s.bytes()
	if err != nil {
		return err
	}
	if _, err := f.WriteAt(code, 0); err != nil {
		return err
	}
	_, err = f.WriteAt(data, isoPrimary*isoSector)
	return err
}

// stub is the configuration on the ISO 9660. It first tries the disk that it
// came from, so that of two sticks in one machine each boots its own.
func (h *hybrid) stub() []byte {
	id := h.id.fatID()
	return fmt.Appendf(nil, "search --no-floppy --fs-uuid --set=root --hint=$root,gpt1 %04X-%04X\nconfigfile %s/grub.cfg\n", id>>16, id&0xffff, h.folder())
}

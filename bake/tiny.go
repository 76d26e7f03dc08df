package bake

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/diskfs/go-diskfs/partition/gpt"

	"aesthetic.computer/isofs/extent"
	"aesthetic.computer/isofs/fault"
)

// The readable parts of the tiny base.
var (
	//go:embed tiny/init
	tinyInit []byte
	//go:embed tiny/grub.cfg
	tinyGrub []byte
	//go:embed tiny/piece.html
	tinyPlaceholder []byte
)

// Sizes of the tiny base's partitions. FAT32 needs 65,525 clusters, which with
// clusters of a sector is little less than 34 MiB.
const (
	tinyESPSize  = 34 * MiB
	tinyLiveSize = 2 * MiB
)

// tinyModules are what a virtual machine needs to find a disk, and what is on
// it; what they need in turn is found out. Names that the kernel does not have
// as modules are passed over, so the list serves several kernels.
var tinyModules = []string{
	"virtio_pci", "virtio_blk", "virtio_scsi", "ahci", "ata_piix", "ata_generic", "nvme",
	"sd_mod", "sr_mod", "xhci_pci", "ehci_pci", "usb_storage", "uas",
	"loop", "ext4", "isofs", "erofs",
}

func tinyTools() []tool {
	return []tool{
		{"apt-get", "apt"}, {"apt-cache", "apt"}, {"dpkg-deb", "dpkg"}, {"cpio", "cpio"},
		{"mkfs.vfat", "dosfstools"}, {"mcopy", "mtools"}, {"mkfs.erofs", "erofs-utils"},
		{"mke2fs", "e2fsprogs"}, {"debugfs", "e2fsprogs"},
	}
}

// Tiny bakes the flavor "tiny": Debian's signed shim, GRUB and cloud kernel,
// and an initramfs of busybox that says on screen and serial port which piece
// the image carries. It takes a download of some 30 MB once, and seconds.
//
// Errors wrap fault.Unavailable (a tool, a package or the disk), Corrupt (a
// package is not as expected) or Invalid (the options).
func Tiny(ctx context.Context, o Options) (*Result, error) {
	o, err := o.complete()
	if err != nil {
		return nil, err
	}
	if err := findTools(tinyTools()); err != nil {
		return nil, err
	}
	scratch, err := os.MkdirTemp(o.WorkDir, "tiny-")
	if err != nil {
		return nil, fmt.Errorf("bake: %w: %w", fault.Unavailable, err)
	}
	defer os.RemoveAll(scratch)
	t := &tinyBake{Options: o, run: runner{ctx: ctx, dir: scratch, epoch: o.Epoch}, dir: scratch}
	steps := []struct {
		what string
		do   func() error
	}{
		{"packages", t.packages},
		{"initramfs", t.initramfs},
		{"boot partition", t.esp},
		{"live partition", t.live},
		{"disk", t.disk},
	}
	for _, step := range steps {
		o.Stage(step.what)
		if err := step.do(); err != nil {
			return nil, errors.Join(err, context.Cause(ctx))
		}
	}
	return finish(ctx, o, "tiny", t.path("base.iso"))
}

// tinyBake is one bake under way.
type tinyBake struct {
	Options
	run runner
	dir string // scratch
}

func (t *tinyBake) path(name string) string { return filepath.Join(t.dir, name) }

// packages downloads and unpacks what the base is made of.
func (t *tinyBake) packages() error {
	kernel, err := dependency(t.run, "linux-image-cloud-"+t.Arch, "linux-image-")
	if err != nil {
		return err
	}
	debs, err := fetchDebs(t.run, filepath.Join(t.WorkDir, "debs"),
		[]string{kernel, "busybox-static", "shim-signed", "grub-efi-" + t.Arch + "-signed"})
	if err != nil {
		return err
	}
	for _, deb := range debs {
		t.Log.Debug("package", "file", filepath.Base(deb))
	}
	return unpack(t.run, t.path("packages"), debs)
}

// initramfs packs busybox, the modules and our init.
func (t *tinyBake) initramfs() error {
	root := t.path("initramfs")
	busybox, err := oneFile(t.path("packages"), "bin/busybox")
	if err != nil {
		if busybox, err = oneFile(t.path("packages"), "usr/bin/busybox"); err != nil {
			return err
		}
	}
	tree, err := moduleTree(t.path("packages"))
	if err != nil {
		return err
	}
	order, err := moduleOrder(tree, tinyModules)
	if err != nil {
		return err
	}
	for _, name := range order {
		if err := copyFile(filepath.Join(root, "modules", name+".ko"), tree[name], 0o644); err != nil {
			return err
		}
	}
	for _, folder := range []string{"proc", "sys", "dev", "mnt", "etc", "bin"} {
		if err := os.MkdirAll(filepath.Join(root, folder), 0o755); err != nil {
			return fmt.Errorf("bake: %w: %w", fault.Unavailable, err)
		}
	}
	err = errors.Join(
		copyFile(filepath.Join(root, "bin/busybox"), busybox, 0o755),
		put(filepath.Join(root, "init"), tinyInit, 0o755),
		put(filepath.Join(root, "etc/base-version"), []byte(t.Version+"\n"), 0o644),
		put(filepath.Join(root, "modules/order"), []byte(strings.Join(order, "\n")+"\n"), 0o644),
	)
	for _, applet := range applets {
		err = errors.Join(err, os.Symlink("busybox", filepath.Join(root, "bin", applet)))
	}
	if err != nil {
		return err
	}
	return packInitramfs(t.run, root, t.path("initrd.img"))
}

// applets are the commands of busybox that init uses, or that a person at its
// shell would.
var applets = []string{
	"sh", "mount", "umount", "mkdir", "cat", "printf", "tr", "sed", "head", "stat", "sha256sum",
	"findfs", "blkid", "insmod", "sleep", "setsid", "ls", "dmesg", "less", "poweroff", "reboot", "hexdump", "df",
}

// esp makes the boot partition. The shim starts grubx64.efi beside it; the
// GRUB that Debian signs for CDs looks for /boot/grub on the volume that has
// /.disk/info, which is ours.
func (t *tinyBake) esp() error {
	dir := t.path("esp")
	packages := t.path("packages")
	kernel, err := oneFile(packages, "boot/vmlinuz-*")
	if err != nil {
		return err
	}
	err = errors.Join(
		copyFile(filepath.Join(dir, "EFI/BOOT/BOOTX64.EFI"), filepath.Join(packages, "usr/lib/shim/shimx64.efi.signed"), 0o644),
		copyFile(filepath.Join(dir, "EFI/BOOT/grubx64.efi"), filepath.Join(packages, "usr/lib/grub/x86_64-efi-signed/gcdx64.efi.signed"), 0o644),
		copyFile(filepath.Join(dir, "boot/vmlinuz"), kernel, 0o644),
		copyFile(filepath.Join(dir, "boot/initrd.img"), t.path("initrd.img"), 0o644),
		put(filepath.Join(dir, "boot/grub/grub.cfg"), tinyGrub, 0o644),
		put(filepath.Join(dir, ".disk/info"), []byte("isofs tiny "+t.Version+"\n"), 0o644),
	)
	if err != nil {
		return err
	}
	volume := id("tiny esp")
	return makeESP(t.run, t.path("esp.img"), dir, tinyESPSize, fmt.Sprintf("%x", volume[:4]))
}

// live makes FEDAC-LIVE with an EROFS that has nothing but the base's name.
func (t *tinyBake) live() error {
	dir := t.path("rootfs")
	if err := put(filepath.Join(dir, "base-id"), []byte("isofs tiny "+t.Version+" "+t.Arch+"\n"), 0o644); err != nil {
		return err
	}
	if err := makeEROFS(t.run, t.path("squashfs.img"), dir, id("tiny erofs").String()); err != nil {
		return err
	}
	return makeLive(t.run, t.path("live.img"), t.path("squashfs.img"), tinyLiveSize, id("tiny live").String())
}

// disk puts the partitions together, the slot last.
func (t *tinyBake) disk() error {
	slot, err := placeholder(tinyPlaceholder, id("tiny placeholder"), t.Epoch.Unix())
	if err != nil {
		return err
	}
	var parts []part
	for _, p := range []struct {
		name, file string
		kind       gpt.Type
	}{{"EFI", "esp.img", gpt.EFISystemPartition}, {"LIVE", "live.img", gpt.LinuxFilesystem}} {
		f, err := os.Open(t.path(p.file))
		if err != nil {
			return fmt.Errorf("bake: %w: %w", fault.Unavailable, err)
		}
		defer f.Close()
		fi, err := f.Stat()
		if err != nil {
			return fmt.Errorf("bake: %w: %w", fault.Unavailable, err)
		}
		parts = append(parts, part{p.name, p.kind, extent.File(f, 0, fi.Size())})
	}
	parts = append(parts, part{"PIECE", gpt.LinuxFilesystem, slot})
	return makeDisk(t.path("base.iso"), "tiny", parts)
}

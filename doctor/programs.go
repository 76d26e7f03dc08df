package doctor

import (
	"context"
	"errors"
	"os"
	"os/exec"
)

// programChecks returns the table of the programs that can be missing.
func programChecks() []check {
	var list []check
	for _, t := range []struct{ purpose, command, pkg string }{
		{"bake", "apt-get", "apt"},
		{"bake", "dpkg-deb", "dpkg"},
		{"bake", "mkfs.vfat", "dosfstools"},
		{"bake", "mcopy", "mtools"},
		{"bake", "xz", "xz-utils"},
		{"bake", "mkfs.erofs", "erofs-utils"},
		{"bake", "mke2fs", "e2fsprogs"},
		{"bake", "debugfs", "e2fsprogs"},
		{"bake", "gzip", "gzip"},
		{"bake", "grub-mkimage", "grub-common"},
		{"test", "e2fsck", "e2fsprogs"},
		{"test", "cpio", "cpio"},
		{"test", "sgdisk", "gdisk"},
		{"test", "wget", "wget"},
		{"test", "curl", "curl"},
		{"test", "aria2c", "aria2"},
		{"test", "zsync", "zsync"},
		{"test", "bmaptool", "bmap-tools"},
		{"test", "qemu-system-x86_64", "qemu-system-x86"},
		{"test", "xorriso", "xorriso"},
		{"test", "isoinfo", "genisoimage"},
		{"test", "shellcheck", "shellcheck"},
		{"test", "node", "nodejs"},
		{"test", "npm", "npm"},
		{"test", "chromium", "chromium"},
	} {
		list = append(list, check{t.purpose, t.command, onPath(t.command), []string{t.pkg}, ""})
	}
	return append(list, check{"test", "UEFI firmware", readable("/usr/share/OVMF/OVMF_CODE_4M.fd"), []string{"ovmf"}, ""},
		check{"test", "UEFI firmware with Secure Boot", readable("/usr/share/OVMF/OVMF_CODE_4M.secboot.fd"), []string{"ovmf"}, ""})
}

func readable(path string) func(context.Context) error {
	return func(context.Context) error {
		_, err := os.Stat(path)
		return err
	}
}

func onPath(command string) func(context.Context) error {
	return func(context.Context) error {
		// Root's programs are not on every user's path.
		for _, name := range []string{command, "/usr/sbin/" + command, "/sbin/" + command} {
			if _, err := exec.LookPath(name); err == nil {
				return nil
			}
		}
		return errors.New("not found")
	}
}

func canMount(context.Context) error {
	if os.Geteuid() == 0 {
		return nil
	}
	if _, err := exec.LookPath("fusermount3"); err != nil {
		return errors.New("neither root nor fusermount3")
	}
	return nil
}

package bake

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"aesthetic.computer/isofs/integration/testkit"
)

// A liveISO describes a Live ISO for a test.
type liveISO struct {
	format  string                          // "squashfs", "erofs", "ext4" in a squashfs, "" for a file of noise
	lacking []string                        // packages that are not installed
	dnf     string                          // the script of dnf
	change  func(t *testing.T, root string) // of the root file system
	after   func(t *testing.T, tree string) // of the ISO's files
}

const liveName = "Fedora-Workstation-Live-43-1.6.x86_64.iso"

// fedoraNeeds skips or fails where a bake of the flavor cannot be tested.
func fedoraNeeds(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		testkit.Lack(t, "root, to keep owners and to install: sudo go test ./bake")
	}
	for tool, pkg := range map[string]string{"mksquashfs": "squashfs-tools", "mmdebstrap": "mmdebstrap", "fuse2fs": "fuse2fs", "xorriso": "xorriso", "sgdisk": "gdisk"} {
		testkit.NeedTool(t, tool, pkg)
	}
}

// debianParts unpacks the parts of the test's root: kernel, busybox, shim, and
// modules for a GRUB that looks where Fedora's looks.
func debianParts(t *testing.T) (j *job, root string) {
	t.Helper()
	tools, err := findTools()
	if err != nil {
		testkit.Lack(t, "the tools of a bake: scripts/setup bake")
	}
	o := TinyOptions{WorkDir: debs, OutDir: t.TempDir()}
	if err := o.complete(); err != nil {
		t.Fatal(err)
	}
	j = &job{TinyOptions: o, run: &runner{tools: tools, epoch: o.SourceDateEpoch, log: discard}, scratch: t.TempDir()}
	kernel, err := j.kernelPackage(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	packages, err := j.resolve(t.Context(), []string{kernel, "busybox-static", "shim-signed", "grub-efi-amd64-bin"})
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range packages {
		if err := j.download(t.Context(), p); err != nil {
			t.Fatal(err)
		}
	}
	if root, err = j.extract(t.Context(), packages); err != nil {
		t.Fatal(err)
	}
	return j, root
}

func put(t *testing.T, mode fs.FileMode, text string, path ...string) string {
	t.Helper()
	name := filepath.Join(path...)
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.WriteFile(name, []byte(text), mode), os.Chmod(name, mode)); err != nil {
		t.Fatal(err)
	}
	return name
}

// fakes are Fedora's programs, as far as the bake calls them. An installed
// package is a file.
var fakes = map[string]string{
	"rpm":     "case $1 in -qa) for p in /var/lib/test/*; do echo \"${p##*/} 1.0-1\"; done ;; *) [ -e \"/var/lib/test/$3\" ] ;; esac",
	"useradd": "echo \"$*\" >/etc/test-useradd", "systemctl": "echo \"$*\" >>/etc/test-systemctl",
	"dracut": "for to; do :; done; echo \"$*\" >/etc/test-dracut; cp /usr/lib/test-initrd \"$to\"",
}

// makeRoot makes a minimal root file system, which boots to the lines of the
// flavor tiny.
func (l liveISO) makeRoot(t *testing.T, j *job, parts string) (root string) {
	t.Helper()
	root = t.TempDir()
	if err := os.Chmod(root, 0o755); err != nil {
		t.Fatal(err)
	}
	busybox, err := readFirst(parts, "bin/busybox", "usr/bin/busybox")
	if err != nil {
		t.Fatal(err)
	}
	put(t, 0o755, string(busybox), root, "usr/bin/busybox")
	for _, applet := range []string{"sh", "cp", "cat", "sleep", "touch", "rm"} {
		if err := os.Symlink("busybox", filepath.Join(root, "usr/bin", applet)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("usr/bin", filepath.Join(root, "bin")); err != nil {
		t.Fatal(err)
	}
	for name, text := range fakes {
		put(t, 0o755, "#!/usr/bin/sh\n"+text+"\n", root, "usr/bin", name)
	}
	put(t, 0o755, "#!/usr/bin/sh\n"+l.dnf+"\n", root, "usr/bin/dnf")
	recipe, err := fedoraRecipe()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range recipe.packages {
		if !slices.Contains(l.lacking, p) {
			put(t, 0o644, "", root, "var/lib/test", p)
		}
	}
	put(t, 0o644, "NAME=\"Fedora Linux\"\nID=fedora\nVERSION_ID=43\n", root, "usr/lib/os-release")
	put(t, 0o644, "fedora of the test\n", root, "base-id")
	put(t, 0o644, "nameserver 192.0.2.1\n", root, "etc/resolv.conf")
	l.putKernel(t, j, parts, root)
	putOddities(t, root)
	if l.change != nil {
		l.change(t, root)
	}
	return root
}

// putKernel puts Debian's kernel in the place of Fedora's. The initrd is that
// of the flavor tiny, which the dracut of the test "makes".
func (l liveISO) putKernel(t *testing.T, j *job, parts, root string) {
	t.Helper()
	tree, err := openModules(parts)
	if err != nil {
		t.Fatal(err)
	}
	modules, err := tree.load(t.Context(), j.run, neededModules, nil)
	if err != nil {
		t.Fatal(err)
	}
	busybox, err := readFirst(parts, "bin/busybox", "usr/bin/busybox")
	if err != nil {
		t.Fatal(err)
	}
	// The command line is Fedora's, which names no serial console.
	init := initScript
	defer func() { initScript = init }()
	initScript = bytes.Replace(init, []byte("consoles=$(cat /sys/class/tty/console/active 2>/dev/null)"), []byte("consoles=ttyS0"), 1)
	put(t, 0o644, string(j.archive(busybox, modules)), root, "usr/lib/test-initrd")
	for pattern, to := range map[string]string{"vmlinuz-*": "vmlinuz", "config-*": "config"} {
		found, _ := filepath.Glob(filepath.Join(parts, "boot", pattern))
		if len(found) != 1 {
			t.Fatalf("%s: %v", pattern, found)
		}
		data, err := os.ReadFile(found[0])
		if err != nil {
			t.Fatal(err)
		}
		put(t, 0o755, string(data), root, "usr/lib/modules/6.1-test", to)
	}
	put(t, 0o644, "", root, "usr/lib/modules/6.1-test/modules.builtin")
}

// putOddities puts files with rare properties into root/odd, which an unpacking
// may lose.
func putOddities(t *testing.T, root string) {
	t.Helper()
	odd := filepath.Join(root, "odd")
	file := put(t, 0o644, strings.Repeat("text ", 5000), odd, "file")
	program := put(t, 0o755, "x", odd, "program")
	empty := filepath.Join(odd, "empty")
	err := errors.Join(
		os.Lchown(file, 1234, 5678), os.Lchown(program, 0, 42), os.Chmod(program, 0o755|fs.ModeSetuid),
		os.Link(file, filepath.Join(odd, "hard")), os.Symlink("/etc/nowhere", filepath.Join(odd, "soft")),
		os.Lchown(filepath.Join(odd, "soft"), 77, 78), syscall.Mkfifo(filepath.Join(odd, "fifo"), 0o600),
		syscall.Mknod(filepath.Join(odd, "null"), syscall.S_IFCHR|0o666, 1<<8|3),
		os.Mkdir(empty, 0o700), os.Chmod(empty, 0o700|fs.ModeSticky), os.Lchown(empty, 1234, 0),
		syscall.Setxattr(file, "security.selinux", []byte("system_u:object_r:etc_t:s0\x00"), 0),
		syscall.Setxattr(file, "user.test", []byte("1"), 0),
		// cap_net_raw=ep
		syscall.Setxattr(program, "security.capability", []byte{1, 0, 0, 2, 0, 32, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}, 0),
		syscall.Setxattr(empty, "security.selinux", []byte("system_u:object_r:usr_t:s0\x00"), 0),
	)
	if err != nil {
		t.Fatal(err)
	}
}

// describeTree describes all that a file system keeps of a tree, a line per
// file.
func describeTree(t *testing.T, root string) (lines []string) {
	t.Helper()
	first := map[uint64]string{}
	err := filepath.WalkDir(root, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		var st syscall.Stat_t
		if err := syscall.Lstat(path, &st); err != nil {
			return err
		}
		name, _ := filepath.Rel(root, path)
		line := fmt.Sprintf("%s %o %d:%d", name, st.Mode, st.Uid, st.Gid)
		switch st.Mode & syscall.S_IFMT {
		case syscall.S_IFREG:
			sum, err := fileSum(path)
			if err != nil {
				return err
			}
			if first[st.Ino] == "" {
				first[st.Ino] = name
			}
			line += fmt.Sprintf(" %x is %s", sum[:4], first[st.Ino])
		case syscall.S_IFLNK:
			target, _ := os.Readlink(path)
			lines = append(lines, line+" "+target)
			return nil
		case syscall.S_IFCHR:
			line += fmt.Sprint(" ", st.Rdev)
		}
		for _, name := range []string{"security.selinux", "security.capability", "user.test"} {
			value := make([]byte, 200)
			if n, err := syscall.Getxattr(path, name, value); err == nil {
				line += fmt.Sprintf(" %s=%q", name, value[:n])
			}
		}
		lines = append(lines, line)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return lines
}

// make makes the ISO and a CHECKSUM file, and returns their paths and the root.
func (l liveISO) make(t *testing.T, j *job, parts string) (iso, checksum, root string) {
	t.Helper()
	if l.format != "" {
		root = l.makeRoot(t, j, parts)
	}
	dir, tree := t.TempDir(), t.TempDir()
	squashfs := put(t, 0o644, "noise that is no file system", tree, "LiveOS/squashfs.img")
	switch l.format {
	case "squashfs":
		run(t, testkit.NeedTool(t, "mksquashfs", "squashfs-tools"), root, squashfs, "-noappend", "-quiet", "-comp", "gzip", "-Xcompression-level", "1")
	case "erofs":
		run(t, testkit.NeedTool(t, "mkfs.erofs", "erofs-utils"), "-zlz4hc", squashfs, root)
	case "ext4":
		inner := t.TempDir()
		image := filepath.Join(inner, "LiveOS/rootfs.img")
		if err := errors.Join(os.Mkdir(filepath.Join(inner, "LiveOS"), 0o755), sparseFile(image, 256<<20)); err != nil {
			t.Fatal(err)
		}
		run(t, testkit.NeedTool(t, "mke2fs", "e2fsprogs"), "-q", "-t", "ext4", "-d", root, image)
		run(t, testkit.NeedTool(t, "mksquashfs", "squashfs-tools"), inner, squashfs, "-noappend", "-quiet", "-comp", "gzip", "-Xcompression-level", "1")
	}
	shim, err := os.ReadFile(filepath.Join(parts, "usr/lib/shim/shimx64.efi.signed"))
	if err != nil {
		t.Fatal(err)
	}
	put(t, 0o644, string(shim), tree, "EFI/BOOT/BOOTX64.EFI")
	run(t, testkit.NeedTool(t, "grub-mkimage", "grub-common"), "-O", "x86_64-efi", "-d", filepath.Join(parts, "usr/lib/grub/x86_64-efi"), "-p", fedoraPrefix,
		"-o", filepath.Join(tree, "EFI/BOOT/grubx64.efi"), "part_gpt", "fat", "normal", "linux", "configfile", "echo", "test", "all_video")
	if l.after != nil {
		l.after(t, tree)
	}
	iso = filepath.Join(dir, liveName)
	run(t, testkit.NeedTool(t, "xorriso", "xorriso"), "-as", "mkisofs", "-quiet", "-r", "-iso-level", "3", "-V", "Fedora-WS-Live-43", "-o", iso, tree)
	return iso, sumFile(t, iso), root
}

// sumFile writes a CHECKSUM file for iso beside it.
func sumFile(t *testing.T, iso string) string {
	t.Helper()
	sum, err := fileSum(iso)
	if err != nil {
		t.Fatal(err)
	}
	return put(t, 0o644, fmt.Sprintf("SHA256 (%s) = %x\n", filepath.Base(iso), sum), filepath.Dir(iso), "CHECKSUM")
}

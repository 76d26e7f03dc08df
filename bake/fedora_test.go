package bake

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"aesthetic.computer/isofs/fault"
)

func TestFindChecksum(t *testing.T) {
	const name = "Fedora-Workstation-Live-43-1.6.x86_64.iso"
	sum := strings.Repeat("aB", 32)
	line := "SHA256 (" + name + ") = " + sum + "\n"
	signed := "-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA256\n\n# " + name + ": 2742190080 bytes\n" + line + "-----BEGIN PGP SIGNATURE-----\n\nAAAA\n-----END PGP SIGNATURE-----\n"
	if got, err := findChecksum([]byte(signed), name); err != nil || got != strings.ToLower(sum) {
		t.Errorf("got %s, %v", got, err)
	}
	for text, want := range map[string]string{
		"":                                "it is no CHECKSUM file",
		sum + "  " + name + "\n":          "it is no CHECKSUM file",
		"SHA256 (" + name + ") = abcd":    "it is no CHECKSUM file",
		"SHA256 (other.iso) = " + sum:     "it does not name " + name + ", only other.iso",
		line + line[:len(line)-2] + "f\n": "two checksums",
	} {
		if _, err := findChecksum([]byte(text), name); fault.Kind(err) == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %v, want %q", text, err, want)
		}
	}
}

func TestRelease(t *testing.T) {
	for _, c := range []struct{ name, label, full string }{
		{"Fedora-Workstation-Live-43-1.6.x86_64.iso", "Fedora-WS-Live-43", "43-1.6"},
		{"Fedora-Workstation-Live-x86_64-41-1.4.iso", "Fedora-WS-Live-41-1-4", "41-1.4"},
		{"live.iso", "Fedora-WS-Live-43", "43"},
		{"live.iso", "SOMETHING", ""},
	} {
		if got := releaseOf(c.name, c.label); got.full != c.full {
			t.Errorf("%s, %s: got %q, want %q", c.name, c.label, got.full, c.full)
		}
	}
}

func TestCompressors(t *testing.T) {
	for config, want := range map[string]string{
		"": "lz4hc,level=9",
		"CONFIG_EROFS_FS=m\nCONFIG_EROFS_FS_ZIP=y\n# CONFIG_EROFS_FS_ZIP_LZMA is not set\n": "lz4hc,level=9",
		"CONFIG_EROFS_FS=m\nCONFIG_EROFS_FS_ZIP_LZMA=y\n":                                   "lzma,level=6",
		"CONFIG_EROFS_FS=y\nCONFIG_EROFS_FS_ZIP_LZMA=y\nCONFIG_EROFS_FS_ZIP_ZSTD=y\n":       "zstd,level=6",
	} {
		if got, err := compressors(config); err != nil || got != want {
			t.Errorf("%q: got %s, %v", config, got, err)
		}
	}
	if _, err := compressors("# CONFIG_EROFS_FS is not set\n"); fault.Kind(err) != fault.Invalid {
		t.Errorf("a kernel without EROFS: %v", err)
	}
}

func TestFedoraRecipe(t *testing.T) {
	r, err := fedoraRecipe()
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range r.paths() {
		if strings.Contains(path, "initramfs-tools") || strings.Contains(path, "triggerhappy") {
			t.Errorf("%s is Debian's", path)
		}
	}
	for _, path := range []string{"usr/lib/isofs/session", "etc/systemd/system/seatd.service.d/isofs.conf"} {
		if r.files[path] == nil {
			t.Errorf("no %s", path)
		}
	}
	debian, err := kioskRecipe()
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range debian.paths() {
		if strings.Contains(path, "fedora") || strings.Contains(path, "seatd") {
			t.Errorf("%s is in the debian base", path)
		}
	}
}

// A liveISO is how the tests make a Live ISO.
type liveISO struct {
	format  string                          // "squashfs", "erofs", "ext4" in a squashfs, "" for a file of noise
	lacking []string                        // packages that are not installed
	dnf     string                          // what dnf does
	change  func(t *testing.T, root string) // of the root file system
	after   func(t *testing.T, tree string) // of the ISO's files
}

const liveName = "Fedora-Workstation-Live-43-1.6.x86_64.iso"

// fedoraNeeds skips or fails where a bake of the flavor cannot be tested.
func fedoraNeeds(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		missing(t, "root, to keep owners and to install", "sudo")
	}
	for tool, pkg := range map[string]string{"mksquashfs": "squashfs-tools", "mmdebstrap": "mmdebstrap", "fuse2fs": "fuse2fs", "xorriso": "xorriso", "sgdisk": "gdisk"} {
		needTool(t, tool, pkg)
	}
}

// debianParts unpacks what the root of the test is made of: kernel, busybox, shim,
// and modules for a GRUB that looks where Fedora's looks.
func debianParts(t *testing.T) (k *kitchen, root string) {
	t.Helper()
	tools, err := findTools()
	if err != nil {
		missing(t, "the tools of a bake", "see scripts/setup bake")
	}
	o := TinyOptions{WorkDir: debs, OutDir: t.TempDir()}
	if err := o.complete(); err != nil {
		t.Fatal(err)
	}
	k = &kitchen{TinyOptions: o, run: &runner{tools: tools, epoch: o.SourceDateEpoch, log: discard}, scratch: t.TempDir()}
	kernel, err := k.kernelPackage(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	packages, err := k.resolve(t.Context(), []string{kernel, "busybox-static", "shim-signed", "grub-efi-amd64-bin"})
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range packages {
		if err := k.download(t.Context(), p); err != nil {
			t.Fatal(err)
		}
	}
	if root, err = k.extract(t.Context(), packages); err != nil {
		t.Fatal(err)
	}
	return k, root
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

// fakes are Fedora's programs, as far as the bake calls them. What a package is
// installed as is a file.
var fakes = map[string]string{
	"rpm":     "case $1 in -qa) for p in /var/lib/test/*; do echo \"${p##*/} 1.0-1\"; done ;; *) [ -e \"/var/lib/test/$3\" ] ;; esac",
	"useradd": "echo \"$*\" >/etc/test-useradd", "systemctl": "echo \"$*\" >>/etc/test-systemctl",
	"dracut": "for to; do :; done; echo \"$*\" >/etc/test-dracut; cp /usr/lib/test-initrd \"$to\"",
}

// makeRoot makes a root file system that is as small as can be, and that boots
// to the lines of the flavor tiny.
func (l liveISO) makeRoot(t *testing.T, k *kitchen, parts string) (root string) {
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
	l.putKernel(t, k, parts, root)
	putOddities(t, root)
	if l.change != nil {
		l.change(t, root)
	}
	return root
}

// putKernel puts Debian's kernel where Fedora has its own, and the initrd of the
// flavor tiny, which the dracut of the test "makes".
func (l liveISO) putKernel(t *testing.T, k *kitchen, parts, root string) {
	t.Helper()
	tree, err := openModules(parts)
	if err != nil {
		t.Fatal(err)
	}
	modules, err := tree.load(t.Context(), k.run, neededModules, nil)
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
	put(t, 0o644, string(k.archive(busybox, modules)), root, "usr/lib/test-initrd")
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

// putOddities puts what an unpacking forgets first into root/odd.
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

// describeTree tells all of a tree that a file system keeps, a line each.
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
func (l liveISO) make(t *testing.T, k *kitchen, parts string) (iso, checksum, root string) {
	t.Helper()
	if l.format != "" {
		root = l.makeRoot(t, k, parts)
	}
	dir, tree := t.TempDir(), t.TempDir()
	squashfs := put(t, 0o644, "noise that is no file system", tree, "LiveOS/squashfs.img")
	switch l.format {
	case "squashfs":
		run(t, needTool(t, "mksquashfs", "squashfs-tools"), root, squashfs, "-noappend", "-quiet", "-comp", "gzip", "-Xcompression-level", "1")
	case "erofs":
		run(t, needTool(t, "mkfs.erofs", "erofs-utils"), "-zlz4hc", squashfs, root)
	case "ext4":
		inner := t.TempDir()
		image := filepath.Join(inner, "LiveOS/rootfs.img")
		if err := errors.Join(os.Mkdir(filepath.Join(inner, "LiveOS"), 0o755), sparseFile(image, 256<<20)); err != nil {
			t.Fatal(err)
		}
		run(t, needTool(t, "mke2fs", "e2fsprogs"), "-q", "-t", "ext4", "-d", root, image)
		run(t, needTool(t, "mksquashfs", "squashfs-tools"), inner, squashfs, "-noappend", "-quiet", "-comp", "gzip", "-Xcompression-level", "1")
	}
	shim, err := os.ReadFile(filepath.Join(parts, "usr/lib/shim/shimx64.efi.signed"))
	if err != nil {
		t.Fatal(err)
	}
	put(t, 0o644, string(shim), tree, "EFI/BOOT/BOOTX64.EFI")
	run(t, needTool(t, "grub-mkimage", "grub-common"), "-O", "x86_64-efi", "-d", filepath.Join(parts, "usr/lib/grub/x86_64-efi"), "-p", fedoraPrefix,
		"-o", filepath.Join(tree, "EFI/BOOT/grubx64.efi"), "part_gpt", "fat", "normal", "linux", "configfile", "echo", "test", "all_video")
	if l.after != nil {
		l.after(t, tree)
	}
	iso = filepath.Join(dir, liveName)
	run(t, needTool(t, "xorriso", "xorriso"), "-as", "mkisofs", "-quiet", "-r", "-iso-level", "3", "-V", "Fedora-WS-Live-43", "-o", iso, tree)
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

// A root of each form comes out as it went in, with the session laid over it; the
// image is one that tools find nothing wrong with; one of them boots.
func TestFedora(t *testing.T) {
	fedoraNeeds(t)
	k, parts := debianParts(t)
	for _, format := range []string{"squashfs", "erofs", "ext4"} {
		t.Run(format, func(t *testing.T) {
			l := liveISO{format: format, lacking: []string{"cage", "chromium"}, dnf: "echo \"$*\" >/etc/test-dnf; touch /var/lib/test/cage /var/lib/test/chromium"}
			iso, checksum, root := l.make(t, k, parts)
			r, err := Fedora(t.Context(), FedoraOptions{LiveISO: iso, Want: ISODigest{Checksum: checksum}, DebianOptions: DebianOptions{WorkDir: debs, OutDir: t.TempDir()}})
			if err != nil {
				t.Fatal(err)
			}
			if r.Manifest.Flavor != "fedora" || r.Manifest.Fedora != "43-1.6" || !strings.HasSuffix(r.Dir, "fedora/amd64/2026-11-01") {
				t.Errorf("manifest %s %s in %s", r.Manifest.Flavor, r.Manifest.Fedora, r.Dir)
			}
			checkFedoraImage(t, r, root)
			nothingLeft(t, debs)
			if format == "erofs" {
				boot(t, r.Image, "disk", "uefi", "^ISOFS-OK$")
			}
		})
	}
}

// checkFedoraImage looks into the image.
func checkFedoraImage(t *testing.T, r *Result, root string) {
	t.Helper()
	f, err := os.Open(r.Image)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := r.Manifest.Verify(t.Context(), f, r.Manifest.TotalSize, nil); err != nil {
		t.Error(err)
	}
	if out := run(t, needTool(t, "sgdisk", "gdisk"), "--verify", r.Image); !strings.Contains(out, "No problems found") {
		t.Errorf("sgdisk: %s", out)
	}
	esp := fmt.Sprintf("%s@@%d", r.Image, espStart)
	if out := run(t, needTool(t, "mdir", "mtools"), "-b", "-/", "-i", esp, "::/"); !strings.Contains(out, "/EFI/fedora/grub.cfg") ||
		!strings.Contains(out, "/EFI/BOOT/BOOTX64.EFI") || !strings.Contains(out, "/boot/initrd.img") || !strings.Contains(out, "/EFI/BOOT/grub.cfg") {
		t.Errorf("the ESP has:\n%s", out)
	}
	tree := unpackLiveOf(t, r)
	want, got := describeTree(t, filepath.Join(root, "odd")), describeTree(t, filepath.Join(tree, "odd"))
	if !slices.Equal(want, got) {
		t.Errorf("the root's files came out as\n%s\nand went in as\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	for path, want := range map[string]string{
		"etc/test-dnf": "install cage chromium\n", "etc/test-dracut": "--kver 6.1-test --add dmsquash-live", "etc/test-systemctl": "enable isofs-piece.service",
		"usr/lib/isofs/session": "#!/bin/sh", "etc/test-useradd": "kiosk", "usr/lib/os-release": "ID=fedora",
	} {
		if data, err := os.ReadFile(filepath.Join(tree, path)); err != nil || !bytes.Contains(data, []byte(want)) {
			t.Errorf("%s has %q (%v), want %q", path, data, err, want)
		}
	}
	if info, err := os.Stat(filepath.Join(tree, "usr/lib/isofs/session")); err != nil || info.Mode() != 0o755 {
		t.Errorf("the session is no program: %v", err)
	}
	if data, _ := os.ReadFile(filepath.Join(tree, "etc/resolv.conf")); string(data) != "nameserver 192.0.2.1\n" {
		t.Errorf("this machine's resolv.conf is in the base: %q", data)
	}
}

// unpackLiveOf unpacks the EROFS of an image by the tools that the bake got.
func unpackLiveOf(t *testing.T, r *Result) (tree string) {
	t.Helper()
	dir := t.TempDir()
	out := run(t, needTool(t, "sgdisk", "gdisk"), "-i", "2", r.Image)
	var first, last int64
	for line := range strings.Lines(out) {
		_, _ = fmt.Sscanf(line, "First sector: %d", &first)
		_, _ = fmt.Sscanf(line, "Last sector: %d", &last)
	}
	volume := filepath.Join(dir, "live")
	run(t, "dd", "if="+r.Image, "of="+volume, "bs=512", fmt.Sprint("skip=", first), fmt.Sprint("count=", last-first+1), "status=none")
	if out := run(t, needTool(t, "e2fsck", "e2fsprogs"), "-fn", volume); strings.Contains(out, "?") {
		t.Errorf("e2fsck: %s", out)
	}
	erofs := filepath.Join(dir, "erofs")
	run(t, needTool(t, "debugfs", "e2fsprogs"), "-R", "dump "+squashfsPath+" "+erofs, volume)
	f := &fedoraKitchen{kitchen: &kitchen{TinyOptions: TinyOptions{WorkDir: debs, Arch: "amd64", Progress: func(string, int64, int64) {}}, scratch: t.TempDir()}}
	tools, err := findFedoraTools(false)
	if err != nil {
		t.Fatal(err)
	}
	f.run = &runner{tools: tools, log: discard}
	if err := f.erofsTools(t.Context()); err != nil {
		t.Fatal(err)
	}
	tree = filepath.Join(dir, "tree")
	if err := f.unpackImage(t.Context(), erofs, tree); err != nil {
		t.Fatal(err)
	}
	// The judge of the file system itself.
	command := f.erofsCommand("fsck.erofs", erofs)
	run(t, command[0], command[1:]...)
	return tree
}

// nothingLeft looks for what an ended bake must not leave.
func nothingLeft(t *testing.T, work string) {
	t.Helper()
	mounts, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(mounts), work) {
		t.Errorf("something is mounted under %s:\n%s", work, mounts)
	}
	for _, pattern := range []string{scratchPattern, "steps/*/*.tmp"} {
		if left, _ := filepath.Glob(filepath.Join(work, pattern)); len(left) > 0 {
			t.Errorf("%v is left", left)
		}
	}
	loops, _ := filepath.Glob("/sys/block/loop*/loop/backing_file")
	for _, loop := range loops {
		if file, _ := os.ReadFile(loop); strings.HasPrefix(string(file), work) {
			t.Errorf("%s is a loop device over %s", loop, file)
		}
	}
}

// What is wrong is said, and leaves nothing.
func TestFedoraBadInput(t *testing.T) {
	fedoraNeeds(t)
	k, parts := debianParts(t)
	remove := func(path string) func(*testing.T, string) {
		return func(t *testing.T, root string) {
			if err := os.RemoveAll(filepath.Join(root, path)); err != nil {
				t.Fatal(err)
			}
		}
	}
	for name, c := range map[string]struct {
		live   liveISO
		change func(t *testing.T, o *FedoraOptions)
		kind   error
		want   string
	}{
		"no LiveOS":      {liveISO{after: remove("LiveOS")}, nil, fault.NotFound, "has no /LiveOS/squashfs.img: it is no live system"},
		"unknown format": {liveISO{}, nil, fault.Invalid, "squashfs.img is neither EROFS nor squashfs nor ext4"},
		"unknown inner format": {liveISO{format: "squashfs", change: func(t *testing.T, root string) {
			put(t, 0o644, strings.Repeat("noise", 1000), root, "LiveOS/rootfs.img")
		}}, nil, fault.Invalid, "LiveOS/rootfs.img in it: rootfs.img is neither"},
		"cut off": {liveISO{format: "squashfs", after: func(t *testing.T, tree string) {
			if err := os.Truncate(filepath.Join(tree, squashfsPath), 1<<20); err != nil {
				t.Fatal(err)
			}
		}}, nil, fault.Corrupt, "squashfs.img is cut off"},
		"damaged": {liveISO{format: "squashfs", after: func(t *testing.T, tree string) {
			f, err := os.OpenFile(filepath.Join(tree, squashfsPath), os.O_WRONLY, 0)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			if _, err := f.WriteAt(bytes.Repeat([]byte("damage"), 100000), 200); err != nil {
				t.Fatal(err)
			}
		}}, nil, fault.Corrupt, "the squashfs is damaged"},
		"no kernel":  {liveISO{format: "squashfs", change: remove("usr/lib/modules/6.1-test/vmlinuz")}, nil, fault.NotFound, "no kernel found"},
		"no modules": {liveISO{format: "squashfs", change: remove("usr/lib/modules")}, nil, fault.NotFound, "has 0 kernels"},
		"no shim":    {liveISO{format: "squashfs", after: remove("EFI/BOOT/BOOTX64.EFI")}, nil, fault.NotFound, "has no EFI/BOOT/BOOTX64.EFI"},
		"other release": {liveISO{format: "squashfs", change: func(t *testing.T, root string) {
			put(t, 0o644, "ID=fedora\nVERSION_ID=42\n", root, "usr/lib/os-release")
		}}, nil, fault.Invalid, "says Fedora 43, the root file system in it 42"},
		"lacking":   {liveISO{format: "squashfs", lacking: []string{"cage", "seatd"}}, func(_ *testing.T, o *FedoraOptions) { o.NoInstall = true }, fault.NotFound, "forbids to install: cage seatd"},
		"dnf fails": {liveISO{format: "squashfs", lacking: []string{"cage"}, dnf: "echo no network >&2; exit 1"}, nil, fault.Unavailable, "no network"},
		"not an ISO": {liveISO{}, func(t *testing.T, o *FedoraOptions) {
			put(t, 0o644, strings.Repeat("no ISO", 10000), o.LiveISO)
		}, fault.Invalid, "is no ISO 9660"},
		"wrong checksum": {liveISO{}, func(_ *testing.T, o *FedoraOptions) {
			o.Want = ISODigest{SHA256: strings.Repeat("0", 64)}
		}, fault.Corrupt, "is demanded: download it again"},
		"not named": {liveISO{}, func(t *testing.T, o *FedoraOptions) {
			put(t, 0o644, "SHA256 (x.iso) = "+strings.Repeat("0", 64), o.Want.Checksum)
		}, fault.NotFound, "does not name " + liveName},
		"no checksum": {liveISO{}, func(_ *testing.T, o *FedoraOptions) { o.Want = ISODigest{} }, fault.Invalid, "nothing says which ISO is meant"},
		"not signed":  {liveISO{}, func(_ *testing.T, o *FedoraOptions) { o.Want.Keyring = "/dev/null" }, fault.Corrupt, "check the signature"},
	} {
		t.Run(name, func(t *testing.T) {
			iso, checksum, _ := c.live.make(t, k, parts)
			out := t.TempDir()
			o := FedoraOptions{LiveISO: iso, Want: ISODigest{Checksum: checksum}, DebianOptions: DebianOptions{WorkDir: debs, OutDir: out}}
			if c.change != nil {
				c.change(t, &o)
			}
			_, err := Fedora(t.Context(), o)
			if fault.Kind(err) != c.kind || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q of kind %v", err, c.want, c.kind)
			}
			nothingLeft(t, debs)
			if left, _ := filepath.Glob(filepath.Join(out, "fedora/amd64/*")); len(left) > 0 {
				t.Errorf("%v is left", left)
			}
		})
	}
}

// A bake that is ended while it installs leaves neither mounts nor processes, and
// the next one makes the base.
func TestFedoraEnded(t *testing.T) {
	fedoraNeeds(t)
	k, parts := debianParts(t)
	l := liveISO{format: "squashfs", lacking: []string{"cage"}, dnf: "if [ ! -e /var/cache/dnf/started ]; then touch /var/cache/dnf/started; sleep 1000; fi; touch /var/lib/test/cage"}
	iso, _, _ := l.make(t, k, parts)
	sum, err := fileSum(iso)
	if err != nil {
		t.Fatal(err)
	}
	started := filepath.Join(debs, "dnf", "started")
	if err := os.RemoveAll(started); err != nil {
		t.Fatal(err)
	}
	o := FedoraOptions{LiveISO: iso, Want: ISODigest{SHA256: fmt.Sprintf("%x", sum)}, DebianOptions: DebianOptions{WorkDir: debs, OutDir: t.TempDir()}}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	done := make(chan error, 1)
	go func() {
		_, err := Fedora(ctx, o)
		done <- err
	}()
	for {
		if _, err := os.Stat(started); err == nil {
			break
		}
		select {
		case err := <-done:
			t.Fatalf("ended before it installed: %v", err)
		case <-time.After(time.Millisecond):
		}
	}
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) || fault.Kind(err) != fault.Unavailable {
		t.Errorf("got %v", err)
	}
	nothingLeft(t, debs)
	if out, err := exec.Command("sh", "-c", "ls -l /proc/[0-9]*/root 2>/dev/null").Output(); err == nil && strings.Contains(string(out), debs) {
		t.Errorf("a process is left in the root:\n%s", out)
	}
	first, err := Fedora(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	// The same again, from its steps and then without them.
	for _, forget := range []bool{false, true} {
		if forget {
			if err := os.RemoveAll(filepath.Join(debs, "steps")); err != nil {
				t.Fatal(err)
			}
		}
		again, err := Fedora(t.Context(), o)
		if err != nil {
			t.Fatal(err)
		}
		if !again.Unchanged || again.Manifest.SHA256 != first.Manifest.SHA256 {
			t.Errorf("another base the second time: %s and %s", first.Manifest.SHA256, again.Manifest.SHA256)
		}
	}
}

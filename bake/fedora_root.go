package bake

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"aesthetic.computer/isofs/fault"
)

// The stages of the flavor fedora, beside those of the flavor debian.
const (
	stageTools  = "EROFS tools"
	stageUnpack = "unpack the live system"
)

// root makes the root file system, and beside it the files that boot it:
//
//	tree/               the root, without the contents of /boot
//	efi/                shim and GRUB of the ISO
//	vmlinuz initrd.img
//	packages            name and version of each
//	release             Fedora's, such as 43-1.6
//
// It is one step, as no bake can continue a half-changed tree. The downloads of
// dnf stay in the work directory.
func (f *fedoraJob) root(ctx context.Context) (dir string, err error) {
	dir = filepath.Join(f.steps, "root")
	if err := f.erofsTools(ctx); err != nil {
		return "", err
	}
	err = step{dir}.do(func(tmp string) error {
		f.Progress(stageUnpack, 0, 3)
		iso, tree := f.path("iso"), filepath.Join(tmp, "tree")
		if err := f.unpackISO(ctx, iso); err != nil {
			return err
		}
		f.Progress(stageUnpack, 1, 3)
		if err := takeBoot(iso, filepath.Join(tmp, "efi")); err != nil {
			return err
		}
		if err := f.unpackLive(ctx, filepath.Join(iso, squashfsPath), tree); err != nil {
			return fmt.Errorf("unpack the root file system in %s: %w", squashfsPath, err)
		}
		f.Progress(stageUnpack, 3, 3)
		name, err := f.release.osRelease(tree)
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(tmp, "release"), []byte(name), 0o644); err != nil {
			return err
		}
		if _, _, err := findKernel(tree, iso); err != nil {
			return err
		}
		if err := f.install(ctx, tree); err != nil {
			return err
		}
		return f.finish(ctx, tmp, tree, iso)
	})
	return dir, err
}

// unpackLive unpacks LiveOS/squashfs.img: the root file system, or an ext4 with
// it, as in Fedora until 2024. Owners, modes, links and extended attributes
// stay, with SELinux's labels and capabilities.
func (f *fedoraJob) unpackLive(ctx context.Context, image, tree string) error {
	if err := f.unpackImage(ctx, image, tree); err != nil {
		return err
	}
	if err := os.Remove(image); err != nil { // it is 2 GB
		return err
	}
	f.Progress(stageUnpack, 2, 3)
	inner := filepath.Join(tree, "LiveOS", "rootfs.img")
	if _, err := os.Lstat(inner); err != nil {
		return nil
	}
	moved := f.path("rootfs.img")
	if err := errors.Join(os.Rename(inner, moved), os.RemoveAll(tree)); err != nil {
		return err
	}
	defer os.Remove(moved)
	if err := f.unpackImage(ctx, moved, tree); err != nil {
		return fmt.Errorf("LiveOS/rootfs.img in it: %w", err)
	}
	return nil
}

// A format is that of a file system's image.
type format string

const (
	formatEROFS    format = "EROFS"
	formatSquashfs format = "squashfs"
	formatExt4     format = "ext4"
)

// formatOf recognizes a file system by its magic number. It refuses one that
// claims to be larger than its file.
func formatOf(path string) (format, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return "", err
	}
	p := make([]byte, 2048)
	if _, err := f.ReadAt(p, 0); err != nil && !errors.Is(err, io.EOF) {
		return "", err
	}
	var found format
	var size uint64
	le := binary.LittleEndian
	switch sb := p[1024:]; {
	case string(p[:4]) == "hsqs":
		found, size = formatSquashfs, le.Uint64(p[40:])
	case le.Uint32(sb) == 0xe0f5e1e2:
		found, size = formatEROFS, uint64(le.Uint32(sb[36:]))<<(sb[12]&31)
	case le.Uint16(sb[56:]) == 0xef53:
		found, size = formatExt4, uint64(le.Uint32(sb[4:]))<<(10+le.Uint32(sb[24:])&7)
	default:
		return "", fmt.Errorf("%s is neither EROFS nor squashfs nor ext4, it begins with % x: %w", filepath.Base(path), p[:8], fault.Invalid)
	}
	if size > uint64(info.Size()) {
		return "", fmt.Errorf("%s is cut off: its %s has %d bytes, the file %d: download the ISO again: %w", filepath.Base(path), found, size, info.Size(), fault.Corrupt)
	}
	return found, nil
}

// unpackImage unpacks a file system into tree, which it makes.
func (f *fedoraJob) unpackImage(ctx context.Context, image, tree string) error {
	kind, err := formatOf(image)
	if err != nil {
		return err
	}
	switch kind {
	case formatSquashfs:
		_, err = f.run.output(ctx, f.scratch, "unsquashfs", "-n", "-strict-errors", "-d", tree, image)
	// fsck.erofs --extract loses capabilities, as it sets the owner afterwards.
	// debugfs loses all extended attributes, and makes two files of a hard
	// link.
	case formatEROFS:
		err = f.copyMounted(ctx, tree, f.erofsCommand("erofsfuse", image))
	case formatExt4:
		err = f.copyMounted(ctx, tree, []string{f.run.tools["fuse2fs"], "-o", "ro,norecovery", image})
	}
	var tool *toolError
	if errors.As(err, &tool) && ctx.Err() == nil && !strings.Contains(tool.Output, "No space left") {
		return fmt.Errorf("the %s is damaged, or this machine's tools are older than it: %w: %w", kind, fault.Corrupt, err)
	}
	return err
}

// copyMounted copies to tree the file system that a FUSE command mounts. The
// mount is in a name space that ends with the copy.
func (f *fedoraJob) copyMounted(ctx context.Context, tree string, command []string) error {
	const script = `at=$1 tree=$2 cp=$3; shift 3; mkdir -p "$at" "$tree" && "$@" "$at" && "$cp" -dR --preserve=mode,ownership,timestamps,links,xattr "$at/." "$tree/"`
	_, err := f.run.output(ctx, f.scratch, "unshare", slices.Concat(unshared, []string{"sh", "-c", script, "sh", f.path("mounted"), tree, f.run.tools["cp"]}, command)...)
	return err
}

// inRoot runs root.sh in separate name spaces.
func (f *fedoraJob) inRoot(ctx context.Context, verb, tree string, args ...string) (string, error) {
	script := f.path("root.sh")
	if err := os.WriteFile(script, f.recipe.finish, 0o755); err != nil {
		return "", err
	}
	return f.run.output(ctx, f.scratch, "unshare", slices.Concat(unshared, []string{"sh", script, verb, tree}, args)...)
}

// install installs the packages of the recipe that the root lacks.
func (f *fedoraJob) install(ctx context.Context, tree string) error {
	f.Progress(stageInstall, 0, 1)
	out, err := f.inRoot(ctx, "missing", tree, f.recipe.packages...)
	if err != nil {
		return fmt.Errorf("look for installed packages: %w", err)
	}
	missing := strings.Fields(out)
	switch {
	case len(missing) > 0 && f.noInstall:
		return fmt.Errorf("the ISO lacks packages, which --no-install forbids to install: %s: %w", strings.Join(missing, " "), fault.NotFound)
	case len(missing) > 0:
		cache := filepath.Join(f.WorkDir, "dnf")
		if err := os.MkdirAll(cache, 0o755); err != nil {
			return err
		}
		if _, err := f.inRoot(ctx, "install", tree, append([]string{cache}, missing...)...); err != nil {
			return fmt.Errorf("install %s by dnf, from the network: %w", strings.Join(missing, " "), err)
		}
		if out, err = f.inRoot(ctx, "missing", tree, f.recipe.packages...); err != nil || out != "" {
			return errors.Join(fmt.Errorf("dnf ended well, but these are not installed: %s: %w", strings.Join(strings.Fields(out), " "), fault.Unavailable), err)
		}
	}
	f.Progress(stageInstall, 1, 1)
	return nil
}

// findKernel finds the one kernel of the root, and its release. If the root
// lacks the kernel's file, it is the one that the ISO boots.
func findKernel(tree, iso string) (path, release string, err error) {
	modules, err := filepath.Glob(filepath.Join(tree, "usr/lib/modules/*/modules.builtin"))
	if err != nil {
		return "", "", err
	}
	if len(modules) != 1 {
		return "", "", fmt.Errorf("the root file system in the ISO has %d kernels (usr/lib/modules), expected one: %w", len(modules), fault.NotFound)
	}
	release = filepath.Base(filepath.Dir(modules[0]))
	for _, path := range []string{
		filepath.Join(tree, "usr/lib/modules", release, "vmlinuz"), filepath.Join(tree, "boot/vmlinuz-"+release),
		filepath.Join(iso, "boot/x86_64/loader/linux"), filepath.Join(iso, "images/pxeboot/vmlinuz"),
	} {
		if info, err := os.Lstat(path); err == nil && info.Mode().IsRegular() {
			return path, release, nil
		}
	}
	return "", "", fmt.Errorf("no kernel found: neither usr/lib/modules/%[1]s/vmlinuz nor boot/vmlinuz-%[1]s in the root, nor one in the ISO: %[2]w", release, fault.NotFound)
}

// finish lays the recipe over the root and moves out the files that boot it.
func (f *fedoraJob) finish(ctx context.Context, dir, tree, iso string) error {
	f.Progress(stageRootfs, 0, 1)
	kernel, release, err := findKernel(tree, iso)
	if err != nil {
		return err
	}
	overlay := f.path("overlay")
	customize, err := f.recipe.writeScripts(f.scratch)
	err = errors.Join(err, copyFile(filepath.Join(dir, "vmlinuz"), kernel), f.recipe.write(overlay, f.time()))
	if err != nil {
		return err
	}
	config, err := readFirst(tree, "usr/lib/modules/"+release+"/config", "boot/config-"+release)
	if err != nil {
		f.Log.Warn("the kernel's configuration is not known", "release", release)
	}
	ways, err := compressors(string(config))
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, "compressor"), []byte(ways), 0o644); err != nil {
		return err
	}
	if _, err := f.inRoot(ctx, "finish", tree, overlay, customize, release, dir); err != nil {
		return fmt.Errorf("lay the session over the root file system: %w", err)
	}
	f.Progress(stageRootfs, 1, 1)
	return nil
}

// compressors returns the compressor of mkfs.erofs, which the kernel with this
// configuration must read. zstd comes first, as LZMA is smaller but unpacks
// several times slower. An unknown kernel reads LZ4.
func compressors(config string) (string, error) {
	has := func(option string) bool {
		return strings.Contains("\n"+config, "\n"+option+"=y") || strings.Contains("\n"+config, "\n"+option+"=m")
	}
	switch {
	case config != "" && !has("CONFIG_EROFS_FS"):
		return "", fmt.Errorf("the kernel in the ISO has no EROFS: %w", fault.Invalid)
	case has("CONFIG_EROFS_FS_ZIP_ZSTD"):
		return erofsZstd, nil
	case has("CONFIG_EROFS_FS_ZIP_LZMA"):
		return "lzma,level=6", nil
	}
	return "lz4hc,level=9", nil
}

// compress makes the EROFS of the root and returns its path.
func (f *fedoraJob) compress(ctx context.Context, root string) (path string, err error) {
	f.Progress(stageCompress, 0, 1)
	dir := filepath.Join(f.steps, "erofs")
	err = step{dir}.do(func(tmp string) error {
		compressor, err := os.ReadFile(filepath.Join(root, "compressor"))
		if err != nil {
			return err
		}
		command := f.erofsCommand("mkfs.erofs", append(f.erofsOptions(string(compressor)), filepath.Join(tmp, "rootfs.erofs"), filepath.Join(root, "tree"))...)
		_, err = f.run.output(ctx, f.scratch, "unshare", append([]string{"--fork", "--kill-child"}, command...)...)
		return err
	})
	if err != nil {
		return "", fmt.Errorf("compress the root file system: %w", err)
	}
	f.Progress(stageCompress, 1, 1)
	return filepath.Join(dir, "rootfs.erofs"), nil
}

// erofsTools finds an erofsfuse and an mkfs.erofs with all compressors, as from
// version 1.8 on. They are this machine's, or those of the flavor debian's
// release, unpacked in the work directory.
func (f *fedoraJob) erofsTools(ctx context.Context) error {
	if own, err := findToolsIn(searchPath(), map[string]string{"erofsfuse": "erofsfuse"}); err == nil {
		help, err := f.run.output(ctx, f.scratch, "mkfs.erofs", "--help")
		if err == nil && strings.Contains(help, "zstd") {
			f.run.tools["erofsfuse"] = own["erofsfuse"]
			return nil
		}
	}
	f.Progress(stageTools, 0, 1)
	dir := filepath.Join(f.WorkDir, "tools", "erofs-utils-"+DebianRelease)
	err := step{dir}.do(func(tmp string) error {
		tools, err := findToolsIn(searchPath(), map[string]string{"mmdebstrap": "mmdebstrap"})
		if err != nil {
			return err
		}
		f.run.tools["mmdebstrap"] = tools["mmdebstrap"]
		from := archive{main: f.mirror}
		if from.main == "" {
			if from, err = hostArchive("/etc/apt"); err != nil {
				return err
			}
		}
		tar := f.path("erofs-utils.tar")
		args := append([]string{"--variant=extract", "--architectures=" + f.Arch, "--format=tar", "--include=erofs-utils,erofsfuse", DebianRelease, tar}, from.lines()...)
		if _, err := f.run.output(ctx, f.scratch, "mmdebstrap", args...); err != nil {
			return err
		}
		_, err = f.run.output(ctx, f.scratch, "tar", "-x", "-f", tar, "-C", tmp, "./usr")
		return err
	})
	if err != nil {
		return fmt.Errorf("get erofs-utils 1.8 or later, since this machine's do not know zstd, or erofsfuse is missing: %w", err)
	}
	lib := filepath.Join(dir, "usr/lib/x86_64-linux-gnu")
	f.run.tools["ld.so"] = filepath.Join(lib, "ld-linux-x86-64.so.2")
	f.Progress(stageTools, 1, 1)
	return nil
}

// erofsCommand is the command line of a tool that erofsTools found.
func (f *fedoraJob) erofsCommand(tool string, args ...string) []string {
	loader := f.run.tools["ld.so"]
	if loader == "" {
		return append([]string{f.run.tools[tool]}, args...)
	}
	lib := filepath.Dir(loader)
	return append([]string{loader, "--library-path", lib, filepath.Join(lib, "../../bin", tool)}, args...)
}

package bake

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"aesthetic.computer/isofs/fault"
)

// The stages of a bake of the flavor debian, beside those of every bake.
const (
	stageInstall  = "install packages"
	stageRootfs   = "root file system"
	stageCompress = "compress"
)

// A step is the folder of a long step. The folder gets its name when it is
// whole, so an existing one can be used.
type step struct{ dir string }

// do makes the step unless it exists: make fills a folder.
func (s step) do(make func(dir string) error) error {
	if _, err := os.Stat(s.dir); err == nil {
		return nil
	}
	tmp := s.dir + ".tmp"
	if err := os.RemoveAll(tmp); err != nil {
		return err
	}
	if err := os.MkdirAll(tmp, 0o755); err != nil {
		return err
	}
	if err := make(tmp); err != nil {
		_ = os.RemoveAll(tmp) // else the next bake does
		return err
	}
	return os.Rename(tmp, s.dir)
}

// pruneSteps removes leftovers of killed bakes in the folder dir. If all is
// set, it also removes the steps of other recipes than those in keep: each is
// some 2 GB.
func pruneSteps(dir string, all bool, keep ...string) {
	recipes, _ := filepath.Glob(filepath.Join(dir, "*"))
	for _, r := range recipes {
		if all && !slices.Contains(keep, r) {
			_ = os.RemoveAll(r) // what cannot be removed now, the next bake removes
			continue
		}
		parts, _ := filepath.Glob(filepath.Join(r, "*.tmp"))
		for _, p := range parts {
			_ = os.RemoveAll(p)
		}
	}
}

// install makes the root file system of Debian's packages alone:
//
//	installed.tar
//	packages       name and version of each
//
// It is the longest step, and independent of the files laid over it.
func (d *debianJob) install(ctx context.Context) (dir string, err error) {
	dir = filepath.Join(d.installed, "install")
	d.Progress(stageInstall, 0, installPhases)
	err = step{dir}.do(func(tmp string) error {
		args, err := d.mmdebstrap(tmp)
		if err != nil {
			return err
		}
		phase := int64(0)
		err = d.run.follow(ctx, d.scratch, func(line string) {
			if strings.HasPrefix(line, "I: ") {
				phase++
				d.Progress(stageInstall, min(phase, installPhases-1), installPhases)
			}
		}, "unshare", args...)
		if err != nil {
			return fmt.Errorf("install the packages: %w", err)
		}
		return nil
	})
	if err == nil {
		d.Progress(stageInstall, installPhases, installPhases)
	}
	return dir, err
}

// installFormat changes with the way of installing, and so does the folder.
const installFormat = "1"

// installPhases is roughly how many phases mmdebstrap prints ("I: ...").
const installPhases = 12

// unshared begins the command of unshare(1). A command that runs so has its
// mounts in separate name spaces, and ends with this process, together with all
// its children. So nothing stays mounted, however the bake ends. Mounts of
// isofs are released first. A copy in another name space would keep them alive,
// and a server that unmounts would wait until the bake ends.
var unshared = []string{
	"--mount", "--propagation", "private", "--pid", "--fork", "--kill-child", "--mount-proc",
	"sh", "-c", `umount -l -a -t fuse.isofs 2>/dev/null; exec "$@"`, "sh",
}

// mmdebstrap is the command that installs the packages, for unshare.
func (d *debianJob) mmdebstrap(out string) ([]string, error) {
	archives := filepath.Join(d.WorkDir, "archives")
	if err := os.MkdirAll(filepath.Join(archives, "partial"), 0o755); err != nil {
		return nil, err
	}
	for _, path := range []string{archives, out} {
		if strings.ContainsAny(path, " '\"\\$`") {
			return nil, fmt.Errorf("the work directory's path %q has a space or quote in it, which mmdebstrap's hooks do not take: choose another: %w", path, fault.Invalid)
		}
	}
	args := slices.Concat(unshared, []string{
		// The initrd is made once, when all its contents exist.
		"env", "INITRD=No", "TMPDIR=" + d.scratch, d.run.tools["mmdebstrap"],
		"--variant=minbase", "--architectures=" + d.Arch, "--format=tar", "--include=" + strings.Join(d.recipe.packages, ","),
		"--aptopt=APT::Install-Recommends false", "--aptopt=Acquire::Retries 3",
		"--dpkgopt=path-exclude=/usr/share/man/*", "--dpkgopt=path-exclude=/usr/share/info/*", "--dpkgopt=path-exclude=/usr/share/locale/*",
		// Packages stay in the work directory, also those of a killed bake.
		"--skip=essential/unlink,download/empty",
		`--setup-hook=mkdir -p "$1/var/cache/apt/archives" && mount --bind ` + archives + ` "$1/var/cache/apt/archives"`,
		`--customize-hook=umount "$1/var/cache/apt/archives"`,
		`--customize-hook=chroot "$1" dpkg-query -W -f '${Package} ${Version}\n' >` + filepath.Join(out, "packages"),
		DebianRelease, filepath.Join(out, "installed.tar"),
	})
	return append(args, d.archive.lines()...), nil
}

// rootfsTar lays the recipe over the packages of the folder installed. It makes
// the root file system in a tar, and beside it the files that boot it:
//
//	rootfs.tar
//	tree/        boot/, usr/lib/shim, usr/lib/grub
func (d *debianJob) rootfsTar(ctx context.Context, installed string) (dir string, err error) {
	d.Progress(stageRootfs, 0, 1)
	dir = filepath.Join(d.steps, "rootfs")
	err = step{dir}.do(func(tmp string) error {
		overlay, finish := d.path("overlay"), d.path("finish.sh")
		customize, err := d.recipe.writeScripts(d.scratch)
		err = errors.Join(err, d.recipe.write(overlay, d.time()), os.WriteFile(finish, d.recipe.finish, 0o755))
		if err != nil {
			return err
		}
		args := append(slices.Clone(unshared), "sh", finish, filepath.Join(installed, "installed.tar"), overlay, customize, tmp)
		_, err = d.run.output(ctx, d.scratch, "unshare", args...)
		return err
	})
	if err != nil {
		return "", fmt.Errorf("make the root file system: %w", err)
	}
	d.Progress(stageRootfs, 1, 1)
	return dir, nil
}

// erofsFiles are mkfs.erofs of the release, its loader and libraries: this
// machine's mkfs.erofs may have fewer compressors.
var erofsFiles = []string{
	"./usr/bin/mkfs.erofs", "./usr/lib64/ld-linux-x86-64.so.2", "./usr/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2",
	"./usr/lib/x86_64-linux-gnu/lib[ceglmpsuz]*.so.[0-9]*",
}

// The compression of roots that people boot. The measurements are in
// bench/RESULTS.md. Both are inputs of the hash that names a result.
const (
	erofsZstd    = "zstd,level=12"
	erofsCluster = "524288" // bytes that are compressed together, at most
)

// erofsOptions are those of mkfs.erofs for such a root.
func (j *job) erofsOptions(compressor string) []string {
	return []string{"-T", fmt.Sprint(j.SourceDateEpoch), "-U", erofsUUID, "-z", compressor, "-C", erofsCluster, "-E", "ztailpacking"}
}

// compress makes the EROFS of the root file system's tar and returns its path.
func (d *debianJob) compress(ctx context.Context, rootfs string) (path string, err error) {
	d.Progress(stageCompress, 0, 1)
	dir := filepath.Join(d.steps, "erofs")
	err = step{dir}.do(func(tmp string) error {
		tar, tools := filepath.Join(rootfs, "rootfs.tar"), d.path("erofs-utils")
		if err := os.Mkdir(tools, 0o755); err != nil {
			return err
		}
		if _, err := d.run.output(ctx, d.scratch, "tar", append([]string{"-x", "-f", tar, "-C", tools, "--wildcards"}, erofsFiles...)...); err != nil {
			return err
		}
		lib := filepath.Join(tools, "usr/lib/x86_64-linux-gnu")
		d.run.tools["ld.so"] = filepath.Join(lib, "ld-linux-x86-64.so.2")
		args := slices.Concat([]string{"--library-path", lib, filepath.Join(tools, "usr/bin/mkfs.erofs")},
			d.erofsOptions(erofsZstd), []string{"--tar=f", filepath.Join(tmp, "rootfs.erofs"), tar})
		_, err := d.run.output(ctx, d.scratch, "ld.so", args...)
		return err
	})
	if err != nil {
		return "", fmt.Errorf("compress the root file system: %w", err)
	}
	d.Progress(stageCompress, 1, 1)
	return filepath.Join(dir, "rootfs.erofs"), nil
}

// packageVersions reads the list of a base's packages.
func packageVersions(path string) (found []Package, err error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	for line := range strings.Lines(string(data)) {
		name, version, ok := strings.Cut(strings.TrimSpace(line), " ")
		if !ok {
			return nil, fmt.Errorf("%s has the line %.80q, expected a package and its version: %w", path, line, fault.Corrupt)
		}
		found = append(found, Package{Name: name, Version: version})
	}
	if len(found) == 0 {
		return nil, errors.Join(fmt.Errorf("%s names no package: %w", path, fault.Corrupt), fs.ErrInvalid)
	}
	return found, nil
}

// Package bake makes base images: bootable disks with an empty slot, and their
// manifests.
//
// The flavor tiny is a complete base of some 60 MB. A bake makes it in seconds
// from a few of Debian's own packages: shim, GRUB and kernel as Debian signed
// them. Its initramfs of busybox mounts the two other partitions, prints what
// it found in the slot, and stays. The tests boot it. It is the smallest
// machine that can show a slot.
//
// A bake of it is reproducible: the same packages and options give the same
// bytes. It needs no root, installs nothing, mounts nothing and uses no loop
// device.
//
// The flavor debian is the base that people boot: a splash, then the piece
// fullscreen in a browser. Its recipe is in kiosk/. It needs root, in separate
// name spaces.
//
// A bake that is killed leaves files only in its work directory. The next bake
// there clears or continues them. It never leaves half a version in the output.
//
// Other packages sign and publish.
package bake

import (
	"context"
	_ "embed" // GRUB's configuration
	"fmt"
	"log/slog"
	"path/filepath"
	"time"

	"aesthetic.computer/isofs/base"
	"aesthetic.computer/isofs/fault"
)

// DefaultEpoch is the default time of a base: 2026-11-01 00:00:00 UTC, in Unix
// seconds. It is a constant and not the clock, so that two bakes agree. Raise
// it, or pass another, for a base with a later version.
const DefaultEpoch = 1793491200

// DefaultKernelPackage is Debian's kernel for virtual machines: virtio, NVMe
// and Xen disks, no SATA and no USB. "linux-image-amd64" also boots real
// machines from a stick, with a download of 70 MB instead of 27.
const DefaultKernelPackage = "linux-image-cloud-amd64"

//go:embed grub.cfg
var grubConfig []byte

// Flavor is the flavor in the manifests that Tiny writes.
const Flavor = "tiny"

// File names in the folder of a version.
const (
	ImageName    = base.ImageName
	ManifestName = base.ManifestName
)

// TinyOptions are the inputs of Tiny.
type TinyOptions struct {
	// WorkDir keeps downloaded packages (debs/) between bakes, and the scratch
	// files of one. One bake at a time uses it.
	WorkDir string
	// OutDir gets <flavor>/<arch>/<version>/{base.iso,manifest.json}.
	OutDir string
	// Version is YYYY-MM-DD or YYYY-MM-DD.N; empty: the day of SourceDateEpoch.
	Version string
	// Arch is Debian's name of the architecture; empty, or "amd64".
	Arch string
	// KernelPackage is a kernel image or a metapackage that depends on one;
	// empty: DefaultKernelPackage.
	KernelPackage string
	// SourceDateEpoch is the only time in the image, in Unix seconds from 1980
	// (the first year of FAT) on; 0: DefaultEpoch.
	SourceDateEpoch int64
	// Progress, if not nil, gets the progress of a stage: bytes in "download"
	// and "index", steps in others.
	Progress func(stage string, done, total int64)
	// Log may be nil.
	Log *slog.Logger
}

// A Result is a finished bake.
type Result struct {
	Dir       string // OutDir/<flavor>/<arch>/<version>
	Image     string // path of base.iso
	Manifest  *base.Manifest
	Packages  []Package // contents of the base
	Unchanged bool      // the same base existed, and was left alone
}

// The stages of a bake, as Progress names them.
const (
	stagePackages  = "packages"
	stageDownload  = "download"
	stageExtract   = "extract"
	stageInitramfs = "initramfs"
	stageLive      = "live"
	stageImage     = "image"
	stageIndex     = "index"
)

// Tiny bakes the flavor tiny. See the package's comment.
//
// Errors are fault.Invalid for unusable options or directories, and for a
// version that exists with other bytes. They are fault.NotFound for missing
// tools and packages, with the command that gets them, and fault.Corrupt for a
// package that differs from the package list. They are fault.Unavailable for a
// failing download or tool, a full disk, a work directory in use, and ctx.
func Tiny(ctx context.Context, o TinyOptions) (*Result, error) {
	if err := o.complete(); err != nil {
		return nil, fmt.Errorf("bake %s: %w", Flavor, err)
	}
	tools, err := findTools()
	if err != nil {
		return nil, fmt.Errorf("bake %s: %w", Flavor, err)
	}
	work, err := openWorkspace(o.WorkDir)
	if err != nil {
		return nil, fmt.Errorf("bake %s: %w", Flavor, err)
	}
	defer work.close()
	j := &job{TinyOptions: o, run: &runner{tools: tools, epoch: o.SourceDateEpoch, log: o.Log}, scratch: work.scratch}
	r, err := j.bake(ctx)
	if err != nil {
		return nil, fmt.Errorf("bake %s %s: %w", Flavor, o.Version, kindOf(ctx, err))
	}
	return r, nil
}

// absolute makes paths independent of the current directory, since the programs
// of a bake run in others. It is called once, for the options. Empty paths
// stay.
func absolute(paths ...*string) error {
	for _, path := range paths {
		if *path == "" {
			continue
		}
		abs, err := filepath.Abs(*path)
		if err != nil {
			return fmt.Errorf("find %s: %w: %w", *path, fault.Unavailable, err)
		}
		*path = abs
	}
	return nil
}

// complete fills in the defaults and checks the rest.
func (o *TinyOptions) complete() error {
	if o.Arch == "" {
		o.Arch = "amd64"
	}
	if o.Arch != "amd64" {
		return fmt.Errorf("arch %q is not there yet, only amd64: its boot chain and kernel are other packages: %w", o.Arch, fault.Invalid)
	}
	var err error
	if o.WorkDir, err = workFolder(o.WorkDir); err != nil {
		return err
	}
	if o.OutDir == "" {
		return fmt.Errorf("a work and an output directory are needed: %w", fault.Invalid)
	}
	if err := absolute(&o.WorkDir, &o.OutDir); err != nil {
		return err
	}
	if o.KernelPackage == "" {
		o.KernelPackage = DefaultKernelPackage
	}
	if !packageName.MatchString(o.KernelPackage) {
		return fmt.Errorf("kernel package %.60q is not the name of a Debian package: %w", o.KernelPackage, fault.Invalid)
	}
	if o.SourceDateEpoch == 0 {
		o.SourceDateEpoch = DefaultEpoch
	}
	if y := o.time().Year(); y < 1980 || y > 2100 {
		return fmt.Errorf("source date epoch %d is in the year %d, not in 1980..2100: %w", o.SourceDateEpoch, y, fault.Invalid)
	}
	if o.Version == "" {
		o.Version = o.time().Format(time.DateOnly)
	}
	if o.Progress == nil {
		o.Progress = func(string, int64, int64) {}
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return base.CheckVersion(o.Version)
}

// time is the only time in the image.
func (o *TinyOptions) time() time.Time { return time.Unix(o.SourceDateEpoch, 0).UTC() }

// A job is one bake: options, tools and a scratch directory.
type job struct {
	TinyOptions
	run     *runner
	scratch string
}

// path returns a path in the scratch directory.
func (j *job) path(name ...string) string {
	return filepath.Join(append([]string{j.scratch}, name...)...)
}

func (j *job) bake(ctx context.Context) (*Result, error) {
	// First the checks that can fail for good, then the download.
	out, err := openOutput(filepath.Join(j.OutDir, Flavor, j.Arch, j.Version))
	if err != nil {
		return nil, err
	}
	defer out.close()
	packages, err := j.fetch(ctx)
	if err != nil {
		return nil, err
	}
	root, err := j.extract(ctx, packages)
	if err != nil {
		return nil, err
	}
	disk, err := j.contents(ctx, root, packages)
	if err != nil {
		return nil, err
	}
	m, unchanged, err := j.assemble(ctx, out, disk, edition{flavor: Flavor})
	if err != nil {
		return nil, err
	}
	return &Result{Dir: out.dir, Image: filepath.Join(out.dir, ImageName), Manifest: m, Packages: packages, Unchanged: unchanged}, nil
}

// contents makes the contents of the image.
func (j *job) contents(ctx context.Context, root string, packages []Package) (*hybrid, error) {
	baseID := j.baseID(packages)
	initrd, err := j.initramfs(ctx, root)
	if err != nil {
		return nil, fmt.Errorf("make the initramfs: %w", err)
	}
	live, err := j.live(ctx, baseID)
	if err != nil {
		return nil, fmt.Errorf("make FEDAC-LIVE: %w", err)
	}
	slot, err := j.placeholder(baseID)
	if err != nil {
		return nil, fmt.Errorf("make the placeholder's volume: %w", err)
	}
	return &hybrid{
		root: root,
		files: []espFile{
			{path: "/boot/vmlinuz", source: root + "/boot/vmlinuz-*"},
			{path: "/boot/initrd.img", source: initrd},
		},
		config: grubConfig,
		live:   live,
		slot:   slot,
		volume: "ISOFS_TINY",
		id:     identityTiny,
		time:   j.time(),
	}, nil
}

// baseID is the line that names the base on a booted machine.
func (j *job) baseID(packages []Package) string {
	id := fmt.Sprintf("%s %s %s", Flavor, j.Version, j.Arch)
	for _, p := range packages {
		id += fmt.Sprintf(" %s=%s", p.Name, p.Version)
	}
	return id
}

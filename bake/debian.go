package bake

import (
	"context"
	_ "embed" // GRUB's configuration
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"

	"aesthetic.computer/isofs/fault"
)

// FlavorDebian is the flavor in the manifests that Debian writes.
const FlavorDebian = "debian"

// DebianNeeds describes what a bake of the flavor debian needs.
const DebianNeeds = "It downloads some 360 MB, once, needs 5 GB of disk in the work directory, and takes 10 to 20 minutes."

// debianSpace is the disk space that it needs, in bytes.
const debianSpace = 5 << 30

// DebianOptions are the inputs of Debian.
type DebianOptions struct {
	// WorkDir keeps packages (archives/) and the results of the long steps
	// (steps/) between bakes. One bake at a time uses it.
	WorkDir string
	// OutDir gets debian/<arch>/<version>/{base.iso,manifest.json}.
	OutDir string
	// Version is YYYY-MM-DD or YYYY-MM-DD.N; empty: the day of SourceDateEpoch.
	Version string
	// Mirror is the address of Debian's archive; empty: that of this machine's
	// apt.
	Mirror string
	// SourceDateEpoch is the only time in the image; 0: DefaultEpoch.
	SourceDateEpoch int64
	// Trust are the keys that must sign pieces. Without keys, pieces need no
	// signature.
	Trust TrustKey
	// Progress, if not nil, gets the progress of a stage.
	Progress func(stage string, done, total int64)
	// Log may be nil.
	Log *slog.Logger
}

// Debian bakes the flavor debian, the base that people boot: splash, then the
// piece fullscreen in a browser. The long steps make the root file system and
// compress it. Their results stay in the work directory under a hash of the
// recipe. The next bake continues at the step in which one was stopped.
//
// Errors are as those of Tiny.
func Debian(ctx context.Context, o DebianOptions) (*Result, error) {
	fail := func(err error) (*Result, error) {
		return nil, fmt.Errorf("bake %s: %w", FlavorDebian, kindOf(ctx, err))
	}
	tiny := TinyOptions{WorkDir: o.WorkDir, OutDir: o.OutDir, Version: o.Version, SourceDateEpoch: o.SourceDateEpoch, Progress: o.Progress, Log: o.Log}
	if err := tiny.complete(); err != nil {
		return fail(err)
	}
	o.WorkDir, o.OutDir = tiny.WorkDir, tiny.OutDir // absolute now
	tools, err := findDebianTools()
	if err != nil {
		return fail(err)
	}
	if os.Geteuid() != 0 {
		return fail(fmt.Errorf("installing packages into a root file system needs root, in name spaces of its own: run it as root: %w", fault.Invalid))
	}
	recipe, err := kioskRecipe()
	if err != nil {
		return fail(err)
	}
	recipe.trust(o.Trust)
	from := archive{main: o.Mirror}
	if o.Mirror == "" {
		if from, err = hostArchive("/etc/apt"); err != nil {
			return fail(err)
		}
	}
	work, err := openWorkspace(o.WorkDir)
	if err != nil {
		return fail(err)
	}
	defer work.close()
	if err := needSpace(o.WorkDir, debianSpace); err != nil {
		return fail(err)
	}
	j := &job{TinyOptions: tiny, run: &runner{tools: tools, epoch: tiny.SourceDateEpoch, log: tiny.Log}, scratch: work.scratch}
	d := &debianJob{job: j, recipe: recipe, archive: from}
	d.installed = filepath.Join(j.WorkDir, "steps", recipe.installHash(installFormat, DebianRelease, j.Arch, fmt.Sprint(j.SourceDateEpoch)))
	d.steps = filepath.Join(j.WorkDir, "steps", recipe.hash(DebianRelease, j.Version, j.Arch, fmt.Sprint(j.SourceDateEpoch), erofsZstd, erofsCluster))
	r, err := d.bake(ctx)
	if err != nil {
		return fail(err)
	}
	return r, nil
}

// findDebianTools finds the tools that make the root file system, beside those
// of every bake.
func findDebianTools() (map[string]string, error) {
	tools := map[string]string{"mmdebstrap": "mmdebstrap", "unshare": "util-linux", "tar": "tar", "xz": "xz-utils"}
	maps.Copy(tools, toolPackages)
	return findToolsIn(searchPath(), tools)
}

//go:embed kiosk/grub.cfg
var kioskGrubConfig []byte

// A debianJob is one bake of the flavor debian.
type debianJob struct {
	*job
	recipe    *recipe
	archive   archive
	installed string // the folder of the installed packages, of this list
	steps     string // the folder of the other long steps' results, of this recipe
}

func (d *debianJob) bake(ctx context.Context) (*Result, error) {
	out, err := openOutput(filepath.Join(d.OutDir, FlavorDebian, d.Arch, d.Version))
	if err != nil {
		return nil, err
	}
	defer out.close()
	steps := filepath.Dir(d.steps)
	pruneSteps(steps, false)
	installed, err := d.install(ctx)
	if err != nil {
		return nil, err
	}
	packages, err := packageVersions(filepath.Join(installed, "packages"))
	if err != nil {
		return nil, err
	}
	rootfs, err := d.rootfsTar(ctx, installed)
	if err != nil {
		return nil, err
	}
	erofs, err := d.compress(ctx, rootfs)
	if err != nil {
		return nil, err
	}
	disk, err := d.contents(ctx, filepath.Join(rootfs, "tree"), erofs)
	if err != nil {
		return nil, err
	}
	m, unchanged, err := d.assemble(ctx, out, disk, edition{flavor: FlavorDebian})
	if err != nil {
		return nil, err
	}
	pruneSteps(steps, true, d.installed, d.steps)
	return &Result{Dir: out.dir, Image: filepath.Join(out.dir, ImageName), Manifest: m, Packages: packages, Unchanged: unchanged}, nil
}

// contents makes the contents of the image.
func (d *debianJob) contents(ctx context.Context, tree, erofs string) (*hybrid, error) {
	live, err := d.liveVolume(ctx, erofs)
	if err != nil {
		return nil, fmt.Errorf("make FEDAC-LIVE: %w", err)
	}
	slot, err := d.placeholder(fmt.Sprintf("%s %s %s", FlavorDebian, d.Version, d.Arch))
	if err != nil {
		return nil, fmt.Errorf("make the placeholder's volume: %w", err)
	}
	return &hybrid{
		root: tree,
		files: []espFile{
			{path: "/boot/vmlinuz", source: tree + "/boot/vmlinuz-*"},
			{path: "/boot/initrd.img", source: tree + "/boot/initrd.img-*"},
		},
		config: kioskGrubConfig,
		live:   live,
		slot:   slot,
		volume: "ISOFS_DEBIAN",
		id:     identityDebian,
		time:   d.time(),
	}, nil
}

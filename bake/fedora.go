package bake

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"strings"

	"aesthetic.computer/isofs/fault"
)

// FlavorFedora is the flavor in the manifests that Fedora writes.
const FlavorFedora = "fedora"

// FedoraNeeds describes what a bake of the flavor fedora needs.
const FedoraNeeds = "It needs root, nine times the ISO's size and 2 GB of disk in the work directory (some 25 GB for Fedora Workstation), and is expected to take 20 to 40 minutes."

// FedoraOptions are the inputs of Fedora.
type FedoraOptions struct {
	// LiveISO is the path of a Fedora Live ISO.
	LiveISO string
	// Want is the expected digest of LiveISO. SHA256 or Checksum must be set.
	Want ISODigest
	// NoInstall refuses a root without the packages of the recipe, instead of
	// installing them.
	NoInstall bool
	// The rest is as for the flavor debian. If this machine's erofs-utils are
	// too old, they come from Mirror.
	DebianOptions
}

// A fedoraJob is one bake of the flavor fedora.
type fedoraJob struct {
	*job
	iso       string // path of the ISO, after its digest was compared
	release   release
	noInstall bool
	mirror    string
	recipe    *recipe
	steps     string // the folder of the long steps' results, of this recipe and this ISO
}

// Fedora bakes the flavor fedora: the root file system of a Fedora Live ISO
// under the session of the flavor debian, and Fedora's own boot chain. The
// results of the long steps stay in the work directory under a hash over recipe
// and ISO.
//
// Errors are as those of Tiny. An ISO that is damaged, or not the expected one,
// is fault.Corrupt.
func Fedora(ctx context.Context, o FedoraOptions) (*Result, error) {
	r, err := fedora(ctx, o)
	if err != nil {
		return nil, fmt.Errorf("bake %s: %w", FlavorFedora, kindOf(ctx, err))
	}
	return r, nil
}

func fedora(ctx context.Context, o FedoraOptions) (*Result, error) {
	tiny := TinyOptions{WorkDir: o.WorkDir, OutDir: o.OutDir, Version: o.Version, SourceDateEpoch: o.SourceDateEpoch, Progress: o.Progress, Log: o.Log}
	if err := errors.Join(tiny.complete(), o.Want.check(), absolute(&o.LiveISO, &o.Want.Checksum, &o.Want.Keyring)); err != nil {
		return nil, err
	}
	o.WorkDir, o.OutDir = tiny.WorkDir, tiny.OutDir // absolute now
	if len(o.Trust.Keyring) > 0 {
		return nil, fmt.Errorf("the flavor %s has nothing that checks signatures (sqv) yet, so it cannot demand them: %w", FlavorFedora, fault.Invalid)
	}
	if os.Geteuid() != 0 {
		return nil, fmt.Errorf("keeping the owners of a root file system and installing into it needs root, in name spaces of its own: run it as root: %w", fault.Invalid)
	}
	tools, err := findFedoraTools(o.Want.Keyring != "")
	if err != nil {
		return nil, err
	}
	volume, size, err := readVolume(o.LiveISO)
	if err != nil {
		return nil, err
	}
	recipe, err := fedoraRecipe()
	if err != nil {
		return nil, err
	}
	work, err := openWorkspace(o.WorkDir)
	if err != nil {
		return nil, err
	}
	defer work.close()
	if err := needSpace(o.WorkDir, 9*size+2<<30); err != nil {
		return nil, err
	}
	j := &job{TinyOptions: tiny, run: &runner{tools: tools, epoch: tiny.SourceDateEpoch, log: tiny.Log}, scratch: work.scratch}
	digest, err := j.verifyISO(ctx, o.LiveISO, o.Want)
	if err != nil {
		return nil, err
	}
	f := &fedoraJob{job: j, iso: o.LiveISO, noInstall: o.NoInstall, mirror: o.Mirror, recipe: recipe}
	f.release = releaseOf(filepath.Base(o.LiveISO), volume)
	f.steps = filepath.Join(j.WorkDir, "steps", recipe.hash(fedoraFormat, erofsZstd, erofsCluster, FlavorFedora, digest, j.Arch, fmt.Sprint(j.SourceDateEpoch), fmt.Sprint(o.NoInstall)))
	return f.bake(ctx)
}

// fedoraFormat changes with the way in which the steps are made, and so does
// their folder.
const fedoraFormat = "1"

// findFedoraTools finds the tools that read an ISO and its root, beside those
// of every bake.
func findFedoraTools(keyring bool) (map[string]string, error) {
	tools := map[string]string{
		"xorriso": "xorriso", "unsquashfs": "squashfs-tools", "fuse2fs": "fuse2fs",
		"unshare": "util-linux", "tar": "tar", "cp": "coreutils",
	}
	if keyring {
		tools["gpgv"] = "gpgv"
	}
	maps.Copy(tools, toolPackages)
	return findToolsIn(searchPath(), tools)
}

// fedoraRecipe is the recipe of the flavor debian, with Fedora's parts instead
// of Debian's.
func fedoraRecipe() (*recipe, error) {
	r, err := kioskRecipe()
	if err != nil {
		return nil, err
	}
	for path := range r.files {
		// Fedora has dracut, and no triggerhappy.
		if strings.HasPrefix(path, "etc/initramfs-tools/") || strings.Contains(path, "triggerhappy") {
			delete(r.files, path)
		}
	}
	list, err := kioskFiles.ReadFile("kiosk/fedora/packages")
	if err != nil {
		return nil, err
	}
	if r.packages, err = parsePackageList(list); err != nil {
		return nil, err
	}
	if r.customize, err = kioskFiles.ReadFile("kiosk/fedora/customize.sh"); err != nil {
		return nil, err
	}
	if r.finish, err = kioskFiles.ReadFile("kiosk/fedora/root.sh"); err != nil {
		return nil, err
	}
	const root = "kiosk/fedora/root"
	return r, fs.WalkDir(kioskFiles, root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		r.files[strings.TrimPrefix(path, root+"/")], err = kioskFiles.ReadFile(path)
		return err
	})
}

func (f *fedoraJob) bake(ctx context.Context) (*Result, error) {
	out, err := openOutput(filepath.Join(f.OutDir, FlavorFedora, f.Arch, f.Version))
	if err != nil {
		return nil, err
	}
	defer out.close()
	steps := filepath.Dir(f.steps)
	pruneSteps(steps, false)
	root, err := f.root(ctx)
	if err != nil {
		return nil, err
	}
	packages, err := packageVersions(filepath.Join(root, "packages"))
	if err != nil {
		return nil, err
	}
	name, err := os.ReadFile(filepath.Join(root, "release"))
	if err != nil {
		return nil, err
	}
	erofs, err := f.compress(ctx, root)
	if err != nil {
		return nil, err
	}
	disk, err := f.contents(ctx, root, erofs)
	if err != nil {
		return nil, err
	}
	m, unchanged, err := f.assemble(ctx, out, disk, edition{FlavorFedora, string(name)})
	if err != nil {
		return nil, err
	}
	pruneSteps(steps, true, f.steps)
	return &Result{Dir: out.dir, Image: filepath.Join(out.dir, ImageName), Manifest: m, Packages: packages, Unchanged: unchanged}, nil
}

// fedoraPrefix is where Fedora's installed GRUB looks for its configuration.
// The GRUB of Fedora's ISOs looks beside itself.
const fedoraPrefix = "/EFI/fedora"

// contents makes the contents of the image.
func (f *fedoraJob) contents(ctx context.Context, root, erofs string) (*hybrid, error) {
	config, err := kioskFiles.ReadFile("kiosk/fedora/grub.cfg")
	if err != nil {
		return nil, err
	}
	// GRUB for BIOS has no signature, so it need not be Fedora's.
	modules, err := f.biosPackage(ctx)
	if err != nil {
		return nil, fmt.Errorf("get GRUB for BIOS: %w", err)
	}
	live, err := f.liveVolume(ctx, erofs)
	if err != nil {
		return nil, fmt.Errorf("make FEDAC-LIVE: %w", err)
	}
	slot, err := f.placeholder(fmt.Sprintf("%s %s %s", FlavorFedora, f.Version, f.Arch))
	if err != nil {
		return nil, fmt.Errorf("make the placeholder's volume: %w", err)
	}
	chain := []espFile{{path: "/EFI/BOOT/grub.cfg", data: config}}
	efi, err := filepath.Glob(filepath.Join(root, "efi", "*"))
	if err != nil {
		return nil, err
	}
	for _, path := range efi {
		chain = append(chain, espFile{path: "/EFI/BOOT/" + filepath.Base(path), source: path})
	}
	return &hybrid{
		root: modules,
		files: []espFile{
			{path: "/boot/vmlinuz", source: filepath.Join(root, "vmlinuz")},
			{path: "/boot/initrd.img", source: filepath.Join(root, "initrd.img")},
		},
		config: config,
		prefix: fedoraPrefix,
		chain:  chain,
		live:   live,
		slot:   slot,
		volume: "ISOFS_FEDORA",
		id:     identityFedora,
		time:   f.time(),
	}, nil
}

// biosPackage unpacks GRUB's modules for BIOS and returns the folder.
func (f *fedoraJob) biosPackage(ctx context.Context) (root string, err error) {
	packages, err := f.resolve(ctx, []string{"grub-pc-bin"})
	if err != nil {
		return "", err
	}
	for _, p := range packages {
		if err := f.download(ctx, p); err != nil {
			return "", fmt.Errorf("get package %s: %w", p.Name, err)
		}
	}
	return f.extract(ctx, packages)
}

package bake

import (
	"bufio"
	"bytes"
	"context"
	"debug/elf"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"aesthetic.computer/isofs/fault"
)

// neededModules must exist, as files or in the kernel: without one of them no
// machine can show its slot.
var neededModules = []string{"virtio_pci", "virtio_blk", "crc32c_generic", "ext4", "loop", "erofs"}

// wantedModules are loaded if the kernel has them: other disks, USB sticks and
// keyboards. The order is that of loading.
var wantedModules = []string{
	"crc32c_intel", "virtio_scsi", "nvme", "ahci", "ata_piix", "xen_blkfront", "hv_storvsc",
	"xhci_pci", "ehci_pci", "ohci_pci", "uas", "usb_storage", "mmc_block", "sdhci_pci",
	"sd_mod", "sr_mod", "isofs", "hid_generic", "usbhid", "atkbd", "i8042",
}

// A moduleTree is the modules of one kernel under a folder.
type moduleTree struct {
	files   map[string]string // name to path
	builtin map[string]bool
}

// openModules reads lib/modules/<release>. There must be exactly one.
func openModules(root string) (*moduleTree, error) {
	releases, err := filepath.Glob(filepath.Join(root, "lib/modules/*"))
	if more, _ := filepath.Glob(filepath.Join(root, "usr/lib/modules/*")); len(releases) == 0 {
		releases = more
	}
	if err != nil || len(releases) != 1 {
		return nil, fmt.Errorf("%d folders of kernel modules, expected one: %w", len(releases), fault.Invalid)
	}
	t := &moduleTree{files: map[string]string{}, builtin: map[string]bool{}}
	err = filepath.WalkDir(releases[0], func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() && isModule(path) {
			t.files[moduleName(path)] = path
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("look for kernel modules: %w", err)
	}
	list, err := os.ReadFile(filepath.Join(releases[0], "modules.builtin"))
	if err != nil {
		return nil, fmt.Errorf("read the list of built-in modules: %w", err)
	}
	for lines := bufio.NewScanner(bytes.NewReader(list)); lines.Scan(); {
		t.builtin[moduleName(lines.Text())] = true
	}
	return t, nil
}

func isModule(path string) bool {
	return strings.HasSuffix(path, ".ko") || strings.HasSuffix(path, ".ko.xz")
}

// moduleName is the kernel's name of the module in a file: "-" and "_" are the
// same to it.
func moduleName(path string) string {
	name := strings.TrimSuffix(strings.TrimSuffix(filepath.Base(path), ".xz"), ".ko")
	return strings.ReplaceAll(name, "-", "_")
}

// A module is a kernel module's name and its ELF file.
type module struct {
	name string
	data []byte
}

// load returns the modules of needed and wanted and all they depend on, each behind those
// that it needs. The kernel may lack those of wanted.
func (t *moduleTree) load(ctx context.Context, run *runner, needed, wanted []string) ([]module, error) {
	l := moduleLoader{tree: t, run: run, seen: map[string]bool{}}
	for _, name := range wanted {
		if t.files[name] != "" {
			needed = append(slices.Clone(needed), name)
		}
	}
	for _, name := range needed {
		if err := l.add(ctx, name, ""); err != nil {
			return nil, err
		}
	}
	return l.list, nil
}

// A moduleLoader collects modules. Debian's packages have no modules.dep (the
// installation makes it), so it reads dependencies from the modules themselves.
type moduleLoader struct {
	tree *moduleTree
	run  *runner
	seen map[string]bool
	list []module
}

// add adds a module, which another one needs (by), behind its dependencies.
func (l *moduleLoader) add(ctx context.Context, name, by string) error {
	if l.seen[name] || l.tree.builtin[name] {
		return nil
	}
	l.seen[name] = true
	path, ok := l.tree.files[name]
	if !ok {
		return fmt.Errorf("the kernel has no module %s, which is needed%s: %w", name, by, fault.NotFound)
	}
	data, err := readModule(ctx, l.run, path)
	if err != nil {
		return fmt.Errorf("read kernel module %s: %w", name, err)
	}
	deps, err := dependencies(data)
	if err != nil {
		return fmt.Errorf("read the dependencies of kernel module %s: %w", name, err)
	}
	for _, dep := range deps {
		if err := l.add(ctx, dep, " by "+name); err != nil {
			return err
		}
	}
	l.list = append(l.list, module{name, data})
	return nil
}

// readModule returns a module's ELF file; newer Debian packs them with xz.
func readModule(ctx context.Context, run *runner, path string) ([]byte, error) {
	if !strings.HasSuffix(path, ".xz") {
		return os.ReadFile(path)
	}
	xz, err := exec.LookPath("xz")
	if err != nil {
		return nil, fmt.Errorf("xz missing; on Debian: apt-get install xz-utils: %w", fault.NotFound)
	}
	run.tools["xz"] = xz
	out, err := run.output(ctx, "", "xz", "-dc", path)
	return []byte(out), err
}

// dependencies reads "depends=a,b" from the section .modinfo, a run of
// NUL-terminated strings.
func dependencies(data []byte) ([]string, error) {
	f, err := elf.NewFile(bytes.NewReader(data))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", fault.Corrupt, err)
	}
	section := f.Section(".modinfo")
	if section == nil {
		return nil, fmt.Errorf("no section .modinfo: %w", fault.Corrupt)
	}
	info, err := section.Data()
	if err != nil {
		return nil, fmt.Errorf("%w: %w", fault.Corrupt, err)
	}
	for field := range strings.SplitSeq(string(info), "\x00") {
		if deps, ok := strings.CutPrefix(field, "depends="); ok && deps != "" {
			names := strings.Split(strings.ReplaceAll(deps, "-", "_"), ",")
			slices.Sort(names)
			return names, nil
		}
	}
	return nil, nil
}

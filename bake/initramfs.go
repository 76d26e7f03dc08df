package bake

import (
	"debug/elf"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"aesthetic.computer/isofs/fault"
)

// moduleTree finds the kernel modules below dir by name.
func moduleTree(dir string) (map[string]string, error) {
	modules := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if name, ok := strings.CutSuffix(d.Name(), ".ko"); ok && err == nil {
			modules[moduleName(name)] = path
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("bake: list kernel modules: %w: %w", fault.Unavailable, err)
	}
	return modules, nil
}

// moduleName is the kernel's form of a module's name.
func moduleName(name string) string { return strings.ReplaceAll(name, "-", "_") }

// moduleOrder returns the named modules and all that they need, each after
// what it needs. A name that is not in the tree is built into the kernel, or
// the kernel has no such driver.
func moduleOrder(tree map[string]string, names []string) ([]string, error) {
	var order []string
	var visit func(name string) error
	visit = func(name string) error {
		path, ok := tree[name]
		if !ok || slices.Contains(order, name) {
			return nil
		}
		needs, err := moduleNeeds(path)
		if err != nil {
			return err
		}
		for _, need := range needs {
			if err := visit(moduleName(need)); err != nil {
				return err
			}
		}
		order = append(order, name)
		return nil
	}
	for _, name := range names {
		if err := visit(moduleName(name)); err != nil {
			return nil, err
		}
	}
	return order, nil
}

// moduleNeeds reads the "depends=" entry of a module's .modinfo section: a
// list joined by commas, as modpost writes it.
func moduleNeeds(path string) ([]string, error) {
	f, err := elf.Open(path)
	if err != nil {
		return nil, fmt.Errorf("bake: read module %s: %w: %w", path, fault.Corrupt, err)
	}
	defer f.Close()
	section := f.Section(".modinfo")
	if section == nil {
		return nil, fmt.Errorf("bake: module %s has no .modinfo: %w", path, fault.Corrupt)
	}
	data, err := section.Data()
	if err != nil {
		return nil, fmt.Errorf("bake: read module %s: %w: %w", path, fault.Corrupt, err)
	}
	for entry := range strings.SplitSeq(string(data), "\x00") {
		if list, ok := strings.CutPrefix(entry, "depends="); ok && list != "" {
			return strings.Split(list, ","), nil
		}
	}
	return nil, nil
}

// packInitramfs writes the tree at dir as an initramfs (newc, as the kernel's
// buffer-format document has it): sorted, owned by root, with nothing of this
// machine in it. It is not compressed: it is small, and a compressor's next
// version gives other bytes.
func packInitramfs(r runner, dir, out string) error {
	if err := r.stamp(dir); err != nil {
		return err
	}
	var names []string
	err := filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		rel, relErr := filepath.Rel(dir, path)
		names = append(names, rel)
		if err == nil {
			err = relErr
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("bake: list the initramfs: %w: %w", fault.Unavailable, err)
	}
	slices.Sort(names)
	list := dir + ".list"
	if err := put(list, []byte(strings.Join(names, "\n")+"\n"), 0o644); err != nil {
		return err
	}
	if err := os.RemoveAll(out); err != nil {
		return fmt.Errorf("bake: %w: %w", fault.Unavailable, err)
	}
	r.dir = dir
	// cpio takes its list from standard input only.
	_, err = r.run("sh", "-c", `exec cpio --quiet --reproducible --create --format=newc --owner=0:0 --file="$1" <"$2"`, "sh", out, list)
	return err
}

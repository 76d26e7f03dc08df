package bake

import (
	"context"
	_ "embed" // the program that the initramfs starts
	"fmt"
	"os"
	"path/filepath"
)

// initScript is the first program of the booted machine.
//
//go:embed init.sh
var initScript []byte

// initramfs writes the initramfs and returns its path.
func (j *job) initramfs(ctx context.Context, root string) (path string, err error) {
	j.Progress(stageInitramfs, 0, 1)
	tree, err := openModules(root)
	if err != nil {
		return "", err
	}
	modules, err := tree.load(ctx, j.run, neededModules, wantedModules)
	if err != nil {
		return "", err
	}
	busybox, err := readFirst(root, "bin/busybox", "usr/bin/busybox")
	if err != nil {
		return "", err
	}
	path = j.path("initrd")
	if err := os.WriteFile(path, j.archive(busybox, modules), 0o644); err != nil {
		return "", err
	}
	// Without name and time in the header.
	if _, err := j.run.output(ctx, j.scratch, "gzip", "-9", "-n", path); err != nil {
		return "", err
	}
	j.Log.Debug("initramfs", "modules", len(modules))
	j.Progress(stageInitramfs, 1, 1)
	return path + ".gz", nil
}

// archive lays out the initramfs. Modules are in one folder, and /modules/order
// has the order in which they are loaded.
func (j *job) archive(busybox []byte, modules []module) []byte {
	w := &cpioWriter{epoch: j.SourceDateEpoch}
	for _, dir := range []string{"base", "bin", "dev", "etc", "live", "modules", "piece", "proc", "sys", "tmp"} {
		w.add(dir, modeDir, device{}, nil)
	}
	// The kernel opens it for the first program, before devtmpfs exists.
	w.add("dev/console", modeCharRW, device{5, 1}, nil)
	w.add("bin/busybox", modeProg, device{}, busybox)
	w.add("bin/sh", modeLink, device{}, []byte("busybox"))
	w.add("init", modeProg, device{}, initScript)
	w.add("etc/isofs-version", modeFile, device{}, fmt.Appendf(nil, "flavor=%s version=%s\n", Flavor, j.Version))
	var order []byte
	for _, m := range modules {
		w.add("modules/"+m.name+".ko", modeFile, device{}, m.data)
		order = append(order, m.name+"\n"...)
	}
	w.add("modules/order", modeFile, device{}, order)
	return w.bytes()
}

// readFirst reads the first of the files that exists under root: its place in a
// package differs between releases of Debian.
func readFirst(root string, names ...string) (data []byte, err error) {
	for _, name := range names {
		if data, err = os.ReadFile(filepath.Join(root, name)); err == nil {
			return data, nil
		}
	}
	return nil, err
}

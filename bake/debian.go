package bake

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"aesthetic.computer/isofs/fault"
)

// fetchDebs downloads the packages that are not in dir yet, at the versions
// that apt would install now, and returns their files. apt checks their
// signatures. It works without root, but needs apt's lists.
func fetchDebs(r runner, dir string, packages []string) ([]string, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("bake: %w: %w", fault.Unavailable, err)
	}
	var files []string
	var wanted []string
	for _, name := range packages {
		file, err := debFile(r, name)
		if err != nil {
			return nil, err
		}
		files = append(files, filepath.Join(dir, file))
		if _, err := os.Stat(filepath.Join(dir, file)); err != nil {
			wanted = append(wanted, name)
		}
	}
	if len(wanted) == 0 {
		return files, nil
	}
	// Into a folder of its own first: apt writes in place, and half a package
	// must not be taken for one by the next bake.
	partial := filepath.Join(dir, "partial")
	if err := os.MkdirAll(partial, 0o755); err != nil {
		return nil, fmt.Errorf("bake: %w: %w", fault.Unavailable, err)
	}
	defer os.RemoveAll(partial)
	r.dir = partial
	if _, err := r.run("apt-get", append([]string{"download", "-q"}, wanted...)...); err != nil {
		return nil, fmt.Errorf("download packages (if they are not found, run apt-get update): %w", err)
	}
	for _, file := range files {
		name := filepath.Join(partial, filepath.Base(file))
		if _, err := os.Stat(name); err != nil {
			continue
		}
		if err := os.Rename(name, file); err != nil {
			return nil, fmt.Errorf("bake: %w: %w", fault.Unavailable, err)
		}
	}
	for _, file := range files {
		if _, err := os.Stat(file); err != nil {
			return nil, fmt.Errorf("bake: apt-get download did not write %s: %w", filepath.Base(file), fault.Unavailable)
		}
	}
	return files, nil
}

// debFile is the name that apt-get download gives a package's file.
func debFile(r runner, name string) (string, error) {
	out, err := r.run("apt-get", "download", "--print-uris", name)
	if err != nil {
		return "", fmt.Errorf("look up the package %s (run apt-get update first): %w", name, err)
	}
	// 'uri' file size hash
	fields := strings.Fields(out)
	if len(fields) < 2 || !strings.HasSuffix(fields[1], ".deb") {
		return "", fmt.Errorf("bake: apt-get does not say which file %s is in, but %q: %w", name, out, fault.Unavailable)
	}
	return fields[1], nil
}

// dependency returns the package that a meta package stands for: the first
// that it depends on whose name has the prefix.
func dependency(r runner, meta, prefix string) (string, error) {
	out, err := r.run("apt-cache", "depends", "--no-recommends", "--no-suggests", meta)
	if err != nil {
		return "", fmt.Errorf("look up the package %s (run apt-get update first): %w", meta, err)
	}
	for line := range strings.Lines(out) {
		name, ok := strings.CutPrefix(strings.TrimSpace(line), "Depends: ")
		if ok && strings.HasPrefix(name, prefix) {
			return name, nil
		}
	}
	return "", fmt.Errorf("bake: %s depends on no package named %s...: %w", meta, prefix, fault.Unavailable)
}

// unpack extracts packages into dir, which is emptied first.
func unpack(r runner, dir string, debs []string) error {
	if err := os.RemoveAll(dir); err != nil {
		return fmt.Errorf("bake: %w: %w", fault.Unavailable, err)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("bake: %w: %w", fault.Unavailable, err)
	}
	for _, deb := range debs {
		if _, err := r.run("dpkg-deb", "-x", deb, dir); err != nil {
			return err
		}
	}
	return nil
}

// oneFile returns the single file that matches pattern below dir.
func oneFile(dir, pattern string) (string, error) {
	found, err := filepath.Glob(filepath.Join(dir, pattern))
	if err != nil || len(found) != 1 {
		return "", fmt.Errorf("bake: the packages have %d files like %s, not one: %w", len(found), pattern, fault.Corrupt)
	}
	return found[0], nil
}

package bake

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"

	"aesthetic.computer/isofs/fault"
)

// A Package is a Debian package in a base.
type Package struct {
	Name    string
	Version string
	File    string // apt's file name, as in the cache
	Size    int64  // bytes
	SHA256  string // 64 hex digits, from the signed package list
}

// packageName matches names by Debian's policy (section 5.6.1).
var packageName = regexp.MustCompile(`^[a-z0-9][a-z0-9+.-]{1,99}$`)

// fixedPackages are needed beside the kernel: the first program, and the boot
// chain.
var fixedPackages = append([]string{"busybox-static"}, hybridPackages...)

// fetch resolves the packages, and downloads those that the cache lacks. The
// cache is by name, which includes the version, and checked by hash. So an
// interrupted download is repeated and a finished one is not.
func (j *job) fetch(ctx context.Context) ([]Package, error) {
	j.Progress(stagePackages, 0, 1)
	kernel, err := j.kernelPackage(ctx)
	if err != nil {
		return nil, err
	}
	packages, err := j.resolve(ctx, append([]string{kernel}, fixedPackages...))
	if err != nil {
		return nil, err
	}
	j.Progress(stagePackages, 1, 1)
	var total, done int64
	for _, p := range packages {
		total += p.Size
	}
	// The kernel unpacks to some five times its size.
	if err := needSpace(j.scratch, 7*total); err != nil {
		return nil, err
	}
	j.Progress(stageDownload, 0, total)
	for _, p := range packages {
		if err := j.download(ctx, p); err != nil {
			return nil, fmt.Errorf("get package %s: %w", p.Name, err)
		}
		done += p.Size
		j.Progress(stageDownload, done, total)
	}
	return packages, nil
}

// kernelPackage follows a metapackage to the kernel image it depends on.
func (j *job) kernelPackage(ctx context.Context) (string, error) {
	out, err := j.run.output(ctx, j.scratch, "apt-cache", "depends", j.KernelPackage+":"+j.Arch)
	if err != nil {
		return "", fmt.Errorf("find the kernel: %w", aptHint(err))
	}
	for line := range strings.Lines(out) {
		dep, ok := strings.CutPrefix(strings.TrimSpace(line), "Depends: ")
		dep = strings.TrimSuffix(dep, ":"+j.Arch)
		if ok && strings.HasPrefix(dep, "linux-image-") && packageName.MatchString(dep) {
			return dep, nil
		}
	}
	return j.KernelPackage, nil
}

// resolve asks apt for file, size and hash of each package's candidate.
func (j *job) resolve(ctx context.Context, names []string) ([]Package, error) {
	args := []string{"download", "--print-uris"}
	for _, n := range names {
		args = append(args, n+":"+j.Arch)
	}
	out, err := j.run.output(ctx, j.scratch, "apt-get", args...)
	if err != nil {
		return nil, fmt.Errorf("find packages %s: %w", strings.Join(names, ", "), aptHint(err))
	}
	found, err := parseURIs(out)
	if err != nil {
		return nil, err
	}
	packages := make([]Package, 0, len(names))
	for _, n := range names {
		p, ok := found[n]
		if !ok {
			return nil, fmt.Errorf("apt-get names no file for package %s; run apt-get update: %w", n, fault.NotFound)
		}
		packages = append(packages, p)
	}
	return packages, nil
}

// parseURIs reads the output of apt-get --print-uris, one package a line: 'URI'
// file size SHA256:hash. The file is name_version_arch.deb.
func parseURIs(out string) (map[string]Package, error) {
	found := map[string]Package{}
	for line := range strings.Lines(out) {
		if !strings.HasPrefix(line, "'") {
			continue
		}
		f := strings.Fields(line)
		if len(f) != 4 {
			return nil, fmt.Errorf("apt-get prints %.200q, expected four fields: %w", line, fault.Unavailable)
		}
		size, err := strconv.ParseInt(f[2], 10, 64)
		sum, isSHA256 := strings.CutPrefix(f[3], "SHA256:")
		parts := strings.Split(f[1], "_")
		if err != nil || !isSHA256 || len(sum) != 2*sha256.Size || len(parts) != 3 || filepath.Base(f[1]) != f[1] {
			return nil, fmt.Errorf("apt-get prints %.200q, expected a file, a size and a SHA256: %w", line, fault.Unavailable)
		}
		version, err := url.PathUnescape(parts[1])
		if err != nil || !packageName.MatchString(parts[0]) {
			return nil, fmt.Errorf("apt-get prints the file name %.200q, expected name_version_arch.deb: %w", f[1], fault.Unavailable)
		}
		found[parts[0]] = Package{Name: parts[0], Version: version, File: f[1], Size: size, SHA256: sum}
	}
	return found, nil
}

// debs is the path of a package in the cache.
func (j *job) debs(file string) string { return filepath.Join(j.WorkDir, "debs", file) }

// download puts p into the cache, if the cache lacks it or has it damaged.
func (j *job) download(ctx context.Context, p Package) error {
	if err := checkFile(j.debs(p.File), p); err == nil {
		return nil
	} else if !errors.Is(err, fs.ErrNotExist) {
		j.Log.Warn("a cached package is damaged, getting it again", "file", p.File, "err", err)
	}
	if err := os.MkdirAll(j.debs(""), 0o755); err != nil {
		return err
	}
	// No sandbox: apt's own user cannot write to our directory. apt would print
	// a long warning and then do the same.
	_, err := j.run.output(ctx, j.scratch, "apt-get", "-q", "-o", "APT::Sandbox::User=root", "-o", "Acquire::Retries=2",
		"download", p.Name+":"+j.Arch+"="+p.Version)
	if err != nil {
		return aptHint(err)
	}
	if err := checkFile(j.path(p.File), p); err != nil {
		return err
	}
	return os.Rename(j.path(p.File), j.debs(p.File))
}

// checkFile compares a downloaded file with the package list.
func checkFile(path string, p Package) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	h := sha256.New()
	n, err := io.Copy(h, f)
	if err != nil {
		return err
	}
	if got := hex.EncodeToString(h.Sum(nil)); n != p.Size || got != p.SHA256 {
		return fmt.Errorf("%s has %d bytes and sha256 %s, the package list says %d and %s: %w", p.File, n, got, p.Size, p.SHA256, fault.Corrupt)
	}
	return nil
}

// extract unpacks the packages into one tree, without installing them.
func (j *job) extract(ctx context.Context, packages []Package) (root string, err error) {
	root = j.path("root")
	for i, p := range packages {
		j.Progress(stageExtract, int64(i), int64(len(packages)))
		if _, err := j.run.output(ctx, j.scratch, "dpkg-deb", "-x", j.debs(p.File), root); err != nil {
			return "", fmt.Errorf("unpack package %s: %w", p.Name, err)
		}
	}
	j.Progress(stageExtract, int64(len(packages)), int64(len(packages)))
	return root, nil
}

// aptHint adds a hint to the most frequent errors of apt.
func aptHint(err error) error {
	var tool *toolError
	if !errors.As(err, &tool) {
		return err
	}
	for _, sign := range []string{"No packages found", "Unable to locate package", "select candidate version", "was not found", "has no installation candidate"} {
		if strings.Contains(tool.Output, sign) {
			return fmt.Errorf("run apt-get update (as root; this needs a Debian system, of the same architecture or with it added): %w: %w", fault.NotFound, err)
		}
	}
	return err
}

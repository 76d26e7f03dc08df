package bake

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"aesthetic.computer/isofs/fault"
)

// kioskFiles are the recipe of the flavor debian: packages, finish.sh,
// kiosk.sh, customize.sh and root/, which is laid over the root file system.
//
//go:embed all:kiosk
var kioskFiles embed.FS

// A recipe has the inputs of the flavor debian's root file system, beside
// Debian's packages.
type recipe struct {
	packages  []string          // names, sorted
	session   []byte            // the script that sets up the session
	customize []byte            // the script that calls it, and changes the complete root
	finish    []byte            // the script that calls that one
	files     map[string][]byte // by path in the root
}

// kioskRecipe reads the embedded recipe and draws its pictures.
func kioskRecipe() (*recipe, error) {
	list, err := kioskFiles.ReadFile("kiosk/packages")
	if err != nil {
		return nil, err
	}
	r := &recipe{files: map[string][]byte{}}
	if r.packages, err = parsePackageList(list); err != nil {
		return nil, err
	}
	if r.session, err = kioskFiles.ReadFile("kiosk/kiosk.sh"); err != nil {
		return nil, err
	}
	if r.customize, err = kioskFiles.ReadFile("kiosk/customize.sh"); err != nil {
		return nil, err
	}
	if r.finish, err = kioskFiles.ReadFile("kiosk/finish.sh"); err != nil {
		return nil, err
	}
	const root = "kiosk/root"
	err = fs.WalkDir(kioskFiles, root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		r.files[strings.TrimPrefix(path, root+"/")], err = kioskFiles.ReadFile(path)
		return err
	})
	if err != nil {
		return nil, err
	}
	if r.files["usr/share/plymouth/themes/isofs/dot.png"], err = splashDot(); err != nil {
		return nil, err
	}
	if r.files["usr/lib/isofs/dot.head"], r.files["usr/lib/isofs/dot.tail"], err = splashDotTemplate(); err != nil {
		return nil, err
	}
	r.files["usr/lib/isofs/placeholder/piece.html"] = placeholderHTML
	return r, nil
}

// parsePackageList reads a list of packages: one a line, with the reason for
// it.
func parsePackageList(list []byte) (names []string, err error) {
	n := 0
	for line := range strings.Lines(string(list)) {
		n++
		line, _, _ = strings.Cut(line, "#")
		name, reason, _ := strings.Cut(strings.TrimSpace(line), " ")
		switch {
		case name == "":
			continue
		case !packageName.MatchString(name):
			return nil, fmt.Errorf("package list, line %d: %.60q is not the name of a Debian package: %w", n, name, fault.Invalid)
		case strings.TrimSpace(reason) == "":
			return nil, fmt.Errorf("package list, line %d: no reason is given for %s: %w", n, name, fault.Invalid)
		case slices.Contains(names, name):
			return nil, fmt.Errorf("package list, line %d: %s is listed twice: %w", n, name, fault.Invalid)
		}
		names = append(names, name)
	}
	slices.Sort(names)
	return names, nil
}

// paths lists the recipe's files in order.
func (r *recipe) paths() []string {
	paths := make([]string, 0, len(r.files))
	for path := range r.files {
		paths = append(paths, path)
	}
	slices.Sort(paths)
	return paths
}

// installHash is a hash over all inputs of the installed packages, except the
// state of the archive. A result with the same hash can be used again.
func (r *recipe) installHash(inputs ...string) string {
	h := sha256.New()
	for _, s := range append(inputs, r.packages...) {
		fmt.Fprintf(h, "%q\n", s)
	}
	return hex.EncodeToString(h.Sum(nil)[:8])
}

// hash is a hash over all inputs of the root file system, likewise.
func (r *recipe) hash(inputs ...string) string {
	h := sha256.New()
	for _, s := range append(inputs, r.packages...) {
		fmt.Fprintf(h, "%q\n", s)
	}
	for _, script := range [][]byte{r.session, r.customize, r.finish} {
		fmt.Fprintf(h, "%x\n", sha256.Sum256(script))
	}
	for _, path := range r.paths() {
		fmt.Fprintf(h, "%q %x\n", path, sha256.Sum256(r.files[path]))
	}
	return hex.EncodeToString(h.Sum(nil)[:8])
}

// writeScripts writes the scripts that change the root into dir, side by side,
// and returns the path of the one to run.
func (r *recipe) writeScripts(dir string) (customize string, err error) {
	customize = filepath.Join(dir, "customize.sh")
	return customize, errors.Join(
		os.WriteFile(filepath.Join(dir, "kiosk.sh"), r.session, 0o755),
		os.WriteFile(customize, r.customize, 0o755),
	)
}

// write writes the recipe's files under dir. A file that begins as a script
// does is a program.
func (r *recipe) write(dir string, t time.Time) error {
	for _, path := range r.paths() {
		name, mode := filepath.Join(dir, path), fs.FileMode(0o644)
		if bytes.HasPrefix(r.files[path], []byte("#!")) {
			mode = 0o755
		}
		err := os.MkdirAll(filepath.Dir(name), 0o755)
		if err == nil {
			// Chmod too: the umask of this process may differ.
			err = errors.Join(os.WriteFile(name, r.files[path], mode), os.Chmod(name, mode), os.Chtimes(name, t, t))
		}
		if err != nil {
			return fmt.Errorf("lay out the root's %s: %w", path, err)
		}
	}
	return filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.IsDir() {
			return err
		}
		return errors.Join(os.Chmod(path, 0o755), os.Chtimes(path, t, t))
	})
}

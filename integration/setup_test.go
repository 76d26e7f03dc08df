package integration

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// build makes isofs in a folder, and a base by it.
func build(dir string) error {
	isofs = filepath.Join(dir, "isofs")
	if err := buildProgram(isofs, fmt.Sprintf("-race=%t", *thorough)); err != nil {
		return err
	}
	kept, err := keptBase()
	if err != nil {
		return fmt.Errorf("bake the base: %w", err)
	}
	baseDir = filepath.Join(dir, "bases", kept.place)
	if err := os.MkdirAll(filepath.Dir(baseDir), 0o755); err != nil {
		return err
	}
	// A copy, since the user that isofs runs as need not be able to enter the tree.
	return command("cp", "-R", "--sparse=always", filepath.Join(kept.dir, kept.place), baseDir)
}

// buildProgram builds isofs, without what Git says of the commit: the same source
// makes the same program.
func buildProgram(path, race string) error {
	return command("go", "build", race, "-buildvcs=false", "-o", path, "aesthetic.computer/isofs/cmd/isofs")
}

// A kept is a base in a folder of build/.
type kept struct {
	dir   string
	place string // of the base in it: flavor, architecture, version
}

// keptBase is the base that this isofs baked, now or in an earlier run: the same
// program bakes the same base of the same packages, so it is baked again only by
// another one, or where apt knows of others, or where they are not kept any more.
func keptBase() (kept, error) {
	sum, err := recipeSum()
	if err != nil {
		return kept{}, err
	}
	all, err := filepath.Abs("../build/test-base")
	if err != nil {
		return kept{}, err
	}
	k := kept{dir: filepath.Join(all, sum)}
	packages, err := packagesDir()
	if err != nil {
		return kept{}, err
	}
	_, err1 := os.Stat(k.dir)
	_, err2 := os.Stat(packages)
	if errors.Is(errors.Join(err1, err2), os.ErrNotExist) {
		if err := bakeInto(all, k.dir); err != nil {
			return kept{}, err
		}
	}
	found, err := filepath.Glob(filepath.Join(k.dir, "*/*/*/manifest.json"))
	if err != nil || len(found) != 1 {
		return kept{}, fmt.Errorf("there is not one base in %s; remove that folder", k.dir)
	}
	k.place, err = filepath.Rel(k.dir, filepath.Dir(found[0]))
	return k, err
}

// bakeInto bakes a base into a folder of all, in which it is then the only one.
func bakeInto(all, dir string) error {
	if err := errors.Join(os.RemoveAll(all), os.MkdirAll(all, 0o755)); err != nil {
		return err
	}
	packages, err := packagesDir()
	if err != nil {
		return err
	}
	// Under another name first: half a base is none.
	half, err := os.MkdirTemp(all, "half-")
	if err != nil {
		return err
	}
	out, err := exec.Command(isofs, "bake", "tiny", "-o", half, "--work", filepath.Dir(packages)).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%w\n%s", err, out)
	}
	return errors.Join(os.Chmod(half, 0o755), os.Rename(half, dir))
}

// packagesDir is where a bake has downloaded its packages. They are kept from run to run.
func packagesDir() (string, error) {
	dir, err := os.UserCacheDir()
	return filepath.Join(dir, "isofs", "bake", "debs"), err
}

// recipeSum is a hash of isofs and of the lists by which apt finds packages.
func recipeSum() (string, error) {
	lists, err := filepath.Glob("/var/lib/apt/lists/*Release")
	if err != nil {
		return "", err
	}
	h := sha256.New()
	for _, path := range append([]string{isofs}, lists...) {
		f, err := os.Open(path)
		if err != nil {
			return "", err
		}
		_, err = io.Copy(h, f)
		f.Close()
		if err != nil {
			return "", err
		}
	}
	return fmt.Sprintf("%x", h.Sum(nil))[:16], nil
}

// adopt has processes whose parents were killed become children of this one,
// and not of init: what they cost is counted as well.
func adopt() error {
	return unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
}

// reap waits for those that have ended.
func reap() {
	for {
		if pid, err := unix.Wait4(-1, nil, unix.WNOHANG, nil); pid <= 0 || err != nil {
			return
		}
	}
}

// raceOptions are those of the race detector in isofs: by default each process of
// it sleeps for a second before it ends, and the tests start hundreds.
func raceOptions() error {
	return os.Setenv("GORACE", strings.TrimSpace("atexit_sleep_ms=50 "+os.Getenv("GORACE")))
}

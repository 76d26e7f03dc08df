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

// build makes isofs in a folder, and a base with it.
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
	// This is a copy, since the user that isofs runs as may be unable to enter the tree.
	return command("cp", "-R", "--sparse=always", filepath.Join(kept.dir, kept.place), baseDir)
}

// buildProgram builds isofs without Git's data about the commit, so that the same source makes the
// same program.
func buildProgram(path, race string) error {
	return command("go", "build", race, "-buildvcs=false", "-o", path, "aesthetic.computer/isofs/cmd/isofs")
}

// A kept is a base in a folder of build/.
type kept struct {
	dir   string
	place string // the base's path in it: flavor, architecture, version
}

// keptBase returns the base that this isofs baked, now or in an earlier run. The same program and
// packages make the same base. So a bake runs only for another program, for new lists of apt, or if
// the packages are not kept.
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

// bakeInto bakes a base into a folder of all, and removes other bases from all.
func bakeInto(all, dir string) error {
	if err := errors.Join(os.RemoveAll(all), os.MkdirAll(all, 0o755)); err != nil {
		return err
	}
	packages, err := packagesDir()
	if err != nil {
		return err
	}
	// The folder has another name at first, since a killed bake leaves half a base.
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

// packagesDir is where a bake has downloaded its packages. They stay from run to run.
func packagesDir() (string, error) {
	dir, err := os.UserCacheDir()
	return filepath.Join(dir, "isofs", "bake", "debs"), err
}

// recipeSum is a hash of isofs and of the lists in which apt finds packages.
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

// adopt makes orphaned processes children of this one instead of init's, so that their cost counts
// too.
func adopt() error {
	return unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
}

// reap waits for the adopted processes that have ended.
func reap() {
	for {
		if pid, err := unix.Wait4(-1, nil, unix.WNOHANG, nil); pid <= 0 || err != nil {
			return
		}
	}
}

// raceOptions shortens the race detector's wait at the end of each isofs. By default each process
// sleeps for a second, and the tests start hundreds.
func raceOptions() error {
	return os.Setenv("GORACE", strings.TrimSpace("atexit_sleep_ms=50 "+os.Getenv("GORACE")))
}

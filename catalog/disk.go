package catalog

import (
	"os"
	"path/filepath"
	"strings"

	"github.com/google/renameio/v2"
)

// writeFile replaces the file at path, whole or not at all. The temporary file
// lies beside it under a name with a dot in front, wherever TMPDIR points, so
// that removeLeftovers finds what a kill left.
func writeFile(path string, data []byte, perm os.FileMode) error {
	return renameio.WriteFile(path, data, perm, renameio.WithTempDir(filepath.Dir(path)))
}

// removeLeftovers removes the temporary files in dir whose writing was killed:
// those of the files called like names, or of all if none are given.
func removeLeftovers(dir string, names ...string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if !e.Type().IsRegular() || !isLeftover(e.Name(), names) {
			continue
		}
		if err := os.Remove(filepath.Join(dir, e.Name())); err != nil {
			return err
		}
	}
	return nil
}

func isLeftover(file string, names []string) bool {
	for _, name := range names {
		if strings.HasPrefix(file, "."+name) {
			return true
		}
	}
	return len(names) == 0 && strings.HasPrefix(file, ".")
}

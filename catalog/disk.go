package catalog

import (
	"os"
	"path/filepath"
	"strings"

	"github.com/google/renameio/v2"
)

// writeFile replaces the file at path, whole or not at all. The temporary file
// is beside it under a name with a leading dot, not in TMPDIR, so that
// removeLeftovers finds it after a kill.
func writeFile(path string, data []byte, perm os.FileMode) error {
	return renameio.WriteFile(path, data, perm, renameio.WithTempDir(filepath.Dir(path)))
}

// removeLeftovers removes the temporary files in dir that a kill left: those of
// the given names, or all without names.
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

package bake

import (
	"io/fs"
	"path/filepath"
	"testing"
)

// checkModes finds files of a bake's output that others cannot read.
func checkModes(t *testing.T, dir string) {
	t.Helper()
	n := 0
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		fi, err := entry.Info()
		want := fs.FileMode(0o644)
		if entry.IsDir() {
			want = 0o755
		}
		if err == nil && fi.Mode().Perm() != want {
			t.Errorf("%s has the mode %v", path, fi.Mode())
		}
		n++
		return err
	})
	if err != nil || n != 6 {
		t.Errorf("%d names in %s (%v)", n, dir, err)
	}
}

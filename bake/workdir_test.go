package bake

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"aesthetic.computer/isofs/fault"
)

// Without a home, a bake does not work in a folder that another user may have
// prepared: neither in /tmp nor in the current one.
func TestNoHome(t *testing.T) {
	mine := t.TempDir()
	for name, c := range map[string]struct {
		home, cache string
		work        string // "": the folder is needed
	}{
		"a home":                    {mine, "", mine + "/.cache/isofs/bake"},
		"no home":                   {"", "", ""},
		"a home that is relative":   {"home", "", ""},
		"a folder but no home":      {"", mine + "/c", mine + "/c/isofs/bake"},
		"a folder that is relative": {mine, "c", ""},
	} {
		t.Setenv("HOME", c.home)
		t.Setenv("XDG_CACHE_HOME", c.cache)
		work, err := workFolder("")
		if work != c.work || (err == nil) != (c.work != "") || err != nil && (!errors.Is(err, fault.Invalid) || !strings.Contains(err.Error(), SettingWork)) {
			t.Errorf("%s: the work folder is %q (%v), want %q", name, work, err, c.work)
		}
		if named, err := workFolder("named"); err != nil || named != "named" {
			t.Errorf("%s: a folder that is named: %q, %v", name, named, err)
		}
	}
	if os.Geteuid() != 0 {
		return
	}
	// Another user's: the folder, its parent, and a home that this user can
	// change.
	const nobody = 65534
	for _, theirs := range []string{".cache/isofs/bake", ".cache/isofs", "."} {
		home := t.TempDir()
		if err := errors.Join(os.MkdirAll(filepath.Join(home, ".cache/isofs/bake"), 0o755), os.Chown(filepath.Join(home, theirs), nobody, nobody)); err != nil {
			t.Fatal(err)
		}
		t.Setenv("HOME", home)
		t.Setenv("XDG_CACHE_HOME", "")
		if work, err := workFolder(""); !errors.Is(err, fault.Invalid) || work != "" {
			t.Errorf("%s is another's: %q, %v", theirs, work, err)
		}
	}
}

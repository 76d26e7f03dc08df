package main

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Without a home nothing is kept where others could have been first: not in
// /tmp, and not in whatever folder this is.
func TestNoHome(t *testing.T) {
	mine := t.TempDir()
	for name, c := range map[string]struct {
		home, cache, state string
		work               string // "": --work is needed
		keeps              string // for a user who is not root; "": --state is needed
	}{
		"a home":                    {mine, "", "", mine + "/.cache/isofs/bake", mine + "/.local/state/isofs"},
		"no home":                   {"", "", "", "", ""},
		"a home that is relative":   {"home", "", "", "", ""},
		"folders but no home":       {"", mine + "/c", mine + "/s", mine + "/c/isofs/bake", mine + "/s/isofs"},
		"folders that are relative": {mine, "c", "s", "", mine + "/.local/state/isofs"},
	} {
		t.Setenv("HOME", c.home)
		t.Setenv("XDG_CACHE_HOME", c.cache)
		t.Setenv("XDG_STATE_HOME", c.state)
		work := ""
		err := workIn(&work)
		if work != c.work || (err == nil) != (c.work != "") || err != nil && (!errors.Is(err, errUsage) || !strings.Contains(err.Error(), "--work")) {
			t.Errorf("%s: the work folder is %q (%v), want %q", name, work, err, c.work)
		}
		if got := defaultStateOf(1000); got != c.keeps {
			t.Errorf("%s: the state is %q, want %q", name, got, c.keeps)
		}
		if err := checkState(defaultStateOf(1000)); (err == nil) != (c.keeps != "") {
			t.Errorf("%s: %v", name, err)
		}
		named := "named"
		if err := workIn(&named); err != nil || named != "named" {
			t.Errorf("%s: a folder that is named: %q, %v", name, named, err)
		}
	}
	if os.Geteuid() != 0 {
		return
	}
	// Somebody else's: the folder, the one above, and a home that he can change.
	const nobody = 65534
	for _, theirs := range []string{".cache/isofs/bake", ".cache/isofs", "."} {
		home := t.TempDir()
		if err := errors.Join(os.MkdirAll(filepath.Join(home, ".cache/isofs/bake"), 0o755), os.Chown(filepath.Join(home, theirs), nobody, nobody)); err != nil {
			t.Fatal(err)
		}
		t.Setenv("HOME", home)
		t.Setenv("XDG_CACHE_HOME", "")
		work := ""
		if err := workIn(&work); !errors.Is(err, errUsage) || work != "" {
			t.Errorf("%s is another's: %q, %v", theirs, work, err)
		}
	}
}

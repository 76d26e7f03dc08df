package main

import "testing"

// Without a home isofs keeps nothing where other users could have been first:
// not in /tmp, and not in the current folder.
func TestNoHome(t *testing.T) {
	mine := t.TempDir()
	for name, c := range map[string]struct {
		home, state string
		keeps       string // for a user who is not root; "": --state is needed
	}{
		"a home":                    {mine, "", mine + "/.local/state/isofs"},
		"no home":                   {"", "", ""},
		"a home that is relative":   {"home", "", ""},
		"a folder but no home":      {"", mine + "/s", mine + "/s/isofs"},
		"a folder that is relative": {mine, "s", mine + "/.local/state/isofs"},
	} {
		t.Setenv("HOME", c.home)
		t.Setenv("XDG_STATE_HOME", c.state)
		if got := defaultStateOf(1000); got != c.keeps {
			t.Errorf("%s: the state is %q, want %q", name, got, c.keeps)
		}
		if err := checkState(defaultStateOf(1000)); (err == nil) != (c.keeps != "") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

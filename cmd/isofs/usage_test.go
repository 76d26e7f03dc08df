package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/spf13/cobra"
)

// TestSettingsAreCalledAsGiven: an error names the flag, the variable or the line
// of the file that gave the value, whatever it is joined with.
func TestSettingsAreCalledAsGiven(t *testing.T) {
	t.Setenv("ISOFS_BASE", "x")
	root, err := settled(t, "channel = \"c\"\nmirror = [\"m\"]\n", "--listen", "l")
	if err != nil {
		t.Fatal(err)
	}
	file := root.Flags().Lookup("config").Value.String()
	for flag, want := range map[string]string{
		"listen": "--listen 7 is odd", "cache-size": "--cache-size 7 is odd", "base": "ISOFS_BASE 7 is odd", "mirror": file + ": mirror 7 is odd",
	} {
		err := fmt.Errorf("%w", usage(errors.New("else"), wrongFlag(flag, "%d is odd", 7)))
		inner := errors.Unwrap(err)
		nameSettings(root.Flags(), err)
		if got := inner.Error(); got != "else\n"+want {
			t.Errorf("%q, want %q", got, want)
		}
	}
	// Nor does the process of --user call it otherwise.
	again, _ := settled(t, "")
	if err := settingsOf(root.Flags()).apply(again.Flags()); err != nil {
		t.Fatal(err)
	}
	if err := blame("mirror", errors.New("no")); true {
		nameSettings(again.Flags(), err)
		if want := file + ": mirror: no"; err.Error() != want {
			t.Errorf("handed down: %q, want %q", err, want)
		}
	}
	if err := blame("sign-key", errors.New("no")); true {
		nameSettings(again.Flags(), err)
		if err.Error() != "no" {
			t.Errorf("a flag that the command does not have is named: %q", err)
		}
	}
}

// TestHints: a hint is of the command's own directories, or there is none.
func TestHints(t *testing.T) {
	cmd := &cobra.Command{}
	cmd.Flags().String("state", "/state", "")
	cmd.Flags().String("cache", "", "")
	cmd.Flags().String("output", "", "")
	other := &cobra.Command{}
	full := func(path string) error {
		return fmt.Errorf("write: %w", &fs.PathError{Op: "write", Path: path, Err: syscall.ENOSPC})
	}
	for _, c := range []struct {
		cmd   *cobra.Command
		err   error
		words string
	}{
		{cmd, full("/state/cache/x.blocks"), "--cache (/state/cache) is full"},
		{cmd, full("/state/bundles/x"), "--state (/state) is full"},
		{cmd, full("/elsewhere/notepat-os.iso"), ""},
		{cmd, full("/state-of-mine/x"), ""},
		{cmd, &os.LinkError{Op: "rename", Old: "/a", New: "/state/b", Err: syscall.ENOSPC}, "--state"},
		{cmd, syscall.ENOSPC, ""},
		{other, full("/state/cache/x.blocks"), ""},
		{cmd, &fs.PathError{Path: "/state/x", Err: os.ErrPermission}, "--state"},
		{cmd, &fs.PathError{Path: "/key", Err: os.ErrPermission}, ""},
		{other, &fs.PathError{Path: "x", Err: os.ErrPermission}, ""},
	} {
		if got := hintFor(c.cmd, c.err); got == "" != (c.words == "") || !strings.Contains(got, c.words) {
			t.Errorf("%v: the hint is %q, want %q in it", c.err, got, c.words)
		}
	}
}

// TestVariablesThatAreNone names what looks like a setting, with what is like it.
func TestVariablesThatAreNone(t *testing.T) {
	for name, want := range map[string]string{
		"ISOFS_CACHE_SIZ": "; did you mean ISOFS_CACHE_SIZE?", "ISOFS_CACHESIZE": "; did you mean ISOFS_CACHE_SIZE?",
		"ISOFS_TO": "none", "ISOFS_ADMIN_KEY": "none", "ISOFS_S3_ENDPOINT": "none", "ISOFS_CHILD_OF_ROOT": "none", "ISOFS": "none", "ISOFS_ZZZZZZZZ": "",
	} {
		got := "none"
		for said, near := range strangeVariables(newRoot(), []string{"HOME=/", name + "=x"}) {
			if said != name {
				t.Errorf("%s: %s is named", name, said)
			}
			got = near
		}
		if got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
}

package main

import (
	"fmt"
	"io/fs"
	"os"
	"strings"
	"syscall"
	"testing"

	"aesthetic.computer/isofs/settings"
	"github.com/spf13/cobra"
)

// TestHints: a hint names the command's own directories, or there is no hint.
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

// TestVariablesThatAreNone names variables that look like settings, each with a
// similar setting.
func TestVariablesThatAreNone(t *testing.T) {
	for name, want := range map[string]string{
		"ISOFS_CACHE_SIZ": "; did you mean ISOFS_CACHE_SIZE?", "ISOFS_CACHESIZE": "; did you mean ISOFS_CACHE_SIZE?",
		"ISOFS_TO": "none", "ISOFS_ADMIN_KEY": "none", "ISOFS_S3_ENDPOINT": "none", "ISOFS_CHILD_OF_ROOT": "none", "ISOFS": "none", "ISOFS_ZZZZZZZZ": "",
	} {
		got := "none"
		for named, near := range settings.Strange(newRoot(), []string{"HOME=/", name + "=x"}, ownVariables) {
			if named != name {
				t.Errorf("%s: %s is named", name, named)
			}
			got = near
		}
		if got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
}

package integration

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestStandardOutputIsFull: a command whose output does not arrive fails, and does not blame the
// cache.
func TestStandardOutputIsFull(t *testing.T) {
	t.Parallel()
	dir := readable(t)
	key := filepath.Join(dir, "first.asc")
	if status, _, stderr := isofsCommand(t, nil, "key", "new", "--name", "x", "--email", "x@example.org", "--out", key); status != 0 {
		t.Fatal(stderr)
	}
	image := filepath.Join(baseDir, "base.iso")
	www := filepath.Join(dir, "www")
	if status, _, stderr := isofsCommand(t, nil, "base", "publish", baseDir, "--to", www); status != 0 {
		t.Fatal(stderr)
	}
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer full.Close()
	for _, args := range [][]string{
		{"--help"}, {"--version"}, {"base"}, {"completion", "bash"},
		{"inspect", image},
		{"base", "verify", baseDir}, {"base", "list", "--from", www}, {"base", "rollback", "--at", www, readManifest(t).Version},
		{"key", "public", key}, {"key", "new", "--name", "x", "--email", "x@example.org", "--out", filepath.Join(dir, "key.asc")},
		{"nginx-config"}, {"doctor", "bake"},
		{"pack", "notepat", "--base", baseDir, "--state", filepath.Join(dir, "state"), "-o", filepath.Join(dir, "image.iso")},
		{"inspect", "notepat", "--base", baseDir, "--state", filepath.Join(dir, "state")}, // the process of --user prints this
	} {
		var output bytes.Buffer
		cmd := exec.Command(isofs, args...)
		cmd.Stdout, cmd.Stderr = full, &output
		err := cmd.Run()
		exit, ok := errors.AsType[*exec.ExitError](err)
		if !ok || exit.ExitCode() != failed || !strings.Contains(output.String(), "standard output did not take all of the output: ") || strings.Contains(output.String(), "hint: ") {
			t.Errorf("isofs %q: %v\n%s", args, err, output.String())
		}
	}
	// With nothing to print, a closed output is not an error.
	cmd := exec.Command("sh", "-c", `exec "$0" verify "$1" --keyring "$2" >&-`, isofs, image, key)
	if out, err := cmd.CombinedOutput(); err == nil || strings.Contains(string(out), "standard output") {
		t.Errorf("a signature that is not there: %v\n%s", err, out)
	}
}

package bake

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"aesthetic.computer/isofs/fault"
)

// commandPatience is how long a command that was told to stop may take.
const commandPatience = 5 * time.Second

// A tool is a command and the Debian package that has it.
type tool struct{ command, pkg string }

// findTools reports all tools that are missing at once, with the command that
// installs them.
func findTools(tools []tool) error {
	var missing, packages []string
	for _, t := range tools {
		if lookTool(t.command) == "" {
			missing = append(missing, t.command)
			packages = append(packages, t.pkg)
		}
	}
	if len(missing) == 0 {
		return nil
	}
	slices.Sort(packages)
	return fmt.Errorf("bake: missing %s; install: apt-get install --no-install-recommends %s: %w",
		strings.Join(missing, ", "), strings.Join(slices.Compact(packages), " "), fault.Unavailable)
}

// lookTool finds a command, also where only root's path leads; "" if nowhere.
func lookTool(command string) string {
	for _, name := range []string{command, "/usr/sbin/" + command, "/sbin/" + command} {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	return ""
}

// A runner runs commands in one directory, so that what they print and write
// depends on nothing but their arguments and the epoch.
type runner struct {
	ctx   context.Context
	dir   string
	epoch time.Time
}

// run runs a command and returns what it printed. An error has the command's
// own words, and wraps fault.Unavailable.
func (r runner) run(name string, args ...string) (string, error) {
	path := lookTool(name)
	if path == "" {
		return "", fmt.Errorf("bake: %s is not installed: %w", name, fault.Unavailable)
	}
	cmd := exec.CommandContext(r.ctx, path, args...)
	cmd.Dir = r.dir
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = commandPatience
	epoch := fmt.Sprint(r.epoch.Unix())
	cmd.Env = append(os.Environ(), "LC_ALL=C", "TZ=UTC",
		"SOURCE_DATE_EPOCH="+epoch, "E2FSPROGS_FAKE_TIME="+epoch, "MTOOLS_SKIP_CHECK=1")
	var out, words bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &words
	if err := cmd.Run(); err != nil {
		if r.ctx.Err() != nil {
			err = context.Cause(r.ctx)
		}
		said := strings.TrimSpace(words.String() + out.String())
		return "", fmt.Errorf("bake: %s %s: %w: %w: %s", filepath.Base(name), strings.Join(args, " "), fault.Unavailable, err, said)
	}
	return out.String(), nil
}

// stamp sets the time of everything below dir, and of dir, to the epoch.
func (r runner) stamp(dir string) error {
	var paths []string
	err := filepath.WalkDir(dir, func(path string, _ os.DirEntry, err error) error {
		paths = append(paths, path)
		return err
	})
	at := unix.NsecToTimespec(r.epoch.UnixNano())
	times := []unix.Timespec{at, at}
	// The deepest first: writing to a folder changes its own time.
	for _, path := range slices.Backward(paths) {
		// Not os.Chtimes, which goes through symbolic links.
		err = errors.Join(err, unix.UtimesNanoAt(unix.AT_FDCWD, path, times, unix.AT_SYMLINK_NOFOLLOW))
	}
	if err != nil {
		return fmt.Errorf("bake: set times below %s: %w: %w", dir, fault.Unavailable, err)
	}
	return nil
}

// put writes a file of the work tree, with its folders.
func put(path string, data []byte, mode os.FileMode) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return fmt.Errorf("bake: %w: %w", fault.Unavailable, err)
	}
	if err := os.WriteFile(path, data, mode); err != nil {
		return fmt.Errorf("bake: %w: %w", fault.Unavailable, err)
	}
	// The mode given to WriteFile is cut by the umask, and kept for old files.
	if err := os.Chmod(path, mode); err != nil {
		return fmt.Errorf("bake: %w: %w", fault.Unavailable, err)
	}
	return nil
}

// copyFile copies a file of the work tree.
func copyFile(to, from string, mode os.FileMode) error {
	data, err := os.ReadFile(from)
	if err != nil {
		return fmt.Errorf("bake: %w: %w", fault.Unavailable, err)
	}
	return put(to, data, mode)
}

package bake

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"

	"aesthetic.computer/isofs/fault"
)

// toolPackages are the programs of a bake, with their packages.
var toolPackages = map[string]string{
	"apt-cache":  "apt",
	"apt-get":    "apt",
	"dpkg-deb":   "dpkg",
	"gzip":       "gzip",
	"mcopy":      "mtools",
	"mmd":        "mtools",
	"mkfs.vfat":  "dosfstools",
	"mkfs.erofs": "erofs-utils",
	"mke2fs":     "e2fsprogs",
	"debugfs":    "e2fsprogs",
	// Not that of the downloaded package, which needs libraries.
	"grub-mkimage": "grub-common",
}

// findTools returns the path of every tool of a bake. It also looks into the
// sbin folders, which some users lack in their PATH. One error names all
// missing tools.
func findTools() (map[string]string, error) {
	return findToolsIn(searchPath(), toolPackages)
}

// searchPath has the folders of the tools: PATH, and the sbin folders. It
// leaves out relative folders, as tools run in another folder than this
// process.
func searchPath() []string {
	dirs := append(filepath.SplitList(os.Getenv("PATH")), "/usr/sbin", "/sbin")
	return slices.DeleteFunc(dirs, func(dir string) bool { return !filepath.IsAbs(dir) })
}

func findToolsIn(dirs []string, toolPackages map[string]string) (map[string]string, error) {
	found := map[string]string{}
	var missing, packages []string
	for tool, pkg := range toolPackages {
		for _, dir := range dirs {
			path, err := exec.LookPath(filepath.Join(dir, tool))
			if err == nil && found[tool] == "" {
				found[tool] = path
			}
		}
		if found[tool] == "" {
			missing, packages = append(missing, tool), append(packages, pkg)
		}
	}
	if len(missing) == 0 {
		return found, nil
	}
	slices.Sort(missing)
	slices.Sort(packages)
	return nil, fmt.Errorf("%s missing; on Debian: apt-get install %s: %w",
		strings.Join(missing, ", "), strings.Join(slices.Compact(packages), " "), fault.NotFound)
}

// A runner runs tools in an environment in which their output depends only on
// their input.
type runner struct {
	tools map[string]string
	epoch int64
	log   *slog.Logger
}

// A toolError is a tool that failed, and the end of what it printed.
type toolError struct {
	Tool   string
	Output string
	err    error
}

func (e *toolError) Error() string {
	return fmt.Sprintf("%s: %v: %s", e.Tool, e.err, e.Output)
}

func (e *toolError) Unwrap() error { return e.err }

// output runs a tool in dir and returns its standard output. When ctx ends, the
// tool and all its children are killed.
func (r *runner) output(ctx context.Context, dir, tool string, args ...string) (string, error) {
	var stdout bytes.Buffer
	err := r.start(ctx, command{dir: dir, tool: tool, args: args, out: &stdout, progress: io.Discard})
	return stdout.String(), err
}

// follow is output for a tool that prints its progress on standard error: show
// gets each line.
func (r *runner) follow(ctx context.Context, dir string, show func(line string), tool string, args ...string) error {
	read, write := io.Pipe()
	shown := make(chan struct{})
	go func() {
		defer close(shown)
		for lines := bufio.NewScanner(read); lines.Scan(); {
			show(lines.Text())
		}
		_, _ = io.Copy(io.Discard, read) // of a line that is too long
	}()
	err := r.start(ctx, command{dir: dir, tool: tool, args: args, out: io.Discard, progress: write})
	write.Close()
	<-shown
	return err
}

// A command is one run of a tool.
type command struct {
	dir, tool     string
	args          []string
	out, progress io.Writer // get standard output and standard error
}

// start runs a command until it ends.
func (r *runner) start(ctx context.Context, c command) error {
	cmd := exec.CommandContext(ctx, r.tools[c.tool], c.args...)
	cmd.Dir = c.dir
	cmd.Env = append(os.Environ(),
		"LC_ALL=C", "TZ=UTC",
		fmt.Sprintf("SOURCE_DATE_EPOCH=%d", r.epoch),
		fmt.Sprintf("E2FSPROGS_FAKE_TIME=%d", r.epoch),
		// Without the defaults of this machine's administrator.
		"MKE2FS_CONFIG=/dev/null", "MTOOLSRC=/dev/null",
	)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = io.MultiWriter(&stdout, c.out), io.MultiWriter(&stderr, c.progress)
	// A separate process group, as apt-get downloads through children. The
	// kernel kills the tool when the thread that started it ends. So this
	// goroutine keeps its thread, and the tool ends when this process is
	// killed.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = 10 * time.Second
	start := time.Now()
	err := cmd.Run()
	r.log.Debug("ran", "tool", c.tool, "args", c.args, "took", time.Since(start), "err", err)
	if err != nil {
		return &toolError{Tool: c.tool, Output: lastLines(stderr.String()+stdout.String(), 5), err: err}
	}
	return nil
}

// lastLines returns the last n lines that are not empty, joined by "; ".
func lastLines(s string, n int) string {
	lines := strings.FieldsFunc(s, func(r rune) bool { return r == '\n' || r == '\r' })
	return strings.Join(lines[max(0, len(lines)-n):], "; ")
}

// kindOf gives an error of the system or of a tool one of the four kinds, with
// a hint if there is one.
func kindOf(ctx context.Context, err error) error {
	full := errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT)
	var tool *toolError
	if errors.As(err, &tool) && (strings.Contains(tool.Output, "No space left") || strings.Contains(tool.Output, "Disk quota")) {
		full = true
	}
	switch {
	case ctx.Err() != nil:
		return fmt.Errorf("%w: %w", fault.Unavailable, context.Cause(ctx))
	case fault.Kind(err) != nil:
		return err
	case full:
		return fmt.Errorf("the disk is full: free some space, or choose another work or output directory: %w: %w", fault.Unavailable, err)
	case errors.Is(err, os.ErrPermission), errors.Is(err, syscall.EROFS), errors.Is(err, syscall.ENOTDIR):
		return fmt.Errorf("the directory cannot be used: %w: %w", fault.Invalid, err)
	}
	return fmt.Errorf("%w: %w", fault.Unavailable, err)
}

package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"aesthetic.computer/isofs/border"
	"aesthetic.computer/isofs/server"
)

// When root starts a command that keeps state, root does not do its work: this
// program, started once more as --user, does. So all that is below the
// directories of that user is opened and written by the user, and root cannot
// be led from there to anything of its own (package border).

// childMark tells a process that it is that second one.
const childMark = "ISOFS_CHILD_OF_ROOT"

// isChild reports whether this process was started by root's.
func isChild() bool { return os.Getenv(childMark) != "" }

// defaultUser is a user of isofs's own: what is given to it is given to no
// other program.
const defaultUser = "isofs"

// makeUser is the command that makes a user like it.
const makeUser = "useradd --system --user-group --no-create-home --home-dir /var/lib/isofs --shell /usr/sbin/nologin"

// An identity is whom to run as.
type identity struct {
	name     string
	uid, gid int
	groups   []uint32 // the others that the user is in
}

func (i identity) isRoot() bool { return i.uid == 0 }

// lookupUser finds --user. Only root can become somebody else.
func lookupUser(name string) (identity, error) {
	if os.Geteuid() != 0 {
		return identity{uid: os.Geteuid(), gid: os.Getegid()}, nil
	}
	u, err := user.Lookup(name)
	if _, unknown := errors.AsType[user.UnknownUserError](err); unknown {
		return identity{}, &noUserError{name}
	}
	if err != nil {
		return identity{}, usage(blame("user", err))
	}
	uid, err1 := strconv.Atoi(u.Uid)
	gid, err2 := strconv.Atoi(u.Gid)
	ids, err3 := u.GroupIds()
	if err := errors.Join(err1, err2, err3); err != nil {
		return identity{}, wrongFlag("user", "%s: %w", name, err)
	}
	as := identity{name: name, uid: uid, gid: gid}
	for _, id := range ids {
		if group, err := strconv.ParseUint(id, 10, 32); err == nil {
			as.groups = append(as.groups, uint32(group))
		}
	}
	return as, nil
}

// A noUserError says that there is no user to run as.
type noUserError struct{ name string }

func (e *noUserError) Error() string {
	return fmt.Sprintf("there is no user %s, and root's isofs runs as that user. Make it, or name another with --user:\n  %s %s", e.name, makeUser, e.name)
}

// Unwrap gives the kind.
func (e *noUserError) Unwrap() error { return errUsage }

// credential is what a process of the user has.
func (i identity) credential() *syscall.Credential {
	return &syscall.Credential{Uid: uint32(i.uid), Gid: uint32(i.gid), Groups: i.groups}
}

// giveDirectories makes the directories that the user keeps things in.
func (o *stackFlags) giveDirectories(as identity) error {
	if err := border.Give(o.state, as.uid, as.gid); err != nil {
		return err
	}
	cache := o.cache.dir(o.state)
	if cache == "" {
		return nil // it is in memory
	}
	if err := border.Give(cache, as.uid, as.gid); err != nil {
		// Nothing that is served depends on the cache.
		slog.Warn("the cache's directory cannot be given to the user", "user", as.name, "err", err)
	}
	return nil
}

// command is this program once more, as the user, to do the work of cmd with
// these arguments and with the settings that were resolved here, which settings
// sends to it.
func (o *stackFlags) command(cmd *cobra.Command, as identity, args ...string) (again *exec.Cmd, settings *handover, err error) {
	// Not by its name: the user may not be allowed to look into the folder that
	// it lies in.
	again = exec.Command("/proc/self/exe", append(strings.Fields(cmd.CommandPath())[1:], args...)...)
	again.Env = append(os.Environ(), childMark+"=1", "HOME="+o.state)
	again.Stdout, again.Stderr = outward(os.Stdout), outward(os.Stderr)
	again.SysProcAttr = &syscall.SysProcAttr{
		Credential: as.credential(),
		// A session of its own. So a terminal's ctrl-C is for root's process, which
		// stops this one in order; and this one cannot type at root's terminal
		// (ioctl TIOCSTI needs it to be the session's).
		Setsid: true,
		// If root's process is killed this one ends too, and at once: one that took
		// its time, or was stuck, would still hold the state and answer for the
		// mount when the next start looks.
		Pdeathsig: syscall.SIGKILL,
	}
	pipe, err := again.StdinPipe()
	if err != nil {
		return nil, nil, fmt.Errorf("start %s as %s: %w", cmd.Name(), as.name, err)
	}
	return again, &handover{to: pipe}, nil
}

// outward is f for writing only, where it is a terminal: those are open for
// reading too, and the user must not read what root types.
func outward(f *os.File) *os.File {
	if !term.IsTerminal(int(f.Fd())) {
		return f
	}
	if only, err := os.OpenFile(fmt.Sprintf("/proc/self/fd/%d", f.Fd()), os.O_WRONLY|syscall.O_NOCTTY, 0); err == nil {
		return only
	}
	return f
}

// asUser has --user do the work of cmd, with files as its descriptors from 3
// on, if this process is root's. If not it reports so, and the caller does it.
func (o *stackFlags) asUser(ctx context.Context, cmd *cobra.Command, args []string, files ...*os.File) (done bool, err error) {
	if os.Geteuid() != 0 || isChild() {
		return false, nil
	}
	as, err := lookupUser(o.user)
	if err != nil || as.isRoot() {
		return err != nil, err
	}
	if err := o.giveDirectories(as); err != nil {
		return true, err
	}
	again, settings, err := o.command(cmd, as, args...)
	if err != nil {
		return true, err
	}
	again.ExtraFiles = files
	c, err := server.StartChild(again)
	if err != nil {
		return true, err
	}
	if err := settings.send(settingsOf(cmd.Flags())); err != nil {
		_ = c.Process.Kill() // it may have ended; then its error is the better one
	}
	select {
	case <-c.Done:
	case <-ctx.Done():
		_ = c.Process.Signal(syscall.SIGTERM) // it may have ended
		<-c.Done
	}
	return true, c.Err()
}

// absolute makes a path that a flag gave independent of the current directory,
// unless it is empty.
func absolute(path *string) error {
	if *path == "" {
		return nil
	}
	abs, err := filepath.Abs(*path)
	if err != nil {
		return fmt.Errorf("make %s absolute: %w", *path, err)
	}
	*path = abs
	return nil
}

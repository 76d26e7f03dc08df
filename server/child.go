package server

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"syscall"

	"aesthetic.computer/isofs/nginx"
)

// RunChild is Run in a child of RunParent: the device, the API's socket and the
// mount are the parent's. It sets what of the Config depends on that. That the
// parent unmounts, or ends, is no error.
func RunChild(ctx context.Context, c Config) error {
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	signal.Ignore(syscall.SIGHUP) // the parent's to obey
	// Before anybody can send it, since it ends a process that does not listen.
	streams, end := signal.NotifyContext(ctx, endStreams)
	defer end()
	syscall.CloseOnExec(readyFD)
	toParent := os.NewFile(readyFD, "parent")
	c.Mount.Device, c.Mount.AllowOther = os.NewFile(deviceFD, "/dev/fuse"), true
	c.Listen, c.Services.Stopping, c.Web = inheritedAPI, streams.Done(), nil
	started := c.Started
	c.Started = func(s *Services, web *nginx.Server) error {
		if started != nil {
			if err := started(s, web); err != nil {
				return err
			}
		}
		if _, err := io.WriteString(toParent, ready); err != nil {
			return fmt.Errorf("tell the parent: %w", err)
		}
		return toParent.Close()
	}
	err := Run(ctx, c)
	if _, ok := errors.AsType[*UnmountedError](err); ok {
		c.Log.Debug("child ends", "why", err)
		return nil
	}
	return err
}

// inheritedAPI is the socket that the parent listens on. It stays when this
// process ends: requests then wait for the next child.
func inheritedAPI() (net.Listener, error) {
	f := os.NewFile(apiFD, "api")
	defer f.Close()
	l, err := net.FileListener(f)
	if err != nil {
		return nil, fmt.Errorf("take over the API's socket: %w", err)
	}
	if unix, ok := l.(*net.UnixListener); ok {
		unix.SetUnlinkOnClose(false)
	}
	return l, nil
}

// A Child is a process that was started as another user.
type Child struct {
	Process *os.Process
	Done    chan struct{} // closed when the process has ended
	err     error         // set before Done is closed
}

// StartChild starts cmd, which has a Credential, on a thread that lives as long
// as the process, since Pdeathsig is sent when the thread that started it ends.
func StartChild(cmd *exec.Cmd) (*Child, error) {
	c := &Child{Done: make(chan struct{})}
	started := make(chan error)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		c.Process = cmd.Process
		started <- err
		if err == nil {
			c.err = cmd.Wait()
			close(c.Done)
		}
	}()
	if err := <-started; err != nil {
		return nil, fmt.Errorf("start isofs as user %d: %w", cmd.SysProcAttr.Credential.Uid, err)
	}
	return c, nil
}

// Err returns nil if the child succeeded, else a *ChildError. It may be called
// once Done is closed.
func (c *Child) Err() error {
	if c.err == nil {
		return nil
	}
	return &ChildError{c.err}
}

// A ChildError says that a child failed. The child has reported why.
type ChildError struct{ err error }

// Error implements error.
func (e *ChildError) Error() string {
	return fmt.Sprintf("not done (%v), for the reason above", e.err)
}

// Unwrap returns the error of the child's exit.
func (e *ChildError) Unwrap() error { return e.err }

// Status is the child's exit status, which tells the kind of failure; -1 if it
// was killed.
func (e *ChildError) Status() int {
	if exit, ok := errors.AsType[*exec.ExitError](e.err); ok {
		return exit.ExitCode()
	}
	return -1
}

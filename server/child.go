package server

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"sync"
	"syscall"
	"time"

	"golang.org/x/term"

	"aesthetic.computer/isofs/fault"
	"aesthetic.computer/isofs/nginx"
)

// runChild serves in a child: the parent owns the device, the API's socket, the mount and
// nginx. The parent unmounts at its end, which is not an error here.
func (c *Config) runChild(ctx context.Context) error {
	signal.Ignore(syscall.SIGHUP) // the parent obeys it
	// Before the parent can send the signal, which ends a process that does not listen
	// for it.
	streams, end := signal.NotifyContext(ctx, endStreams)
	defer end()
	syscall.CloseOnExec(readyFD)
	toParent := os.NewFile(readyFD, "parent")
	c.Mount.Device, c.Mount.AllowOther = os.NewFile(deviceFD, "/dev/fuse"), true
	c.Services.Stopping = streams.Done()
	err := c.serve(ctx, inheritedAPI, func(s *Services, _ *nginx.Server) error {
		go c.obeyParent(s)
		if _, err := io.WriteString(toParent, ready); err != nil {
			return fmt.Errorf("tell the parent: %w", err)
		}
		return toParent.Close()
	})
	if _, ok := errors.AsType[*UnmountedError](err); ok {
		c.Log.Debug("child ends", "why", err)
		return nil
	}
	return err
}

// obeyParent takes over the settings that the parent sends after each hangup, until the
// parent has ended.
func (c *Config) obeyParent(s *Services) {
	for {
		err := c.Process.Reload(s, nil)
		if errors.Is(err, ErrParentGone) {
			return
		}
		if err != nil {
			c.Log.Error("SIGHUP: the settings stay as they were", "err", err)
		}
	}
}

// inheritedAPI returns the socket that the parent listens on. It stays when this process
// ends: requests then wait for the next child.
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

// ChildMark is the environment variable of a process that root's isofs started.
const ChildMark = "ISOFS_CHILD_OF_ROOT"

// IsChild reports whether root's isofs started this process as another user.
func IsChild() bool { return os.Getenv(ChildMark) != "" }

// A Child is this program, started again as another user.
type Child struct {
	Process *os.Process
	Done    chan struct{} // closed when the process has ended
	err     error         // set before Done is closed
	input   io.WriteCloser
}

// StartChild starts this program again as a user, with these arguments, with home as its
// HOME, and with files as its descriptors from 3 on.
func StartChild(as Identity, home string, args []string, files ...*os.File) (*Child, error) {
	// Not by its name: the user may not be allowed to look into the program's folder.
	cmd := exec.Command("/proc/self/exe", args...)
	cmd.Env = append(os.Environ(), ChildMark+"=1", "HOME="+home)
	cmd.Stdout, cmd.Stderr = outward(os.Stdout), outward(os.Stderr)
	cmd.ExtraFiles = files
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Credential: as.credential(),
		// It gets its own session. So a terminal's ctrl-C reaches root's process, which
		// stops this one in order. And this one cannot type at root's terminal (ioctl
		// TIOCSTI needs it to be the session's).
		Setsid: true,
		// If root's process is killed this one ends too, and at once. A slow or stuck one
		// would still hold the state and answer for the mount at the next start.
		Pdeathsig: syscall.SIGKILL,
	}
	input, err := cmd.StdinPipe()
	if err != nil {
		return nil, fmt.Errorf("start isofs as %s: %w", as.Name, err)
	}
	c := &Child{Done: make(chan struct{}), input: input}
	if err := c.start(cmd); err != nil {
		return nil, fmt.Errorf("start isofs as %s: %w", as.Name, err)
	}
	return c, nil
}

// start starts cmd on a thread that lives as long as the process: the kernel sends
// Pdeathsig when the thread that started cmd ends.
func (c *Child) start(cmd *exec.Cmd) error {
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
	return <-started
}

// outward returns f for writing only, if it is a terminal. Terminals are open for reading
// too, and the user must not read what root types.
func outward(f *os.File) *os.File {
	if !term.IsTerminal(int(f.Fd())) {
		return f
	}
	if only, err := os.OpenFile(fmt.Sprintf("/proc/self/fd/%d", f.Fd()), os.O_WRONLY|syscall.O_NOCTTY, 0); err == nil {
		return only
	}
	return f
}

// sendPatience is how long a child may take to accept a message. A stuck child must not
// block the parent.
const sendPatience = 5 * time.Second

// Send sends the child v, as JSON on its standard input.
func (c *Child) Send(v any) error {
	if pipe, ok := c.input.(*os.File); ok {
		_ = pipe.SetWriteDeadline(time.Now().Add(sendPatience)) // if it cannot be set, this waits
	}
	if err := json.NewEncoder(c.input).Encode(v); err != nil {
		return fmt.Errorf("send to the serving process: %w: %w", fault.Unavailable, err)
	}
	return nil
}

// fromParent reads the parent's messages. The process has one decoder, since a decoder
// reads ahead.
var fromParent = sync.OnceValue(func() *json.Decoder { return json.NewDecoder(os.Stdin) })

// ErrParentGone means that the parent has closed its end.
var ErrParentGone = errors.New("read the settings from the process that started this one")

// Receive waits, in a child, for the next value that the parent sends.
func Receive(v any) error {
	if err := fromParent().Decode(v); err != nil {
		return fmt.Errorf("%w: %w", ErrParentGone, err)
	}
	return nil
}

// Err returns nil if the child succeeded, else a *ChildError. Call it only after Done is
// closed.
func (c *Child) Err() error {
	if c.err == nil {
		return nil
	}
	return &ChildError{c.err}
}

// A ChildError means that a child failed. The child has reported why.
type ChildError struct{ err error }

// Error implements error.
func (e *ChildError) Error() string {
	return fmt.Sprintf("not done (%v), for the reason above", e.err)
}

// Unwrap returns the error of the child's exit.
func (e *ChildError) Unwrap() error { return e.err }

// Status returns the child's exit status, which shows the kind of failure; -1 if it was
// killed.
func (e *ChildError) Status() int {
	if exit, ok := errors.AsType[*exec.ExitError](e.err); ok {
		return exit.ExitCode()
	}
	return -1
}

package nginx

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"sync"
	"syscall"
	"time"
	"unsafe"

	"aesthetic.computer/isofs/fault"
)

// A child is one run of nginx: a master and its workers, in their own session.
// A terminal's interrupt reaches only isofs. Workers, which are not root's,
// cannot type at root's terminal.
type child struct {
	master  *os.Process
	started time.Time
	exited  chan struct{} // closed when the master has ended and its workers were killed
	err     error         // how the master ended; to be read after exited
}

// spawn starts nginx. Its standard error goes to errs, its standard output
// (an access log at /dev/stdout) to stdout.
func spawn(path, confPath string, stdout io.Writer, errs *errorLog) (*child, error) {
	cmd := exec.Command(path, "-e", "stderr", "-c", confPath)
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Setsid: true,
		// A killed isofs takes nginx with it. SIGTERM and not SIGKILL: the
		// master passes it on to its workers, which would live on otherwise.
		Pdeathsig: syscall.SIGTERM,
	}
	var copies sync.WaitGroup
	closers := make([]func() error, 0, 2)
	// Pipes, also for stdout: nginx opens /dev/stdout by name, which fails when
	// it is a socket, as under systemd.
	pipe := func(read func(io.Reader)) (*os.File, error) {
		r, w, err := os.Pipe()
		if err != nil {
			return nil, err
		}
		closers = append(closers, w.Close)
		copies.Go(func() { defer r.Close(); read(r) })
		return w, nil
	}
	stderrPipe, err1 := pipe(errs.copy)
	stdoutPipe, err2 := pipe(func(r io.Reader) {
		_, _ = io.Copy(stdout, r)
		_, _ = io.Copy(io.Discard, r) // a closed stdout must not block the workers
	})
	c := &child{exited: make(chan struct{})}
	err := errors.Join(err1, err2)
	if err == nil {
		cmd.Stderr, cmd.Stdout = stderrPipe, stdoutPipe
		err = c.run(cmd, &copies)
	}
	for _, close := range closers {
		_ = close()
	}
	if err != nil {
		return nil, fmt.Errorf("start %s: %w: %w", path, fault.Unavailable, err)
	}
	return c, nil
}

// run starts cmd and returns; a goroutine waits for its end.
func (c *child) run(cmd *exec.Cmd, copies *sync.WaitGroup) error {
	result := make(chan error)
	go func() {
		// The kernel sends Pdeathsig when the starting *thread* ends, so this
		// one must live, and do nothing else, for as long as the child.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		c.master, c.started = cmd.Process, time.Now()
		result <- err
		if err != nil {
			return
		}
		awaitEnd(cmd.Process.Pid)
		// A master that was killed leaves its workers, and with them the port,
		// behind. Until it is reaped no other group can have its id.
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		c.err = cmd.Wait()
		// Its last lines belong before the lines about its end, but a worker
		// that cannot die holds the pipe open.
		copied := make(chan struct{})
		go func() { copies.Wait(); close(copied) }()
		select {
		case <-copied:
		case <-time.After(time.Second):
		}
		close(c.exited)
	}()
	return <-result
}

// awaitEnd returns when the child process pid has ended, and does not reap it.
func awaitEnd(pid int) {
	const pPID, wExited, wNoWait = 1, 0x4, 0x01000000 // waitid(2)
	var siginfo [128]byte
	for {
		_, _, errno := syscall.Syscall6(syscall.SYS_WAITID, pPID, uintptr(pid), uintptr(unsafe.Pointer(&siginfo)), wExited|wNoWait, 0, 0)
		if errno != syscall.EINTR {
			return
		}
	}
}

// signal reaches the master, or no process if it has ended.
func (c *child) signal(s syscall.Signal) { _ = c.master.Signal(s) }

// kill ends it at once and waits for that.
func (c *child) kill() {
	c.signal(syscall.SIGKILL)
	<-c.exited
}

func (c *child) hasExited() bool {
	select {
	case <-c.exited:
		return true
	default:
		return false
	}
}

package vfs

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

// look is the pause between two looks at an interrupted reader.
const look = 100 * time.Millisecond

// request returns the context of the work for one FUSE request. It ends after
// limit (if any), and when no reader waits for the answer any more.
//
// The kernel reports every signal that reaches a waiting reader, also harmless
// ones: a child's end, Ctrl-Z, the timer by which Go schedules. Giving up then
// would make cp and sha256sum fail ("Interrupted system call") where on a disk
// they continue. So a request is given up only when its reader is dying or the
// mount has ended. The kernel reports only the first signal of a request; hence
// the repeated looks.
func (c *core) request(outer context.Context, limit time.Duration) (context.Context, context.CancelFunc) {
	var inner context.Context
	var cancel context.CancelFunc
	if limit > 0 {
		inner, cancel = context.WithTimeout(context.Background(), limit)
	} else {
		inner, cancel = context.WithCancel(context.Background())
	}
	go c.watch(outer, inner, cancel)
	return inner, cancel
}

// watch cancels inner when outer was interrupted for good. go-fuse gives the
// channel of outer to a later request when this one was answered. An interrupt
// of that one does not matter here, as inner has ended by then.
func (c *core) watch(outer, inner context.Context, cancel context.CancelFunc) {
	select {
	case <-inner.Done():
		return
	case <-outer.Done():
	}
	for !dying(outer) && !c.dropped() {
		select {
		case <-inner.Done():
			return
		case <-time.After(look):
		}
	}
	cancel()
}

// dropped reports whether the kernel has dropped the mount: then the device is
// in error, and no reader waits.
func (c *core) dropped() bool {
	conn, err := c.device.SyscallConn()
	if err != nil {
		return true
	}
	dead := true
	// Control fails when the device was closed, which is after the end.
	_ = conn.Control(func(fd uintptr) {
		poll := []unix.PollFd{{Fd: int32(fd)}}
		n, err := unix.Poll(poll, 0)
		dead = err == nil && n == 1 && poll[0].Revents&(unix.POLLERR|unix.POLLHUP|unix.POLLNVAL) != 0
	})
	return dead
}

// dying reports whether a signal is about to end the thread that sent a
// request. A thread that cannot be seen (it ended, or lives in another process
// namespace) counts as dying, as only its interrupt is known then.
func dying(ctx context.Context) bool {
	caller, ok := fuse.FromContext(ctx)
	if !ok || caller.Pid == 0 {
		return true
	}
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", caller.Pid))
	return err != nil || deadly(status)
}

// harmless are the signals that by default end nothing (signal(7)).
var harmless = signals(syscall.SIGSTOP, syscall.SIGTSTP, syscall.SIGTTIN, syscall.SIGTTOU,
	syscall.SIGCONT, syscall.SIGCHLD, syscall.SIGURG, syscall.SIGWINCH)

func signals(list ...syscall.Signal) (set uint64) {
	for _, sig := range list {
		set |= 1 << (sig - 1)
	}
	return set
}

// deadly reads /proc/<tid>/status (proc_pid_status(5)): is the thread dead, or
// is a signal pending that is not blocked, ignored or caught? When a signal
// ends a whole process, the kernel makes SIGKILL pending for each thread.
func deadly(status []byte) bool {
	var pending, spared uint64
	lines := bufio.NewScanner(bytes.NewReader(status))
	for lines.Scan() {
		key, value, _ := strings.Cut(lines.Text(), ":")
		value = strings.TrimSpace(value)
		switch key {
		case "State":
			if strings.HasPrefix(value, "Z") || strings.HasPrefix(value, "X") {
				return true
			}
		case "SigPnd", "ShdPnd":
			set, _ := strconv.ParseUint(value, 16, 64)
			pending |= set
		case "SigBlk", "SigIgn", "SigCgt":
			set, _ := strconv.ParseUint(value, 16, 64)
			spared |= set
		}
	}
	spared &^= signals(syscall.SIGKILL)
	return pending&^(spared|harmless) != 0
}

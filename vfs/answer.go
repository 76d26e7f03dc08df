package vfs

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"aesthetic.computer/isofs/fault"

	"golang.org/x/sys/unix"
)

// Answer asks the file systems at paths for their free space, which no file
// system answers from memory. It waits until they answer or ctx ends. The error
// (fault.Unavailable) names those that do not: they hang, or are FUSE mounts
// whose server has ended. A path that is missing or closed to the user answers,
// too.
//
// stat(1) asks, as a user (nil: this one). A program can be killed; a thread
// that waits in the kernel cannot. If even a kill does not help, the program is
// left behind until the file system answers or its connection is aborted. Files
// are its descriptors from 3 on.
func Answer(ctx context.Context, as *syscall.Credential, paths []string, files ...*os.File) error {
	cmd := exec.Command("stat", append([]string{"-f", "-c", "%T", "--"}, paths...)...)
	cmd.Env = []string{"LC_ALL=C"}
	var says strings.Builder
	cmd.Stderr = &says
	cmd.ExtraFiles = files
	cmd.WaitDelay = time.Second
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: as, Setsid: true}
	ended := make(chan error, 1)
	if err := cmd.Start(); err != nil {
		ended <- err // that tells nothing of the file systems
	} else {
		go func() { ended <- cmd.Wait() }()
	}
	select {
	case err := <-ended:
		for _, dead := range []error{unix.ENOTCONN, unix.ECONNABORTED} {
			if err != nil && strings.Contains(strings.ToLower(says.String()), dead.Error()) {
				return fmt.Errorf("look at file systems: %w: %w: %s", fault.Unavailable, dead, strings.TrimSpace(says.String()))
			}
		}
		return nil
	case <-ctx.Done():
		if cmd.Process != nil {
			_ = cmd.Process.Kill() // it may have ended
		}
		return fmt.Errorf("look at the file systems of %s: %w: no answer in time", strings.Join(paths, ", "), fault.Unavailable)
	}
}

// alive reports whether the server of m answers in time. It asks as the user
// that serves the mount. Without allow_other the kernel passes on no request of
// others, even of root. It asks by a descriptor, since that user may not be
// able to walk there.
func alive(m *mounted, patience time.Duration) bool {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	fd, err := unix.Open(m.point, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return !errors.Is(err, unix.ENOTCONN) && !errors.Is(err, unix.ECONNABORTED)
	}
	point := os.NewFile(uintptr(fd), m.point)
	defer point.Close()
	var as *syscall.Credential
	if uid, gid := m.number("user_id"), m.number("group_id"); os.Geteuid() == 0 && uid > 0 && gid >= 0 {
		as = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
	}
	return Answer(ctx, as, []string{"/proc/self/fd/3"}, point) == nil
}

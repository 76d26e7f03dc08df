package vfs

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"time"

	"aesthetic.computer/isofs/border"
	"aesthetic.computer/isofs/fault"

	"golang.org/x/sys/unix"
)

const (
	// answerPatience is how long a mount may take to say that it is alive.
	answerPatience = 10 * time.Second
	// mostMounts bounds the dead mounts that lie upon each other.
	mostMounts = 16
)

// Recover makes mountpoint usable: creates it, unmounts a dead mount of an
// earlier run, and refuses a live one or a folder that is not empty.
//
// A mount is dead when its server has ended, or has not answered for 10 s.
//
// For root all directories on the way must be root's alone (package border):
// others could have it mount, or unmount, elsewhere.
func Recover(mountpoint string) error { return recoverMount(mountpoint, answerPatience) }

func recoverMount(mountpoint string, patience time.Duration) error {
	for range mostMounts {
		point, err := resolveMount(mountpoint)
		if err == nil {
			err = checkWay(mountpoint, point)
		}
		if err != nil {
			return err
		}
		top, err := topMount(point)
		if err != nil {
			return err
		}
		if top == nil {
			return prepareFolder(point)
		}
		if top.fsType != fsType {
			return fmt.Errorf("mount point %s: %w: %s (%s) is mounted there: choose another folder or run: umount %s",
				mountpoint, fault.Invalid, top.source, top.fsType, mountpoint)
		}
		if alive(top, patience) {
			return fmt.Errorf("mount point %s: %w: another isofs serves it: stop that one or choose another folder",
				mountpoint, fault.Unavailable)
		}
		// Readers that wait for a server that is stuck would wait on.
		_ = abort(top)
		if err := unmount(point, true); err != nil {
			return fmt.Errorf("clear the dead mount at %s: %w: run: umount -l %s", mountpoint, err, mountpoint)
		}
	}
	return fmt.Errorf("mount point %s: %w: more than %d dead mounts lie there: run: umount -l %s",
		mountpoint, fault.Invalid, mostMounts, mountpoint)
}

// resolveMount resolves all of mountpoint, if its last name is a link to where
// the mount is. It looks at that name only where nothing is mounted.
func resolveMount(mountpoint string) (string, error) {
	point, err := resolve(mountpoint)
	if err != nil {
		return "", err
	}
	top, err := topMount(point)
	if err != nil || top != nil {
		return point, err
	}
	if target, err := os.Readlink(point); err == nil {
		if !filepath.IsAbs(target) {
			target = filepath.Join(filepath.Dir(point), target)
		}
		return resolve(target)
	}
	return point, nil
}

// checkWay refuses a mount point of root's, and where it leads, that others
// could exchange. It leaves the last names alone: there a mount may hang.
func checkWay(mountpoint, point string) error {
	if os.Geteuid() != 0 {
		return nil
	}
	for _, path := range []string{mountpoint, point} {
		abs, err := filepath.Abs(path)
		if err == nil {
			err = border.Check(filepath.Dir(abs) + "/x")
		}
		if err != nil {
			return fmt.Errorf("mount point %s: %w: %w", mountpoint, fault.Invalid, err)
		}
	}
	return nil
}

// prepareFolder makes point an empty folder, or says why it cannot be one.
func prepareFolder(point string) error {
	if err := makeFolder(point); err != nil {
		return fmt.Errorf("create mount point: %w: %w", fault.Invalid, err)
	}
	entries, err := os.ReadDir(point)
	if err != nil {
		return fmt.Errorf("look into mount point: %w: %w", fault.Invalid, err)
	}
	if len(entries) > 0 {
		return fmt.Errorf("mount point %s: %w: the folder is not empty (it has %s): choose an empty one",
			point, fault.Invalid, entries[0].Name())
	}
	return nil
}

func makeFolder(point string) error {
	if os.Geteuid() == 0 {
		return border.Own(point)
	}
	return os.MkdirAll(point, 0o755)
}

// alive says whether the server of m answers in time. The call may hang, so a
// goroutine makes it; one whose server never answers stays behind, as does its
// thread, until the mount is aborted.
func alive(m *mounted, patience time.Duration) bool {
	answer := make(chan error, 1)
	go func() { answer <- ask(m) }()
	select {
	case err := <-answer:
		return !errors.Is(err, unix.ENOTCONN) && !errors.Is(err, unix.ECONNABORTED)
	case <-time.After(patience):
		return false
	}
}

// ask asks the server of m for its free space: that is never answered from
// memory. It does so as the user who serves the mount, since of others, also of
// root, the kernel would without allow_other tell the server nothing.
func ask(m *mounted) error {
	fd, err := unix.Open(m.point, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	uid, gid := m.number("user_id"), m.number("group_id")
	if os.Geteuid() == 0 && uid > 0 && gid >= 0 {
		// System calls made raw change but this thread, which, not being
		// unlocked, ends with the goroutine. Only the process's first thread
		// would stay, so let that one wait and another do it.
		runtime.LockOSThread()
		if unix.Gettid() == unix.Getpid() {
			defer runtime.UnlockOSThread()
			answer := make(chan error)
			go func() { answer <- ask(m) }()
			return <-answer
		}
		for _, call := range []struct{ number, id uintptr }{
			{unix.SYS_SETRESGID, uintptr(gid)},
			{unix.SYS_SETRESUID, uintptr(uid)},
		} {
			if _, _, errno := unix.RawSyscall(call.number, call.id, call.id, call.id); errno != 0 {
				return errno
			}
		}
	}
	var st unix.Statfs_t
	return unix.Fstatfs(fd, &st)
}

// abort ends all that waits for the mount's server, where the kernel's control
// files are mounted (/sys/fs/fuse/connections) and may be written. It is a
// courtesy to the waiting, so that failing does not matter.
func abort(m *mounted) error {
	var major, minor int
	if _, err := fmt.Sscanf(m.device, "%d:%d", &major, &minor); err != nil {
		return err
	}
	// The connection's name is its device number, of which FUSE has only minor.
	return os.WriteFile(fmt.Sprintf("/sys/fs/fuse/connections/%d/abort", minor), []byte("1"), 0)
}

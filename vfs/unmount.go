package vfs

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"time"

	"aesthetic.computer/isofs/fault"

	"golang.org/x/sys/unix"
)

// UnmountPath unmounts the isofs at mountpoint. While it is busy, it tries again
// until ctx ends; the error then names the processes that hold it. It is for the
// parent that mounted by OpenDevice. A mountpoint without a mount is not an
// error.
func UnmountPath(ctx context.Context, mountpoint string) error {
	point, err := isofsAt(mountpoint)
	if err != nil || point == "" {
		return err
	}
	wait := 5 * time.Millisecond
	for {
		err := unmount(point, false)
		if !errors.Is(err, unix.EBUSY) {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("unmount %s: %w: busy: %s: close them or run: umount -l %s",
				mountpoint, fault.Unavailable, describe(holders(point)), mountpoint)
		case <-time.After(wait):
		}
		wait = min(2*wait, 200*time.Millisecond)
	}
}

// detach unmounts lazily: the name is free at once, the rest follows with the
// last open file.
func detach(mountpoint string) error {
	point, err := isofsAt(mountpoint)
	if err != nil || point == "" {
		return err
	}
	return unmount(point, true)
}

// isofsAt resolves mountpoint. It returns "" if nothing is mounted there, and an
// error if the mount is not ours to unmount.
func isofsAt(mountpoint string) (string, error) {
	point, err := resolveMount(mountpoint)
	if err != nil {
		return "", err
	}
	top, err := topMount(point)
	if err != nil || top == nil {
		return "", err
	}
	if top.fsType != fsType {
		return "", fmt.Errorf("unmount %s: %w: it is a mount of %s (%s), not of isofs",
			mountpoint, fault.Invalid, top.source, top.fsType)
	}
	return point, nil
}

// unmount makes one attempt. Without privilege the helper that mounted does it.
func unmount(point string, lazily bool) error {
	flags, helperFlags := unix.UMOUNT_NOFOLLOW, []string{"-u"}
	if lazily {
		flags, helperFlags = flags|unix.MNT_DETACH, append(helperFlags, "-z")
	}
	err := unix.Unmount(point, flags)
	if err == nil || errors.Is(err, unix.EINVAL) { // EINVAL: somebody else was faster
		return nil
	}
	if !errors.Is(err, unix.EPERM) || os.Geteuid() == 0 {
		return fmt.Errorf("unmount %s: %w: %w", point, fault.Unavailable, err)
	}
	says, err := exec.Command("fusermount3", append(helperFlags, "--", point)...).CombinedOutput()
	if err == nil {
		return nil
	}
	if strings.Contains(string(says), "busy") {
		err = unix.EBUSY
	}
	return fmt.Errorf("unmount %s: %w: %w: %s", point, fault.Unavailable, err, strings.TrimSpace(string(says)))
}

// joinIf joins its errors, of which either may be nil.
func joinIf(err, also error) error {
	if err == nil {
		return also
	}
	if also == nil {
		return err
	}
	return fmt.Errorf("%w; %w", err, also)
}

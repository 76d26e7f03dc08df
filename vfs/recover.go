package vfs

import (
	"fmt"
	"os"
	"path/filepath"
	"time"

	"aesthetic.computer/isofs/border"
	"aesthetic.computer/isofs/fault"
)

const (
	// answerPatience is how long a mount may take to answer.
	answerPatience = 10 * time.Second
	// mostMounts bounds the dead mounts on top of each other.
	mostMounts = 16
)

// Recover makes mountpoint usable: it creates it, unmounts a dead mount of an
// earlier run, and refuses a live one or a folder that is not empty.
//
// A mount is dead when its server has ended, or has not answered for 10 s.
//
// For root all directories on the way must be root's alone (package border):
// other users could make it mount, or unmount, elsewhere.
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
		// Readers would wait on for a stuck server.
		_ = abort(top)
		if err := unmount(point, true); err != nil {
			return fmt.Errorf("clear the dead mount at %s: %w: run: umount -l %s", mountpoint, err, mountpoint)
		}
	}
	return fmt.Errorf("mount point %s: %w: more than %d dead mounts lie there: run: umount -l %s",
		mountpoint, fault.Invalid, mostMounts, mountpoint)
}

// State reports whether an isofs is mounted at mountpoint, and whether its
// server answers within 10 s. A mount of another kind is fault.Invalid.
func State(mountpoint string) (mounted, answers bool, err error) {
	point, err := isofsAt(mountpoint)
	if err != nil || point == "" {
		return false, false, err
	}
	top, err := topMount(point)
	if err != nil || top == nil {
		return false, false, err
	}
	return true, alive(top, answerPatience), nil
}

// resolveMount resolves all of mountpoint, if its last name is a link to the
// mount. It looks at that name only where nothing is mounted.
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

// checkWay refuses a mount point of root's, and its target, if others could
// exchange them. It leaves the last names alone: there a mount may hang.
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

// abort ends all that waits for the mount's server, where the kernel's control
// files are mounted (/sys/fs/fuse/connections) and may be written. It only
// helps waiting readers, so a failure does not matter.
func abort(m *mounted) error {
	var major, minor int
	if _, err := fmt.Sscanf(m.device, "%d:%d", &major, &minor); err != nil {
		return err
	}
	// The connection's name is its device number, of which FUSE has only minor.
	return os.WriteFile(fmt.Sprintf("/sys/fs/fuse/connections/%d/abort", minor), []byte("1"), 0)
}

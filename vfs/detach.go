package vfs

import "golang.org/x/sys/unix"

// DetachPath unmounts the isofs at mountpoint at once: its name is free, and
// files in use stay open until they are closed. The parent that mounted by
// OpenDevice calls it, when UnmountPath found the mount busy or its server died.
// A mountpoint without a mount is not an error.
func DetachPath(mountpoint string) error { return detach(mountpoint) }

// AbortPath ends all requests that wait for the server of the isofs at
// mountpoint, which ends that server's mount. It is for the parent of a server
// that hangs. A mountpoint without a mount is not an error.
func AbortPath(mountpoint string) error {
	point, err := isofsAt(mountpoint)
	if err != nil || point == "" {
		return err
	}
	top, err := topMount(point)
	if err != nil || top == nil {
		return err
	}
	if abort(top) != nil {
		// This works without the kernel's control files: it aborts, whatever it
		// returns.
		_ = unix.Unmount(point, unix.MNT_FORCE|unix.UMOUNT_NOFOLLOW)
	}
	return nil
}

// Done is closed when the mount has ended.
func (s *Server) Done() <-chan struct{} { return s.done }

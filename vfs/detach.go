package vfs

import "golang.org/x/sys/unix"

// DetachPath unmounts the isofs at mountpoint at once: its name is free, and
// those who hold it keep what they have open until they close it. It is for
// the parent that mounted by OpenDevice, when UnmountPath found it busy or its
// server died. A mountpoint without a mount is no error.
func DetachPath(mountpoint string) error { return detach(mountpoint) }

// AbortPath ends all that waits for the server of the isofs at mountpoint, whose
// server then is done with it. It is for the parent of a server that hangs. A
// mountpoint without a mount is no error.
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
		// Without the kernel's control files: this aborts, whatever it returns.
		_ = unix.Unmount(point, unix.MNT_FORCE|unix.UMOUNT_NOFOLLOW)
	}
	return nil
}

// Done is closed when the mount is gone.
func (s *Server) Done() <-chan struct{} { return s.done }

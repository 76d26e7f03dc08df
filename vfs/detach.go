package vfs

// DetachPath unmounts the isofs at mountpoint at once: its name is free, and
// those who hold it keep what they have open until they close it. It is for
// the parent that mounted by OpenDevice, when UnmountPath found it busy or its
// server died. A mountpoint without a mount is no error.
func DetachPath(mountpoint string) error { return detach(mountpoint) }

// Done is closed when the mount is gone.
func (s *Server) Done() <-chan struct{} { return s.done }

package vfs

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"

	"aesthetic.computer/isofs/fault"

	"golang.org/x/sys/unix"
)

const (
	fsName = "isofs"
	fsType = "fuse." + fsName
)

// OpenDevice is the privileged half: it opens /dev/fuse and mounts it for a
// user uid and gid, who then serves it with Config.Device. It needs
// CAP_SYS_ADMIN.
//
// The parent passes the device to a child (exec.Cmd.ExtraFiles) and then closes
// its own copy. As long as any process has it open, the mount outlives a killed
// child, and its readers hang instead of failing. The parent must not touch the
// mount before the child serves it. Unmounting is the parent's work too: see
// UnmountPath; for the page-cache profile also RaiseReadAhead.
func OpenDevice(mountpoint string, uid, gid int, allowOther bool) (*os.File, error) {
	var st unix.Stat_t
	if err := unix.Stat(mountpoint, &st); err != nil {
		return nil, fmt.Errorf("mount %s: %w: %w", mountpoint, fault.Invalid, err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFDIR {
		return nil, fmt.Errorf("mount %s: %w: it is not a folder", mountpoint, fault.Invalid)
	}
	// Not os.Open: that makes the device non-blocking, which go-fuse takes for
	// its end.
	fd, err := unix.Open("/dev/fuse", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open /dev/fuse: %w: %w: run modprobe fuse, or let the container have the device",
			fault.Unavailable, err)
	}
	device := os.NewFile(uintptr(fd), "/dev/fuse")
	options := []string{
		fmt.Sprintf("fd=%d", fd),
		fmt.Sprintf("rootmode=%o", st.Mode&unix.S_IFMT),
		fmt.Sprintf("user_id=%d", uid),
		fmt.Sprintf("group_id=%d", gid),
		fmt.Sprintf("max_read=%d", maxRead),
		"default_permissions",
	}
	if allowOther {
		options = append(options, "allow_other")
	}
	const flags = unix.MS_RDONLY | unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC
	if err := unix.Mount(fsName, mountpoint, fsType, flags, strings.Join(options, ",")); err != nil {
		device.Close()
		hint := ""
		if errors.Is(err, unix.EPERM) {
			hint = ": run as root, or with CAP_SYS_ADMIN"
		}
		return nil, fmt.Errorf("mount %s: %w: %w%s", mountpoint, fault.Unavailable, err, hint)
	}
	return device, nil
}

// helperDevice is OpenDevice without root's rights: the set-uid helper of the
// fuse3 package mounts, and passes the device on a socket.
func helperDevice(mountpoint string, allowOther bool) (*os.File, error) {
	helper, err := exec.LookPath("fusermount3")
	if err != nil {
		return nil, fmt.Errorf("mount %s: %w: %w: run as root, or apt-get install fuse3", mountpoint, fault.Unavailable, err)
	}
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("mount %s: %w: %w", mountpoint, fault.Unavailable, err)
	}
	ours, theirs := os.NewFile(uintptr(pair[0]), "fusermount3"), os.NewFile(uintptr(pair[1]), "fusermount3")
	defer ours.Close()
	options := fmt.Sprintf("ro,nosuid,nodev,noexec,default_permissions,fsname=%s,subtype=%s,max_read=%d",
		fsName, fsName, maxRead)
	if allowOther {
		options += ",allow_other"
	}
	cmd := exec.Command(helper, "-o", options, "--", mountpoint)
	cmd.Env = append(os.Environ(), "_FUSE_COMMFD=3")
	cmd.ExtraFiles = []*os.File{theirs}
	says, err := cmd.CombinedOutput()
	theirs.Close()
	if err != nil {
		return nil, fmt.Errorf("mount %s: %w: %w: %s", mountpoint, fault.Unavailable, err, strings.TrimSpace(string(says)))
	}
	device, err := receiveFile(pair[0])
	if err != nil {
		return nil, fmt.Errorf("mount %s: take the device from fusermount3: %w: %w", mountpoint, fault.Unavailable, err)
	}
	return device, nil
}

// receiveFile takes one file from a Unix socket.
func receiveFile(socket int) (*os.File, error) {
	data, control := make([]byte, 4), make([]byte, unix.CmsgSpace(4))
	_, n, _, _, err := unix.Recvmsg(socket, data, control, unix.MSG_CMSG_CLOEXEC)
	if err != nil {
		return nil, err
	}
	messages, err := unix.ParseSocketControlMessage(control[:n])
	if err != nil {
		return nil, err
	}
	for _, message := range messages {
		if fds, err := unix.ParseUnixRights(&message); err == nil && len(fds) == 1 {
			return os.NewFile(uintptr(fds[0]), "/dev/fuse"), nil
		}
	}
	return nil, syscall.EBADMSG
}

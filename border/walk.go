package border

import (
	"errors"
	"fmt"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"aesthetic.computer/isofs/fault"
)

// mostLinks is how many symbolic links a path may have, as in the kernel.
const mostLinks = 40

// A place is how far a walk came: the last name that exists, open, and the
// missing names behind it. The walk ends early where the way is open to others.
type place struct {
	fd      int
	path    string // as it was walked, without links
	stat    unix.Stat_t
	missing []string
	others  string // why the way is open to others; "" if it is root's
}

// walk follows an absolute path for as long as it is root's.
func walk(path string) (*place, error) {
	if !filepath.IsAbs(path) {
		return nil, fmt.Errorf("%s: %w: not an absolute path", path, fault.Invalid)
	}
	at := &place{fd: unix.AT_FDCWD}
	if err := at.enter("/"); err != nil {
		return nil, err
	}
	links := 0
	for names := split(path); len(names) > 0; {
		name, rest := names[0], names[1:]
		var st unix.Stat_t
		err := unix.Fstatat(at.fd, name, &st, unix.AT_SYMLINK_NOFOLLOW)
		missing := errors.Is(err, unix.ENOENT)
		switch {
		case err != nil && !missing:
			at.close()
			return nil, fmt.Errorf("look at %s: %w: %w", filepath.Join(at.path, name), fault.Invalid, err)
		case !at.keeps(&st, missing):
			return at, nil
		case missing:
			at.missing = names
			return at, nil
		case st.Mode&unix.S_IFMT == unix.S_IFLNK:
			if links++; links > mostLinks {
				at.close()
				return nil, fmt.Errorf("%s: %w: %w", path, fault.Invalid, unix.ELOOP)
			}
			rest, err = at.follow(name, rest)
		default:
			err = at.enter(name)
		}
		if err != nil {
			at.close()
			return nil, err
		}
		names = rest
	}
	return at, nil
}

// split returns the names of a path. It keeps "..", which behind a link does
// not lead to where the text says.
func split(path string) []string {
	names := strings.Split(path, "/")
	return slices.DeleteFunc(names, func(name string) bool { return name == "" || name == "." })
}

// keeps reports whether only root can change what is, or is missing, at a name
// in this place; st is what is there. If not, the way is open from here on.
func (at *place) keeps(st *unix.Stat_t, missing bool) bool {
	if at.stat.Mode&unix.S_IFMT != unix.S_IFDIR || closed(&at.stat) {
		return true
	}
	sticky := at.stat.Uid == 0 && at.stat.Mode&unix.S_ISVTX != 0
	if sticky && (missing || st.Uid == 0) {
		return true
	}
	at.others = describe(&at.stat)
	return false
}

// closed reports whether only root can write to a directory.
func closed(st *unix.Stat_t) bool {
	open := uint32(0o022)
	if st.Gid == 0 {
		open = 0o002
	}
	return st.Uid == 0 && st.Mode&open == 0
}

// enter goes to a name in this place, which must not be a link.
func (at *place) enter(name string) error {
	path := filepath.Join(at.path, name)
	if name == "/" {
		path = name
	}
	// Not for reading, which may wait (a pipe) or have effects (a device).
	flags := unix.O_PATH | unix.O_NOFOLLOW | unix.O_CLOEXEC
	fd, err := unix.Openat(at.fd, name, flags, 0)
	if err != nil {
		return fmt.Errorf("open %s: %w: %w", path, fault.Invalid, err)
	}
	var st unix.Stat_t
	if err = unix.Fstat(fd, &st); err == nil && st.Mode&unix.S_IFMT == unix.S_IFDIR {
		// As a directory, so that it can be changed by this descriptor.
		var dir int
		if dir, err = unix.Openat(fd, ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0); err == nil {
			_ = unix.Close(fd)
			fd = dir
		}
	}
	if err != nil {
		_ = unix.Close(fd)
		return fmt.Errorf("open %s: %w: %w", path, fault.Invalid, err)
	}
	at.close()
	at.fd, at.path, at.stat = fd, path, st
	return nil
}

// follow returns the names that a link of root's in this place stands for, and
// then rest.
func (at *place) follow(name string, rest []string) ([]string, error) {
	path := filepath.Join(at.path, name)
	target := make([]byte, unix.PathMax)
	n, err := unix.Readlinkat(at.fd, name, target)
	if err != nil {
		return nil, fmt.Errorf("follow %s: %w: %w", path, fault.Invalid, err)
	}
	to := string(target[:n])
	if filepath.IsAbs(to) {
		if err := at.enter("/"); err != nil {
			return nil, err
		}
	}
	return append(split(to), rest...), nil
}

// open reports whether the walk ended where others than root can write.
func (at *place) open() bool { return at.others != "" }

// refuse returns an error that says who can write where only root may.
func (at *place) refuse() error {
	others := at.others
	if others == "" {
		others = describe(&at.stat)
	}
	return fmt.Errorf("%s %s: %w: what root keeps there could be exchanged: name another place, or give the directory to root (chown root:root %s && chmod 755 %s) if no other user needs it",
		at.path, others, fault.Invalid, at.path, at.path)
}

// describe says who can write to a directory.
func describe(st *unix.Stat_t) string {
	if st.Uid != 0 {
		name := strconv.FormatUint(uint64(st.Uid), 10)
		if u, err := user.LookupId(name); err == nil {
			name = u.Username
		}
		return "belongs to the user " + name
	}
	return fmt.Sprintf("can be written by others than root (mode %04o)", st.Mode&0o7777)
}

func (at *place) close() {
	if at.fd >= 0 {
		_ = unix.Close(at.fd)
		at.fd = -1
	}
}

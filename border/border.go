// Package border separates root's files from those that root gave to the user
// that isofs runs as.
//
// A name is root's if only root can change what it means: each directory on the
// way to it belongs to root, and no other user can write there. In a sticky
// directory, such as /tmp, a name is root's if what it names belongs to root
// (unlink(2), EPERM). A symbolic link is followed if it is root's in the same
// sense. All other names are on the user's side. Root opens, writes, renames,
// executes and gives away nothing there. Anyone who can write there could turn
// the name into a link to a file of root's at any moment.
//
// The functions walk a path name by name, with descriptors (openat(2)), so a
// rename meanwhile does not lead them elsewhere. They see access control lists
// as the group bits that these show (acl(5)).
package border

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"aesthetic.computer/isofs/fault"
)

// Check returns nil if path is root's. The path need not exist. What it names
// may belong to another user: that user cannot replace it. The error
// (fault.Invalid) names the directory that others can write to.
func Check(path string) error {
	at, err := walk(path)
	if err != nil {
		return err
	}
	defer at.close()
	if at.open() {
		return at.refuse()
	}
	return nil
}

// Own makes the directory path, with those above it, and leaves it to root,
// readable by all. An existing one must be root's, and no other user may be
// able to write to it. Errors wrap fault.Invalid or fault.Unavailable.
func Own(path string) error {
	at, err := walk(path)
	if err != nil {
		return err
	}
	defer at.close()
	if at.open() {
		return at.refuse()
	}
	if err := at.make(0o755); err != nil {
		return err
	}
	if at.stat.Mode&unix.S_IFMT != unix.S_IFDIR {
		return fmt.Errorf("%s: %w: it is not a directory", at.path, fault.Invalid)
	}
	if !closed(&at.stat) {
		return at.refuse()
	}
	return nil
}

// Give makes the directory path for a user, if it does not exist. It makes it
// as root's, and gives it away by the descriptor of the new directory. It gives
// away an empty directory of root's as well. Where a directory on the way is
// not root's alone Give does nothing, since there the user makes its own.
// Errors wrap fault.Invalid or fault.Unavailable.
func Give(path string, uid, gid int) error {
	at, err := walk(path)
	if err != nil {
		return err
	}
	defer at.close()
	if at.open() {
		return nil
	}
	if err := at.make(0o755); err != nil {
		return err
	}
	if at.stat.Uid != 0 || at.stat.Mode&unix.S_IFMT != unix.S_IFDIR {
		return nil // it is there already, and whose it is was decided then
	}
	empty, err := at.empty()
	if err != nil || !empty {
		return err
	}
	if err := unix.Fchown(at.fd, uid, gid); err != nil {
		return fmt.Errorf("give %s to user %d: %w: %w", at.path, uid, fault.Unavailable, err)
	}
	return nil
}

// make makes the missing names, and enters the last.
func (at *place) make(mode uint32) error {
	for len(at.missing) > 0 {
		name := at.missing[0]
		path := filepath.Join(at.path, name)
		if err := unix.Mkdirat(at.fd, name, mode); err != nil {
			return fmt.Errorf("make the directory %s: %w: %w", path, fault.Unavailable, err)
		}
		if err := at.enter(name); err != nil {
			return err
		}
		// In a sticky directory another user may have been faster than
		// openat(2).
		if at.stat.Uid != 0 {
			return at.refuse()
		}
		// Whatever the umask of this process is.
		if err := unix.Fchmod(at.fd, mode); err != nil {
			return fmt.Errorf("make the directory %s: %w: %w", path, fault.Unavailable, err)
		}
		at.missing = at.missing[1:]
	}
	return nil
}

// empty reports whether the place has no entries.
func (at *place) empty() (bool, error) {
	fd, err := unix.Openat(at.fd, ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return false, fmt.Errorf("look into %s: %w: %w", at.path, fault.Unavailable, err)
	}
	dir := os.NewFile(uintptr(fd), at.path)
	defer dir.Close()
	_, err = dir.ReadDir(1)
	if errors.Is(err, io.EOF) {
		return true, nil
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return false, fmt.Errorf("look into %s: %w: %w", at.path, fault.Unavailable, err)
	}
	return false, nil
}

package server

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"

	"aesthetic.computer/isofs/border"
	"aesthetic.computer/isofs/fault"
)

// When root starts a command that keeps state, root does not do its work. This program, started
// again as another user, does. So that user opens and writes all that is below its directories.
// Root cannot be led from there to its own files (package border).

// DefaultUser is a user for isofs alone: no other program can write its files.
const DefaultUser = "isofs"

// AddUser is the command, without the name, that makes a user like DefaultUser.
const AddUser = "useradd --system --user-group --no-create-home --home-dir /var/lib/isofs --shell /usr/sbin/nologin"

// An Identity is a user to serve as.
type Identity struct {
	Name     string
	UID, GID int
	groups   []uint32 // the others that the user is in
}

// LookupUser finds the user to serve as. It is the present one unless that is root, since only
// root can become another. An error is of SettingUser. If the user does not exist it is a
// *NoUserError.
func LookupUser(name string) (Identity, error) {
	if os.Geteuid() != 0 {
		return Identity{UID: os.Geteuid(), GID: os.Getegid()}, nil
	}
	u, err := user.Lookup(name)
	if _, unknown := errors.AsType[user.UnknownUserError](err); unknown {
		return Identity{}, &NoUserError{name}
	}
	if err != nil {
		return Identity{}, &fault.SettingError{Setting: SettingUser, Err: fmt.Errorf("%w: %w", fault.Invalid, err)}
	}
	uid, err1 := strconv.Atoi(u.Uid)
	gid, err2 := strconv.Atoi(u.Gid)
	ids, err3 := u.GroupIds()
	if err := errors.Join(err1, err2, err3); err != nil {
		return Identity{}, &fault.SettingError{Setting: SettingUser, Err: fmt.Errorf("%s: %w: %w", name, fault.Invalid, err)}
	}
	as := Identity{Name: name, UID: uid, GID: gid}
	for _, id := range ids {
		if group, err := strconv.ParseUint(id, 10, 32); err == nil {
			as.groups = append(as.groups, uint32(group))
		}
	}
	return as, nil
}

// A NoUserError means that the user to serve as does not exist.
type NoUserError struct{ Name string }

// Error implements error.
func (e *NoUserError) Error() string {
	return fmt.Sprintf("there is no user %s, and root's isofs runs as that user. Make it, or name another with --user:\n  %s %s", e.Name, AddUser, e.Name)
}

// Unwrap returns the kind, which the text does not say.
func (e *NoUserError) Unwrap() error { return fault.Invalid }

// IsRoot reports whether the user is root.
func (i Identity) IsRoot() bool { return i.UID == 0 }

// credential returns the credentials of a process of the user.
func (i Identity) credential() *syscall.Credential {
	return &syscall.Credential{Uid: uint32(i.UID), Gid: uint32(i.GID), Groups: i.groups}
}

// Give makes the directories of the state and of the cache, if needed, and gives them to the
// user. Cache is "" for one in memory.
func (i Identity) Give(state, cache string, log *slog.Logger) error {
	if err := border.Give(state, i.UID, i.GID); err != nil {
		return err
	}
	if cache == "" {
		return nil
	}
	if err := border.Give(cache, i.UID, i.GID); err != nil {
		// isofs also serves without a cache.
		log.Warn("the cache's directory cannot be given to the user", "user", i.Name, "err", err)
	}
	return nil
}

// MayUse returns nil if the user can write to a directory, or if root will give it to the user.
func (i Identity) MayUse(dir string) error {
	if os.Geteuid() != 0 {
		return Writable(dir)
	}
	if i.IsRoot() {
		return nil
	}
	var st unix.Stat_t
	err := unix.Stat(dir, &st)
	if errors.Is(err, unix.ENOENT) {
		return nil // it will be made
	}
	if err != nil || int(st.Uid) == i.UID || st.Mode&0o022 != 0 {
		return err
	}
	if entries, _ := os.ReadDir(dir); st.Uid == 0 && len(entries) == 0 {
		return nil // it will be given away
	}
	return fmt.Errorf("%s belongs to user %d, and isofs runs as %s: %w: chown -R --from=%d %s: %s",
		dir, st.Uid, i.Name, fault.Invalid, st.Uid, i.Name, dir)
}

// Writable returns nil if this process can write to a directory, or make it.
func Writable(dir string) error {
	for {
		err := unix.Access(dir, unix.W_OK|unix.X_OK)
		if !errors.Is(err, unix.ENOENT) || dir == "/" {
			return err
		}
		dir = filepath.Dir(dir)
	}
}

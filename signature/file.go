package signature

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"aesthetic.computer/isofs/fault"
)

// credentials is the variable with the directory in which systemd puts the
// credentials of a unit (LoadCredential=).
const credentials = "CREDENTIALS_DIRECTORY"

// Credential returns the path of a credential that systemd passed on; ok is false
// if it passed none of that name.
func Credential(name string) (path string, ok bool) {
	dir := os.Getenv(credentials)
	if dir == "" {
		return "", false
	}
	path = filepath.Join(dir, name)
	_, err := os.Stat(path)
	return path, err == nil
}

// ReadSecretFile reads a file that only its owner can read. The owner must be the
// user that runs this, or root. systemd guards its own credentials. Errors wrap
// fault.Invalid or fault.Unavailable.
func ReadSecretFile(path string) ([]byte, error) {
	// Without O_NONBLOCK, opening a named pipe would wait for a writer.
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		hint := ""
		if errors.Is(err, os.ErrPermission) {
			hint = "; isofs reads it as --user when root started it: chown it to that user"
		}
		return nil, fmt.Errorf("read a secret: %w: %w%s", fault.Invalid, err, hint)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("read a secret: %w: %w", fault.Unavailable, err)
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is not a regular file: %w", path, fault.Invalid)
	}
	if !isCredential(path) {
		if mode := info.Mode().Perm(); mode&0o077 != 0 {
			return nil, fmt.Errorf("others may read or write %s (mode %04o): chmod 600 it, and take another key if somebody may have read this one: %w", path, mode, fault.Invalid)
		}
		if owner, ok := info.Sys().(*syscall.Stat_t); ok && owner.Uid != 0 && int(owner.Uid) != os.Geteuid() {
			return nil, fmt.Errorf("%s belongs to user %d, and this runs as %d: chown it: %w", path, owner.Uid, os.Geteuid(), fault.Invalid)
		}
	}
	data, err := io.ReadAll(io.LimitReader(f, MaxKeyFile+1))
	if err != nil {
		return nil, fmt.Errorf("read a secret: %w: %w", fault.Unavailable, err)
	}
	if len(data) > MaxKeyFile {
		return nil, fmt.Errorf("%s has more than %d bytes: %w", path, MaxKeyFile, fault.Invalid)
	}
	return data, nil
}

func isCredential(path string) bool {
	dir := os.Getenv(credentials)
	return dir != "" && strings.HasPrefix(filepath.Clean(path), filepath.Clean(dir)+"/")
}

// TrimPassphrase removes the end of the line from the content of a passphrase's
// file.
func TrimPassphrase(data []byte) []byte {
	return []byte(strings.TrimRight(string(data), "\r\n"))
}

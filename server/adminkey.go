package server

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"

	"aesthetic.computer/isofs/fault"
)

const (
	// shortestKey is the length below which a key can be guessed.
	shortestKey = 16
	// longestKey fits a line of a header.
	longestKey = 1024
)

// ReadAdminKey reads the operator's key from a file that only its owner can read. Errors
// are of SettingAdminKey.
func ReadAdminKey(path string) (string, error) {
	key, err := readKeyFile(path)
	if err == nil {
		err = CheckAdminKey(key)
	}
	if err != nil {
		return "", &fault.SettingError{Setting: SettingAdminKey, Err: fmt.Errorf("%s: %w", path, err)}
	}
	return key, nil
}

func readKeyFile(path string) (string, error) {
	// Without O_NONBLOCK, opening a named pipe would wait for a writer.
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if errors.Is(err, os.ErrPermission) {
		return "", fmt.Errorf("%w: %w; isofs reads it as --user when root started it: chown it to that user", fault.Invalid, err)
	}
	if err != nil {
		return "", fmt.Errorf("%w: %w", fault.Invalid, err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return "", fmt.Errorf("%w: %w", fault.Unavailable, err)
	}
	if !info.Mode().IsRegular() {
		return "", fmt.Errorf("%w: it is not a regular file", fault.Invalid)
	}
	if mode := info.Mode().Perm(); mode&0o077 != 0 {
		return "", fmt.Errorf("%w: others may read or write it (mode %04o); chmod 600 it, and take another key if somebody may have read this one",
			fault.Invalid, mode)
	}
	data := make([]byte, longestKey+2)
	n, _ := f.Read(data) // a key that cannot be read is too short
	return strings.TrimRight(string(bytes.TrimRight(data[:n], "\r\n")), " "), nil
}

// CheckAdminKey refuses a key that could be guessed, or that a header cannot carry. The
// error (fault.Invalid) does not repeat the key.
func CheckAdminKey(key string) error {
	switch {
	case len(key) < shortestKey:
		return fmt.Errorf("%w key: it has %d characters, and needs %d; openssl rand -hex 24 makes a good one", fault.Invalid, len(key), shortestKey)
	case len(key) > longestKey:
		return fmt.Errorf("%w key: it has more than %d characters", fault.Invalid, longestKey)
	case strings.Trim(key, " ") != key || strings.ContainsFunc(key, func(r rune) bool { return r < ' ' || r > '~' }):
		return fmt.Errorf("%w key: one line of ASCII without spaces around it is what a header can carry", fault.Invalid)
	}
	return nil
}

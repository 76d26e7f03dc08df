package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"aesthetic.computer/isofs/fault"
)

const (
	// shortestKey is less than which a key could be guessed.
	shortestKey = 16
	// longestKey fits a line of a header.
	longestKey = 1024
)

// keyVariables are those of the environment that may have the key. There is no
// flag for it: everybody on the machine can read those.
var keyVariables = []string{"ISOFS_ADMIN_KEY", "OS_BUILD_ADMIN_KEY"}

// adminFlags say where the operator's key is.
type adminFlags struct{ keyFile string }

func (a *adminFlags) register(cmd *cobra.Command) {
	cmd.Flags().StringVar(&a.keyFile, "admin-key-file", "",
		"file with the key for /admin/, readable by its owner only; SIGHUP reads it again (default: the environment's ISOFS_ADMIN_KEY or OS_BUILD_ADMIN_KEY)")
}

// validate looks at what needs no file.
func (a *adminFlags) validate() error {
	if a.keyFile != "" {
		return nil
	}
	_, err := keyFromEnvironment()
	return err
}

// read reads the key; "" if there is none.
func (a *adminFlags) read() (string, error) {
	if a.keyFile == "" {
		return keyFromEnvironment()
	}
	return readKeyFile(a.keyFile)
}

func keyFromEnvironment() (string, error) {
	for _, name := range keyVariables {
		if key := os.Getenv(name); key != "" {
			if err := checkKey(key); err != nil {
				return "", fmt.Errorf("%s: %w", name, err)
			}
			return key, nil
		}
	}
	return "", nil
}

// readKeyFile reads a key that nobody but its owner can read.
func readKeyFile(path string) (string, error) {
	// Without O_NONBLOCK, opening a named pipe would wait for a writer.
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		hint := ""
		if errors.Is(err, os.ErrPermission) {
			hint = "; isofs reads it as --user when root started it: chown it to that user"
		}
		return "", blame("admin-key-file", fmt.Errorf("%w: %w%s", fault.Invalid, err, hint))
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return "", blame("admin-key-file", fmt.Errorf("%w: %w", fault.Unavailable, err))
	}
	if !info.Mode().IsRegular() {
		return "", wrongFlag("admin-key-file", "%s: %w: it is no regular file", path, fault.Invalid)
	}
	if mode := info.Mode().Perm(); mode&0o077 != 0 {
		return "", wrongFlag("admin-key-file", "%s: %w: others may read or write it (mode %04o); chmod 600 it, and take another key if somebody may have read this one",
			path, fault.Invalid, mode)
	}
	data := make([]byte, longestKey+2)
	n, _ := f.Read(data) // what cannot be read is too short
	key := strings.TrimRight(string(bytes.TrimRight(data[:n], "\r\n")), " ")
	if err := checkKey(key); err != nil {
		return "", wrongFlag("admin-key-file", "%s: %w", path, err)
	}
	return key, nil
}

// checkKey refuses what can be guessed, and what a header cannot carry. It
// does not repeat the key.
func checkKey(key string) error {
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

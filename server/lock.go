package server

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"aesthetic.computer/isofs/fault"
)

// lockPatience is how long a killed isofs may take to end.
const lockPatience = 3 * time.Second

// Lock makes dir, if needed, and locks it for this process until the file is
// closed or the process ends, however it ends. Two processes in one directory
// would take each other's sockets and half-written files for leftovers of a
// killed one. An error is fault.Unavailable, and of dir's setting.
func Lock(dir, setting string) (*os.File, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, unusable(setting, fmt.Errorf("make the directory: %w: %w", fault.Unavailable, err))
	}
	// flock(2) needs only reading, also of a file that root made. Without
	// O_NONBLOCK, opening a named pipe would wait for a writer.
	f, err := os.OpenFile(filepath.Join(dir, "isofs.lock"), os.O_CREATE|os.O_RDONLY|unix.O_NONBLOCK, 0o644)
	if err != nil {
		return nil, unusable(setting, fmt.Errorf("lock the directory: %w: %w", fault.Unavailable, err))
	}
	for deadline := time.Now().Add(lockPatience); ; time.Sleep(50 * time.Millisecond) {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return f, nil
		}
		if !errors.Is(err, unix.EWOULDBLOCK) {
			f.Close()
			return nil, fmt.Errorf("lock %s: %w: %w", f.Name(), fault.Unavailable, err)
		}
		if time.Now().After(deadline) {
			f.Close()
			return nil, &fault.SettingError{
				Setting: setting, Predicate: true,
				Err: fmt.Errorf("%s: another isofs is using it; stop that one, or choose another directory: %w", dir, fault.Unavailable),
			}
		}
	}
}

func unusable(setting string, err error) error {
	return &fault.SettingError{Setting: setting, Err: err}
}

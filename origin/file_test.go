package origin

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"aesthetic.computer/isofs/fault"
)

func TestFileChangedInPlace(t *testing.T) {
	change := map[string]func(path string) error{
		"truncated": func(path string) error { return os.Truncate(path, 100) },
		"longer":    func(path string) error { return os.Truncate(path, 2000) },
		"written to": func(path string) error {
			// The time is set by hand: two writes within a tick of the
			// kernel's clock have the same.
			return os.Chtimes(path, time.Time{}, time.Unix(1, 0))
		},
	}
	for name, do := range change {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "base.iso")
			must(t, os.WriteFile(path, make([]byte, 1000), 0o600))
			o := open(t, path, 1000, Options{})
			p := make([]byte, 500)
			must(t, o.Fetch(t.Context(), p, 500))
			must(t, do(path))
			wantKind(t, o.Fetch(t.Context(), p, 500), fault.Corrupt)
		})
	}
}

func TestFileOfAnotherType(t *testing.T) {
	dir := t.TempDir()
	pipe := filepath.Join(dir, "pipe")
	must(t, unix.Mkfifo(pipe, 0o600))
	for _, path := range []string{dir, pipe} {
		wantKind(t, open(t, path, 10, Options{}).Fetch(t.Context(), make([]byte, 1), 0), fault.Invalid)
		_, err := ReadAll(t.Context(), path, 10)
		wantKind(t, err, fault.Invalid)
	}
}

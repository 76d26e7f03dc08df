package origin

import (
	"context"
	"net/http"
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

// An error of the local disk is final for a file alone. Beside a server whose
// failure may pass, the file gets another attempt.
func TestFileThatFails(t *testing.T) {
	path := filepath.Join(t.TempDir(), "base.iso")
	must(t, os.WriteFile(path, content, 0o600))
	broken := filepath.Join(path, "below a file")
	pauses := 0
	o := Options{sleep: func(context.Context, time.Duration) error { pauses++; return nil }}
	wantKind(t, open(t, broken, int64(len(content)), o).Fetch(t.Context(), make([]byte, 1), 0), fault.Unavailable)
	if pauses != 0 {
		t.Errorf("%d pauses for a file alone", pauses)
	}
	s := serve(t, status(http.StatusServiceUnavailable, 2))
	m, err := OpenMirrors(MirrorOptions{Options: o}, int64(len(content)), broken, s.URL)
	must(t, err)
	defer m.Close()
	reads(t, m, 0, 1000)
	if each, _, _ := m.Stats(); pauses != 2 || each[0].Fetches != 3 {
		t.Errorf("%d pauses, and the file was asked %d times", pauses, each[0].Fetches)
	}
}

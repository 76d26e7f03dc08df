package bundle

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"aesthetic.computer/isofs/fault"
	"aesthetic.computer/isofs/piece"
)

func mustOpen(t *testing.T, dir string) *Archive {
	t.Helper()
	s, err := OpenBundles(dir)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// fetching returns a source's function for Put.
func fetching(body string) func(io.Writer) (Info, error) {
	return func(w io.Writer) (Info, error) {
		to := newSink(w, piece.Name{}, 1<<30)
		_, err := io.WriteString(to, body)
		return to.info(noon()), err
	}
}

func files(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

func readBundle(t *testing.T, s *Archive, sum [32]byte) string {
	t.Helper()
	f, size, err := s.Open(sum)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	b, err := io.ReadAll(f)
	if err != nil || int64(len(b)) != size {
		t.Fatalf("read %d of %d bytes: %v", len(b), size, err)
	}
	return string(b)
}

func TestArchive(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "new", "bundles")
	s := mustOpen(t, dir)
	info, err := s.Put(fetching(page))
	if err != nil || info.SHA256 != sha256.Sum256([]byte(page)) || info.Title != "note & pat" {
		t.Fatalf("%+v, %v", info, err)
	}
	for range 2 { // again, known and after a restart
		if _, err := s.Put(fetching(page)); err != nil {
			t.Fatal(err)
		}
		if got := fmt.Sprint(files(t, dir)); got != fmt.Sprintf("[%x.html]", info.SHA256) {
			t.Errorf("the store has %s", got)
		}
		if got := readBundle(t, s, info.SHA256); got != page {
			t.Errorf("read %q", got)
		}
		s = mustOpen(t, dir)
	}
	other, err := s.Put(fetching("other"))
	if err != nil {
		t.Fatal(err)
	}
	for _, stranger := range []string{"notes.html", strings.ToUpper(hex.EncodeToString(other.SHA256[:])) + ".html", "abcd.html"} {
		put(t, filepath.Join(dir, stranger), "")
	}
	if list, err := s.List(); err != nil || len(list) != 2 || bytes.Compare(list[0][:], list[1][:]) >= 0 {
		t.Errorf("list %x, %v", list, err)
	}
	open, _, err := s.Open(info.SHA256)
	if err != nil {
		t.Fatal(err)
	}
	defer open.Close()
	for range 2 {
		if err := s.Remove(info.SHA256); err != nil {
			t.Errorf("remove: %v", err)
		}
	}
	if _, _, err := s.Open(info.SHA256); fault.Kind(err) != fault.NotFound {
		t.Errorf("open what was removed: %v", err)
	}
	if b, err := io.ReadAll(open); string(b) != page || err != nil {
		t.Errorf("what was open reads %q, %v", b, err)
	}
}

func TestArchivePutFails(t *testing.T) {
	dir := t.TempDir()
	s := mustOpen(t, dir)
	lost := fmt.Errorf("the line dropped: %w", fault.Unavailable)
	tests := []struct {
		when  string
		fetch func(io.Writer) (Info, error)
		kind  error
	}{
		{"the source fails half way", func(w io.Writer) (Info, error) {
			io.WriteString(w, page)
			return Info{}, lost
		}, fault.Unavailable},
		{"the digest is another's", func(w io.Writer) (Info, error) {
			info, err := fetching(page)(w)
			info.SHA256[31]++
			return info, err
		}, fault.Corrupt},
		{"the size is another's", func(w io.Writer) (Info, error) {
			info, err := fetching(page)(w)
			info.Size++
			return info, err
		}, fault.Corrupt},
		{"nothing was said", func(io.Writer) (Info, error) { return Info{}, nil }, fault.Corrupt},
	}
	for _, tt := range tests {
		info, err := s.Put(tt.fetch)
		if fault.Kind(err) != tt.kind || info != (Info{}) {
			t.Errorf("%s: %v", tt.when, err)
		}
	}
	if _, err := s.Put(tests[0].fetch); !errors.Is(err, lost) {
		t.Errorf("fetch's own error is lost: %v", err)
	}
	func() {
		defer func() { _ = recover() }()
		s.Put(func(w io.Writer) (Info, error) { io.WriteString(w, page); panic("a bug") })
	}()
	if left := files(t, dir); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestArchiveCorrupted(t *testing.T) {
	damages := map[string]func(path string) error{
		"a flipped bit": func(path string) error { return overwrite(path, "?"+page[1:]) },
		"cut short":     func(path string) error { return overwrite(path, page[:9]) },
		"emptied":       func(path string) error { return overwrite(path, "") },
		"grown":         func(path string) error { return overwrite(path, page+"\x00") },
	}
	for damage, do := range damages {
		dir := t.TempDir()
		s := mustOpen(t, dir)
		info, err := s.Put(fetching(page))
		if err != nil {
			t.Fatal(err)
		}
		if err := do(s.path(info.SHA256)); err != nil {
			t.Fatal(err)
		}
		s = mustOpen(t, dir)
		if f, _, err := s.Open(info.SHA256); fault.Kind(err) != fault.Corrupt || f != nil {
			t.Errorf("%s: %v", damage, err)
		}
		if _, _, err := s.Open(info.SHA256); fault.Kind(err) != fault.NotFound {
			t.Errorf("%s, opened again: %v", damage, err)
		}
		if _, err := s.Put(fetching(page)); err != nil || readBundle(t, s, info.SHA256) != page {
			t.Errorf("%s, not healed: %v", damage, err)
		}
		// A Put over a damaged file that was never opened heals, too.
		if err := do(s.path(info.SHA256)); err != nil {
			t.Fatal(err)
		}
		s = mustOpen(t, dir)
		if _, err := s.Put(fetching(page)); err != nil || readBundle(t, s, info.SHA256) != page {
			t.Errorf("%s, not healed unseen: %v", damage, err)
		}
	}
}

func overwrite(path, content string) error {
	return errors.Join(os.Chmod(path, 0o644), os.WriteFile(path, []byte(content), 0o644))
}

// A reader that found damage must not remove a file that a Put has healed in
// the meantime.
func TestArchiveHealedWhileVerifying(t *testing.T) {
	dir := t.TempDir()
	s := mustOpen(t, dir)
	info, err := s.Put(fetching(page))
	if err != nil {
		t.Fatal(err)
	}
	if err := overwrite(s.path(info.SHA256), "damaged"); err != nil {
		t.Fatal(err)
	}
	s = mustOpen(t, dir)
	damaged, err := os.Open(s.path(info.SHA256))
	if err != nil {
		t.Fatal(err)
	}
	defer damaged.Close()
	if _, err := s.Put(fetching(page)); err != nil {
		t.Fatal(err)
	}
	delete(s.verified, info.SHA256) // as if verify had looked before Put
	if _, err := s.verify(damaged, info.SHA256); fault.Kind(err) != fault.Corrupt {
		t.Errorf("the damaged file: %v", err)
	}
	if got := readBundle(t, s, info.SHA256); got != page {
		t.Errorf("read %q", got)
	}
}

func TestArchiveConcurrently(t *testing.T) {
	s := mustOpen(t, t.TempDir())
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() {
			for j := range 5 {
				body := fmt.Sprint("bundle ", (i+j)%3)
				info, err := s.Put(fetching(body))
				if err != nil {
					t.Error(err)
					return
				}
				f, _, err := s.Open(info.SHA256)
				if err != nil {
					t.Error(err)
					return
				}
				if b, err := io.ReadAll(f); string(b) != body || err != nil {
					t.Errorf("read %q, %v", b, err)
				}
				f.Close()
			}
		})
	}
	all.Wait()
	if list, err := s.List(); len(list) != 3 || err != nil {
		t.Errorf("%d bundles, %v", len(list), err)
	}
}

// TestArchiveKilled kills a process in the middle of a Put. The process is this
// test, with ARCHIVE_KILLED set.
func TestArchiveKilled(t *testing.T) {
	if dir := os.Getenv("ARCHIVE_KILLED"); dir != "" {
		mustOpen(t, dir).Put(func(w io.Writer) (Info, error) {
			io.WriteString(w, page)
			return Info{}, syscall.Kill(os.Getpid(), syscall.SIGKILL)
		})
		t.Fatal("survived")
	}
	dir := t.TempDir()
	info, err := mustOpen(t, dir).Put(fetching("kept"))
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(os.Args[0], "-test.run=^TestArchiveKilled$")
	cmd.Env = append(os.Environ(), "ARCHIVE_KILLED="+dir)
	if out, err := cmd.CombinedOutput(); err == nil || !strings.Contains(err.Error(), "killed") {
		t.Fatalf("%v: %s", err, out)
	}
	if left := files(t, dir); len(left) != 2 {
		t.Fatalf("the killed process left %v", left)
	}
	s := mustOpen(t, dir)
	if left := files(t, dir); len(left) != 1 || readBundle(t, s, info.SHA256) != "kept" {
		t.Errorf("after opening there is %v", left)
	}
}

func TestArchiveFull(t *testing.T) {
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=1m"); err != nil {
		const hint = "needs to mount a tmpfs: run as root"
		if os.Getenv("CI") != "" {
			t.Fatal(hint, err)
		}
		t.Skip(hint, err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	})
	s := mustOpen(t, dir)
	small, err := s.Put(fetching(page))
	if err != nil {
		t.Fatal(err)
	}
	_, err = s.Put(fetching(strings.Repeat("x", 2<<20)))
	if fault.Kind(err) != fault.Unavailable || !errors.Is(err, syscall.ENOSPC) || !strings.Contains(err.Error(), "free some space in "+dir) {
		t.Errorf("full: %v", err)
	}
	if left := files(t, dir); len(left) != 1 || readBundle(t, s, small.SHA256) != page {
		t.Errorf("after that there is %v", left)
	}
	if _, err := s.Put(fetching("fits")); err != nil {
		t.Errorf("what fits: %v", err)
	}
}

func TestArchiveCannotOpen(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	put(t, file, "")
	if _, err := OpenBundles(file); fault.Kind(err) != fault.Unavailable {
		t.Errorf("a file: %v", err)
	}
	s := mustOpen(t, filepath.Join(t.TempDir(), "gone"))
	if err := os.Remove(s.dir); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Put(fetching(page)); fault.Kind(err) != fault.Unavailable {
		t.Errorf("put into nothing: %v", err)
	}
	if _, err := s.List(); fault.Kind(err) != fault.Unavailable {
		t.Errorf("list nothing: %v", err)
	}
}

package bundle

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"aesthetic.computer/isofs/fault"
	"aesthetic.computer/isofs/piece"
)

// dir returns a directory of these files, all of them an hour old at noon.
func dir(t *testing.T, files map[string]string) *Dir {
	t.Helper()
	path := t.TempDir()
	for name, content := range files {
		put(t, filepath.Join(path, name), content)
	}
	d, err := NewDir(path)
	if err != nil {
		t.Fatal(err)
	}
	d.now = noon
	return d
}

func put(t *testing.T, path, content string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
	then := noon().Add(-time.Hour)
	if err := os.Chtimes(path, then, then); err != nil {
		t.Fatal(err)
	}
}

func TestDirFetch(t *testing.T) {
	d := dir(t, map[string]string{"notepat.html": page, "at.jeff.b.tone.html": page, "kidlisp.39j.html": page, "piece.-x.html": page})
	for _, s := range []string{"notepat", "@Jeff.b/tone", "$39j", "-x"} {
		var body bytes.Buffer
		info, err := d.Fetch(t.Context(), mustName(t, s), &body, int64(len(page)))
		want := Info{SHA256: sha256.Sum256([]byte(page)), Size: int64(len(page)), ModTime: noon().Add(-time.Hour).Truncate(time.Second), Title: "note & pat"}
		if err != nil || info != want || body.String() != page {
			t.Errorf("%s: %+v, %v, %q; want %+v", s, info, err, body.String(), want)
		}
	}
	var got sizeWriter
	if _, err := d.Fetch(t.Context(), mustName(t, "notepat"), &got, int64(len(page))-1); fault.Kind(err) != fault.Invalid || got != 0 {
		t.Errorf("too large: %v after %d bytes", err, got)
	}
}

// Files that a person could leave in the directory, or an attacker that may
// write to it.
func TestDirStrangeFiles(t *testing.T) {
	d := dir(t, map[string]string{
		"good.html": page, "empty.html": "", "README.md": "", "a b.html": page, ".html": page, "..html": page,
		"Upper.HTML": page, "at.Jeff.tone.html": page, "piece.good.html": page,
	})
	at := func(name string) string { return filepath.Join(d.path, name) }
	outside := filepath.Join(t.TempDir(), "secret")
	put(t, outside, page)
	for _, err := range []error{
		os.Symlink("good.html", at("inside.html")),
		os.Symlink(outside, at("absolute.html")),
		os.Symlink("../../../../../../etc/hostname", at("relative.html")),
		os.Symlink("gone.html", at("dangling.html")),
		os.Symlink("loop.html", at("loop.html")),
		os.Mkdir(at("folder.html"), 0o755),
		syscall.Mkfifo(at("pipe.html"), 0o644),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	tests := []struct {
		name string
		kind error
	}{
		{"good", nil},
		{"inside", nil},
		{"absent", fault.NotFound},
		{"dangling", fault.NotFound},
		{"folder", fault.NotFound},
		{"pipe", fault.NotFound},
		{"absolute", fault.Unavailable},
		{"relative", fault.Unavailable},
		{"loop", fault.Unavailable},
		{"empty", fault.Unavailable},
	}
	for _, tt := range tests {
		var body bytes.Buffer
		_, err := d.Fetch(t.Context(), mustName(t, tt.name), &body, 1000)
		if fault.Kind(err) != tt.kind || (err == nil) != (body.Len() > 0) {
			t.Errorf("%s: %v with %d bytes, want %v", tt.name, err, body.Len(), tt.kind)
		}
	}
	names, err := d.Names(t.Context())
	if fmt.Sprint(names) != "[empty good inside]" || err != nil {
		t.Errorf("names %v, %v", names, err)
	}
}

func TestDirMissing(t *testing.T) {
	d := dir(t, map[string]string{"notepat.html": page})
	notepat := mustName(t, "notepat")
	if err := os.RemoveAll(d.path); err != nil {
		t.Fatal(err)
	}
	if _, err := d.Fetch(t.Context(), notepat, io.Discard, 1000); fault.Kind(err) != fault.Unavailable {
		t.Errorf("fetch: %v", err)
	}
	if _, err := d.Names(t.Context()); fault.Kind(err) != fault.Unavailable {
		t.Errorf("names: %v", err)
	}
	if !d.Changed(t.Context(), notepat, Info{}, time.Hour) || !d.holds(notepat) {
		t.Error("a directory that is away seems to be an empty one")
	}
	for _, path := range []string{d.path, os.Args[0], ""} {
		if _, err := NewDir(path); fault.Kind(err) != fault.Invalid {
			t.Errorf("NewDir(%q): %v", path, err)
		}
	}
}

// A liveFile calls meddle while it is read, which writes to it.
type liveFile struct {
	*os.File
	meddle func()
}

func (f *liveFile) Read(p []byte) (int, error) {
	n, err := f.File.Read(p)
	f.meddle()
	return n, err
}

func TestDirTorn(t *testing.T) {
	meddling := map[string]func(path string, reading int){
		"touched": func(path string, reading int) { os.Chtimes(path, noon(), noon().Add(time.Duration(reading))) },
		"grown":   func(path string, reading int) { put(t, path, page+strings.Repeat(" ", reading)) },
	}
	for what, meddle := range meddling {
		for times := range 3 {
			d := dir(t, map[string]string{"live.html": page})
			readings := 0
			d.open = func(file string) (fs.File, error) {
				f, err := d.openFile(file)
				readings++
				return &liveFile{f.(*os.File), func() {
					if readings <= times {
						meddle(filepath.Join(d.path, "live.html"), readings)
					}
				}}, err
			}
			var body bytes.Buffer
			_, err := d.Fetch(t.Context(), mustName(t, "live"), &body, 1000)
			if times < 2 && (err != nil || readings != times+1) {
				t.Errorf("%s during %d readings: %v after %d", what, times, err, readings)
			}
			if times == 2 && (fault.Kind(err) != fault.Unavailable || !errors.Is(err, errTorn) || readings != 2 || body.Len() > 0) {
				t.Errorf("%s during each reading: %v after %d, with %d bytes", what, err, readings, body.Len())
			}
		}
	}
}

// A file under constant writing is refused, or read whole.
func TestDirUnderWriter(t *testing.T) {
	a, b := strings.Repeat("a", 1<<20), strings.Repeat("b", 1<<20+1)
	d := dir(t, map[string]string{"live.html": a})
	ctx, stop := context.WithCancel(t.Context())
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		for ctx.Err() == nil {
			for _, content := range []string{b, a} {
				f, err := os.OpenFile(filepath.Join(d.path, "live.html"), os.O_WRONLY, 0)
				if err != nil {
					return
				}
				// One write each, so that only a read between them is torn.
				f.WriteAt([]byte(content), 0)
				f.Truncate(int64(len(content)))
				f.Close()
			}
		}
	}()
	live := mustName(t, "live")
	for range 20 {
		var body bytes.Buffer
		info, err := d.Fetch(t.Context(), live, &body, 2<<20)
		if err != nil && (fault.Kind(err) != fault.Unavailable || body.Len() > 0) {
			t.Errorf("%v after %d bytes", err, body.Len())
		}
		if err == nil && info.SHA256 != sha256.Sum256(body.Bytes()) {
			t.Error("the digest is not that of what was written")
		}
	}
	stop()
	<-stopped
}

func TestDirChanged(t *testing.T) {
	d := dir(t, map[string]string{"live.html": page})
	path, live := filepath.Join(d.path, "live.html"), mustName(t, "live")
	info, err := d.Fetch(t.Context(), live, io.Discard, 1000)
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		when string
		do   func() error
		age  time.Duration
		want bool
	}{
		{"nothing happened", func() error { return nil }, time.Minute, false},
		{"it was read just after it was written", func() error { return nil }, time.Hour, true},
		{"it is older than what was read", func() error { return nil }, 2 * time.Hour, false},
		{"it was touched", func() error { return os.Chtimes(path, noon(), noon()) }, time.Minute, true},
		{"it grew", func() error { put(t, path, page+" "); return nil }, time.Minute, true},
		{"it is as it was", func() error { put(t, path, page); return nil }, time.Minute, false},
		{"it is away", func() error { return os.Remove(path) }, time.Minute, true},
	}
	for _, tt := range tests {
		if err := tt.do(); err != nil {
			t.Fatal(err)
		}
		if got := d.Changed(t.Context(), live, info, tt.age); got != tt.want {
			t.Errorf("%s: changed %v, want %v", tt.when, got, tt.want)
		}
	}
}

func TestDirCancelled(t *testing.T) {
	d := dir(t, map[string]string{"notepat.html": page})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := d.Fetch(ctx, mustName(t, "notepat"), io.Discard, 1000); !errors.Is(err, context.Canceled) || fault.Kind(err) != fault.Unavailable {
		t.Errorf("cancelled: %v", err)
	}
	if _, err := d.Fetch(t.Context(), piece.Name{}, io.Discard, 1); fault.Kind(err) != fault.Invalid {
		t.Errorf("the zero name: %v", err)
	}
}

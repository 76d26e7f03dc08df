package catalog

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"aesthetic.computer/isofs/fault"
)

// bundlePath is the path of a snapshot's stored bundle.
func (r *rig) bundlePath(s *Snapshot) string {
	return filepath.Join(r.config.Dir, "bundles", s.Bundle().String()+".html")
}

// stop closes the catalog, so that the test can change its files.
func (r *rig) stop() {
	r.t.Helper()
	if err := r.Close(); err != nil {
		r.t.Fatal(err)
	}
}

func write(t *testing.T, path, content string) {
	t.Helper()
	// A new file, as a bundle is read-only and may be open.
	_ = os.Remove(path)
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestWhatAKillLeaves(t *testing.T) {
	for what, damage := range map[string]func(r *rig, s *Snapshot){
		"temporary files": func(r *rig, _ *Snapshot) {
			for _, file := range []string{".bases.json123", ".times.json1", ".clients.log9", ".clients.salt77", "snapshots/.0123.json456", "bundles/.put-123"} {
				write(r.t, filepath.Join(r.config.Dir, file), `{"half":`)
			}
		},
		"a bundle without a record": func(r *rig, _ *Snapshot) {
			write(r.t, filepath.Join(r.config.Dir, "bundles", strings.Repeat("0", 64)+".html"), "whole")
		},
		"a truncated record": func(r *rig, _ *Snapshot) {
			write(r.t, r.disk.records.path(strings.Repeat("a", 32)), `{"id":"aaaaaaaa`)
		},
		"an empty record": func(r *rig, _ *Snapshot) {
			write(r.t, r.disk.records.path(strings.Repeat("a", 32)), "")
		},
		"a record under another name": func(r *rig, s *Snapshot) {
			data, err := os.ReadFile(r.disk.records.path(s.ID()))
			if err != nil {
				r.t.Fatal(err)
			}
			write(r.t, r.disk.records.path(strings.Repeat("a", 32)), string(data))
		},
		"a record of another layout": func(r *rig, s *Snapshot) {
			other := s.record
			other.ID = strings.Repeat("b", 32)
			if err := r.disk.records.write(other); err != nil {
				r.t.Fatal(err)
			}
		},
		"a record without its bundle": func(r *rig, s *Snapshot) {
			other := s.record
			other.Piece, other.Bundle[0] = "other", other.Bundle[0]+1
			other = date(other, mark{}, nil, s.Base())
			if err := r.disk.records.write(other); err != nil {
				r.t.Fatal(err)
			}
		},
		"garbage among the clients": func(r *rig, _ *Snapshot) {
			path := filepath.Join(r.config.Dir, clientsFile)
			data, err := os.ReadFile(path)
			if err != nil {
				r.t.Fatal(err)
			}
			long := strings.Repeat("x", 100_000)
			write(r.t, path, "\x00\xff\n{}\n"+long+"\n[1]\n"+string(data)+`{"key":"abc","ag`)
		},
		"missing marks":   func(r *rig, _ *Snapshot) { os.Remove(filepath.Join(r.config.Dir, marksFile)) },
		"unusable marks":  func(r *rig, _ *Snapshot) { write(r.t, filepath.Join(r.config.Dir, marksFile), "garbage") },
		"no marks at all": func(r *rig, _ *Snapshot) { write(r.t, filepath.Join(r.config.Dir, marksFile), "null") },
		"missing bases":   func(r *rig, _ *Snapshot) { os.Remove(filepath.Join(r.config.Dir, basesFile)) },
		"nothing at all":  func(*rig, *Snapshot) {},
	} {
		r := newRig(t, Limits{})
		s := r.baked("notepat", "<p>1</p>")
		if _, err := r.Begin(t.Context(), wget, name("notepat")); err != nil {
			t.Fatal(err)
		}
		r.stop()
		damage(r, s)
		r.open()
		r.wantIDs(s)
		r.wantStored(1)
		if after := r.current("notepat"); r.source.count() != 1 {
			t.Errorf("%s: the piece is fetched again", what)
		} else {
			wantOpen(t, after, "<p>1</p>")
		}
		if got, err := r.Resume(t.Context(), wget, name("notepat"), slotStart+1); err != nil || got.ID() != s.ID() {
			t.Errorf("%s: the client that began with the snapshot is not remembered: %v", what, err)
		}
		for _, dir := range []string{".", "snapshots", "bundles"} {
			if left, _ := filepath.Glob(filepath.Join(r.config.Dir, dir, ".[a-z0-9]*")); len(left) > 0 {
				t.Errorf("%s: left are %v", what, left)
			}
		}
		if records, _ := filepath.Glob(filepath.Join(string(r.disk.records), "*")); len(records) != 1 {
			t.Errorf("%s: records are %v, want one", what, records)
		}
		r.restart() // and again, as the start itself may have damaged files
		r.wantIDs(s)
	}
}

// The list of bases decides which clients may resume. If it is lost, the
// records have its bases.
func TestALostListOfBases(t *testing.T) {
	r := newRig(t, Limits{})
	r.baked("notepat", "<p>1</p>")
	r.stop()
	if err := os.Remove(filepath.Join(r.config.Dir, basesFile)); err != nil {
		t.Fatal(err)
	}
	r.config.Base = newBase(2)
	r.open()
	if len(r.bases.all) != 2 {
		t.Errorf("%d bases are known, not that of the record and the current one", len(r.bases.all))
	}
	r.stop()
	write(t, filepath.Join(r.config.Dir, basesFile), "garbage")
	if _, err := Open(r.config); !errors.Is(err, fault.Corrupt) || !strings.Contains(err.Error(), "remove the file") {
		t.Errorf("a list that cannot be read: %v", err)
	}
	write(t, filepath.Join(r.config.Dir, basesFile), "[]")
	r.open()
}

func TestADamagedBundleIsFetchedAgain(t *testing.T) {
	for what, damage := range map[string]func(r *rig, s *Snapshot){
		"another byte": func(r *rig, s *Snapshot) { write(r.t, r.bundlePath(s), "<p>2</p>") },
		"shorter":      func(r *rig, s *Snapshot) { write(r.t, r.bundlePath(s), "<p>1") },
		"gone":         func(r *rig, s *Snapshot) { os.Remove(r.bundlePath(s)) },
	} {
		r := newRig(t, Limits{})
		before := r.baked("notepat", "<p>0</p>")
		r.clock.add(time.Minute)
		s := r.baked("notepat", "<p>1</p>")
		r.restart()
		damage(r, s)
		damaged := r.current("notepat")
		if damaged.ID() != s.ID() {
			t.Fatalf("%s: snapshot %s", what, damaged.ID())
		}
		if _, err := damaged.Open(); !errors.Is(err, fault.Corrupt) && !errors.Is(err, fault.NotFound) {
			t.Errorf("%s: open: %v", what, err)
		}
		r.wantIDs(before) // not the damaged one
		healed := r.current("notepat")
		if healed.ID() != s.ID() || !healed.Time().Equal(s.Time()) || r.source.count() != 3 {
			t.Errorf("%s: after %d fetches it is snapshot %s of %s, it was %s of %s", what, r.source.count(), healed.ID(), healed.Time(), s.ID(), s.Time())
		}
		wantOpen(t, healed, "<p>1</p>")
		wantOpen(t, r.shown.find(before.ID()), "<p>0</p>")
	}
}

// When the newest snapshot is lost, an older one must not count as current
// because the source had its bundle not long ago.
func TestAnOlderSnapshotDoesNotPassForTheNewest(t *testing.T) {
	r := newRig(t, Limits{})
	older := r.baked("notepat", "<p>0</p>")
	r.clock.add(time.Minute)
	newest := r.baked("notepat", "<p>1</p>")
	r.drop(newest, byOperator)
	if age := older.age(); age < 1000*time.Hour {
		t.Errorf("the older one seems to have been compared with its source %s ago", age)
	}
}

func TestADirectoryThatCannotBeWritten(t *testing.T) {
	r := newRig(t, Limits{})
	r.stop()
	if err := os.RemoveAll(filepath.Join(r.config.Dir, "snapshots")); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(r.config.Dir, "snapshots"), "a file")
	if _, err := Open(r.config); !errors.Is(err, fault.Unavailable) {
		t.Errorf("got %v", err)
	}
}

// If the record cannot be written, the catalog must not have a snapshot that a
// restart would not find.
func TestARecordThatCannotBeWritten(t *testing.T) {
	r := newRig(t, Limits{RetryAfter: time.Second})
	r.source.bake("notepat", "<p>1</p>", epoch)
	if err := os.RemoveAll(string(r.disk.records)); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Current(t.Context(), name("notepat")); !errors.Is(err, fault.Unavailable) {
		t.Errorf("got %v", err)
	}
	r.wantIDs()
	if err := os.Mkdir(string(r.disk.records), 0o755); err != nil {
		t.Fatal(err)
	}
	r.clock.add(time.Second)
	s := r.current("notepat")
	r.restart()
	r.wantIDs(s)
}

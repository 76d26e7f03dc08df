package store

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"aesthetic.computer/isofs/base"
	"aesthetic.computer/isofs/fault"
	"aesthetic.computer/isofs/origin"
)

func TestPublishAndRetain(t *testing.T) {
	places(t, func(t *testing.T, s Store) {
		plan, err := Preview(t.Context(), s, newBase(day+"01", 1))
		if err != nil || !plan.Image || !plan.Manifest || !plan.Channel || plan.From != "" || plan.Remove != nil {
			t.Errorf("%+v, %v", plan, err)
		}
		is(t, s, "of") // a look changes nothing
		for _, v := range []string{"01", "02", "03"} {
			published(t, s, newBase(day+v, 1))
		}
		is(t, s, "03 02 01 of 03 02 01")
		four := newBase(day+"04", 4)
		if plan, err := Preview(t.Context(), s, four); err != nil || !slices.Equal(plan.Remove, []string{day + "01"}) || plan.From != day+"03" {
			t.Errorf("%+v, %v", plan, err)
		}
		if r := published(t, s, four); !slices.Equal(r.Removed, []string{day + "01"}) || r.Already || r.Channel.Revision != 4 {
			t.Errorf("%+v", r)
		}
		is(t, s, "04 03 02 of 04 03 02")
		if r := published(t, s, four); !r.Already || r.Removed != nil || r.Channel.Revision != 4 {
			t.Errorf("again: %+v", r)
		}
		for name, p := range map[string]Publication{
			"with other bytes":   newBase(day+"04", 5),
			"other, not named":   newBase(day+"02", 6),
			"older":              newBase(day+"02", 1),
			"removed":            newBase(day+"01", 1),
			"that keeps nothing": {Manifest: four.Manifest, Image: four.Image},
		} {
			if _, err := Publish(t.Context(), s, p); !errors.Is(err, fault.Invalid) {
				t.Errorf("a version %s: %v", name, err)
			}
		}
		is(t, s, "04 03 02 of 04 03 02")
	})
}

func TestRollbackAndPrune(t *testing.T) {
	places(t, func(t *testing.T, s Store) {
		now := time.Unix(1793491200, 0)
		for _, v := range []string{"01", "02", "03"} {
			published(t, s, newBase(day+v, 1))
		}
		back := func(version, want string) {
			t.Helper()
			if _, err := tinyAt(s, nil, now).Rollback(t.Context(), version); err != nil {
				t.Error(err)
			}
			is(t, s, want)
		}
		back("", "02 01 of 03 02 01")
		back("", "01 of 03 02 01")
		if _, err := tinyAt(s, nil, now).Rollback(t.Context(), ""); !errors.Is(err, fault.Invalid) {
			t.Errorf("further back than there is: %v", err)
		}
		if _, err := tinyAt(s, nil, now).Rollback(t.Context(), day+"09"); !errors.Is(err, fault.NotFound) {
			t.Errorf("to what is not there: %v", err)
		}
		// The named one stays though it is the oldest, and the newest though it is not named.
		if got, err := tinyAt(s, nil, now).Prune(t.Context(), 1, true); err != nil || !slices.Equal(got, []string{day + "02"}) {
			t.Errorf("%v, %v", got, err)
		}
		is(t, s, "01 of 03 02 01")
		// Killed in the middle: a half removed version cannot be made current, and the next prune
		// finishes.
		broken := hooked{Store: s, remove: func(string) error { return errKilled }}
		if _, err := tinyAt(broken, nil, now).Prune(t.Context(), 1, false); !errors.Is(err, errKilled) {
			t.Error(err)
		}
		if _, err := tinyAt(s, nil, now).Rollback(t.Context(), day+"02"); !errors.Is(err, fault.NotFound) {
			t.Errorf("to what is being removed: %v", err)
		}
		if got, err := tinyAt(s, nil, now).Prune(t.Context(), 3, false); err != nil || !slices.Equal(got, []string{day + "02"}) {
			t.Errorf("%v, %v", got, err)
		}
		is(t, s, "01 of 03 01")
		back(day+"03", "03 01 of 03 01")
		if all, err := Channels(t.Context(), s); err != nil || len(all) != 1 || all[0].Current.Version != day+"03" {
			t.Errorf("%v, %v", all, err)
		}
	})
}

// Another publisher finishes between reading and writing the channel: its channel stays.
func TestTwoPublishersAtOnce(t *testing.T) {
	places(t, func(t *testing.T, s Store) {
		published(t, s, newBase(day+"01", 1))
		two, three := newBase(day+"02", 2), newBase(day+"03", 3)
		late := hooked{Store: s, put: func(name string) error {
			if strings.HasPrefix(name, base.ChannelDir()) {
				published(t, s, two)
			}
			return nil
		}}
		if _, err := Publish(t.Context(), late, three); !errors.Is(err, ErrConflict) || !strings.Contains(err.Error(), day+"02") {
			t.Errorf("the second one: %v", err)
		}
		is(t, s, "02 01 of 03 02 01")
		// The loser's base is there, and its next attempt has only the channel to write.
		if plan, err := Preview(t.Context(), s, three); err != nil || plan.Image || plan.Manifest || !plan.Channel {
			t.Errorf("%+v, %v", plan, err)
		}
		published(t, s, three)
		is(t, s, "03 02 01 of 03 02 01")
		moved := hooked{Store: s, put: func(string) error {
			_, err := tiny(s).Rollback(t.Context(), "")
			return err
		}}
		if _, err := tiny(moved).Prune(t.Context(), 1, false); !errors.Is(err, ErrConflict) {
			t.Errorf("a prune beside a rollback: %v", err)
		}
		is(t, s, "02 01 of 03 02 01")
	})
}

// Many publish at once, the same base and others. Whatever becomes of each, the channel names whole
// bases, and each one that succeeded was current.
func TestManyPublishersAtOnce(t *testing.T) {
	places(t, func(t *testing.T, s Store) {
		var all sync.WaitGroup
		var won atomic.Int64
		for i := range 6 {
			all.Go(func() {
				p := newBase(day+"0"+string("112233"[i]), byte(i/2))
				switch _, err := Publish(t.Context(), s, p); {
				case err == nil:
					won.Add(1)
				case !errors.Is(err, ErrConflict) && !errors.Is(err, fault.Invalid):
					t.Error(err)
				}
			})
		}
		all.Wait()
		if won.Load() == 0 {
			t.Error("nobody won")
		}
		state(t, s)
		published(t, s, newBase(day+"04", 4))
	})
}

// A publication that broke off shows nothing, and the next one continues it. What another base left
// under the same version is not mixed in.
func TestInterruptedUpload(t *testing.T) {
	places(t, func(t *testing.T, s Store) {
		sent, wait := make(chan struct{}, 10), func() {}
		if b, ok := s.(*bucket); ok {
			counted(b, func() { sent <- struct{}{} })
			wait = func() { <-sent }
		}
		whole := newBase(day+"01", 1)
		cut := whole
		cut.Image = breaking{whole.Image, wait}
		if _, err := Publish(t.Context(), s, cut); !errors.Is(err, errKilled) {
			t.Fatal(err)
		}
		is(t, s, "of")
		var old os.FileInfo
		if f, ok := s.(*folder); ok {
			var err error
			if old, err = os.Stat(f.path("bases/tiny/amd64/" + day + "01/.base.iso.partial")); err != nil || old.Size() != partsSize {
				t.Fatalf("%v, %v", old, err)
			}
		}
		published(t, s, whole)
		is(t, s, "01 of 01")
		if f, ok := s.(*folder); ok {
			now, err := os.Stat(f.path("bases/tiny/amd64/" + day + "01/base.iso"))
			if err != nil || !os.SameFile(old, now) {
				t.Errorf("the file that was begun was not gone on with: %v", err)
			}
		} else if n := len(sent); n != 1 {
			t.Errorf("%d parts were sent, and 1 was missing", n)
		}
		for len(sent) > 0 {
			<-sent
		}
		other := newBase(day+"02", 2)
		other.Image = breaking{other.Image, wait}
		if _, err := Publish(t.Context(), s, other); !errors.Is(err, errKilled) {
			t.Fatal(err)
		}
		published(t, s, newBase(day+"02", 3)) // reads all of it back
		is(t, s, "02 01 of 02 01")
	})
}

// Wrong bytes at the place are found by reading back, before a server can be sent to them.
func TestWrongImageIsNotNamed(t *testing.T) {
	places(t, func(t *testing.T, s Store) {
		published(t, s, newBase(day+"01", 1))
		right := newBase(day+"02", 2)
		wrong := newBase(day+"02", 3).Image
		if err := s.Upload(t.Context(), "bases/tiny/amd64/"+day+"02/base.iso", wrong, imageSize, func(int64) {}); err != nil {
			t.Fatal(err)
		}
		if _, err := Publish(t.Context(), s, right); !errors.Is(err, fault.Corrupt) || !strings.Contains(err.Error(), "the manifest says") {
			t.Error(err)
		}
		is(t, s, "01 of 02? 01")
		// Unfinished ones may belong to a publisher at work: they are not pruned.
		if got, err := tiny(s).Prune(t.Context(), 1, false); err != nil || got != nil {
			t.Errorf("%v, %v", got, err)
		}
		is(t, s, "01 of 02? 01")
	})
}

// The contract of a store's small writes.
func TestPutIsConditional(t *testing.T) {
	places(t, func(t *testing.T, s Store) {
		if _, _, err := s.Read(t.Context(), "channels/x", 10); !errors.Is(err, fault.NotFound) {
			t.Error(err)
		}
		if err := s.Put(t.Context(), "channels/x", []byte("1"), `"0123"`); !errors.Is(err, ErrConflict) && !errors.Is(err, fault.NotFound) {
			t.Errorf("over nothing: %v", err)
		}
		if err := s.Put(t.Context(), "channels/x", []byte("1"), ""); err != nil {
			t.Fatal(err)
		}
		_, tag, err := s.Read(t.Context(), "channels/x", 10)
		if err != nil {
			t.Fatal(err)
		}
		var won atomic.Int64
		var all sync.WaitGroup
		for i := range 8 {
			all.Go(func() {
				switch err := s.Put(context.Background(), "channels/x", []byte{'a' + byte(i)}, tag); {
				case err == nil:
					won.Add(1)
				case !errors.Is(err, ErrConflict):
					t.Error(err)
				}
			})
		}
		all.Wait()
		if won.Load() != 1 {
			t.Errorf("%d of 8 replaced the same content", won.Load())
		}
		if err := s.Put(t.Context(), "channels/x", []byte("z"), ""); !errors.Is(err, ErrConflict) {
			t.Errorf("over something: %v", err)
		}
		if _, _, err := s.Read(t.Context(), "channels/x", 0); !errors.Is(err, fault.Corrupt) {
			t.Errorf("more than the limit: %v", err)
		}
	})
}

func TestWhereToPublish(t *testing.T) {
	for _, address := range []string{"", "https://h/x", "s3://", "s3:///x", "file://host/x"} {
		if _, err := At(address, origin.Options{}); !errors.Is(err, fault.Invalid) {
			t.Errorf("%q: %v", address, err)
		}
	}
	if partSize(1<<20) != minPart || partSize(1<<40)*maxParts < 1<<40 {
		t.Error("parts of a wrong size")
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "file"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	s, err := At(filepath.Join(dir, "file"), origin.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Publish(t.Context(), s, newBase(day+"01", 1)); fault.Kind(err) == nil {
		t.Errorf("in a file: %v", err)
	}
}

// Everybody can read published files, whatever the publisher's umask is. A folder that exists keeps
// its mode.
func TestPublishedIsReadable(t *testing.T) {
	dir := t.TempDir()
	private := filepath.Join(dir, "private")
	was := unix.Umask(0o077)
	defer unix.Umask(was)
	if err := os.Mkdir(private, 0o700); err != nil {
		t.Fatal(err)
	}
	for _, root := range []string{filepath.Join(dir, "new", "www"), private} {
		s, err := At(root, origin.Options{})
		if err != nil {
			t.Fatal(err)
		}
		published(t, s, signed(day+"01", 1, stamp("us")))
		err = filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
			if err != nil || path == private || entry.Name() == lockName {
				return err
			}
			fi, err := entry.Info()
			want := fs.FileMode(0o644)
			if entry.IsDir() {
				want = 0o755
			}
			if err == nil && fi.Mode().Perm() != want {
				t.Errorf("%s has the mode %v", path, fi.Mode())
			}
			return err
		})
		if err != nil {
			t.Error(err)
		}
	}
	for path, want := range map[string]fs.FileMode{private: 0o700, filepath.Join(dir, "new"): 0o755} {
		if fi, err := os.Stat(path); err != nil || fi.Mode().Perm() != want {
			t.Errorf("%s: %v, %v", path, fi, err)
		}
	}
}

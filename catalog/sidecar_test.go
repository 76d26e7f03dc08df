package catalog

import (
	"bytes"
	"errors"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"aesthetic.computer/isofs/base"
	"aesthetic.computer/isofs/fault"
	"aesthetic.computer/isofs/image"
	"aesthetic.computer/isofs/piece"
)

func TestSidecarsAreMadeOnceAndBounded(t *testing.T) {
	made := 0
	s, err := newSidecars([]SidecarMaker{{Suffix: "zsync", Make: func(*Snapshot, *image.Image) ([]byte, error) { return nil, nil }}})
	if err != nil {
		t.Fatal(err)
	}
	if got := s.suffixes; len(got) != 2 || got[0] != "sha256" || got[1] != "zsync" {
		t.Errorf("suffixes are %q", got)
	}
	of := func(key string, n int) {
		t.Helper()
		content, err := s.get(key, func() ([]byte, error) { made++; return bytes.Repeat([]byte(key[:1]), n), nil })
		if err != nil || len(content) != n || content[0] != key[0] {
			t.Fatalf("%s: %d bytes, %v", key, len(content), err)
		}
	}
	of("a", 5)
	of("a", 5)
	if made != 1 {
		t.Errorf("made %d times", made)
	}
	of("b", keptSidecars-5)
	of("a", 5)
	of("c", 1) // pushes out b, whose last request came before a's
	if s.size != 6 || made != 3 {
		t.Errorf("%d bytes kept, %d made", s.size, made)
	}
	of("b", keptSidecars+1) // is not kept, and pushes out nothing
	of("a", 5)
	if s.size != 6 || made != 4 {
		t.Errorf("%d bytes kept, %d made", s.size, made)
	}
	if _, err := s.get("d", func() ([]byte, error) { return nil, fault.Corrupt }); !errors.Is(err, fault.Corrupt) {
		t.Errorf("the error of the maker became %v", err)
	}
	of("d", 1)
}

func TestSidecarMakersAreChecked(t *testing.T) {
	make := func(*Snapshot, *image.Image) ([]byte, error) { return nil, nil }
	for _, bad := range [][]SidecarMaker{
		{{Suffix: "sha256", Make: make}}, {{Suffix: "", Make: make}}, {{Suffix: "asc"}}, {{Suffix: "asc", Make: make}, {Suffix: "asc", Make: make}},
	} {
		if _, err := newSidecars(bad); !errors.Is(err, fault.Invalid) {
			t.Errorf("%v: %v", bad, err)
		}
	}
}

// If a base lacks the data for a sidecar, its images do not have that sidecar.
func TestSidecarsOfABaseThatCannotHaveThem(t *testing.T) {
	make := func(*Snapshot, *image.Image) ([]byte, error) { return nil, nil }
	s, err := newSidecars([]SidecarMaker{
		{Suffix: "zsync", Make: make, Has: func(m *base.Manifest) bool { return m.Zsync != nil }}, {Suffix: "bmap", Make: make},
	})
	if err != nil {
		t.Fatal(err)
	}
	c := &Catalog{sidecars: s}
	without := newSnapshot(c, record{}, piece.Name{}, image.Base{Manifest: &base.Manifest{}})
	if got := without.Suffixes(); !slices.Equal(got, []string{"bmap", "sha256"}) {
		t.Errorf("without sums: %q", got)
	}
	if _, err := without.Sidecar("zsync"); fault.Kind(err) != fault.NotFound {
		t.Errorf("without sums: %v", err)
	}
	with := newSnapshot(c, record{}, piece.Name{}, image.Base{Manifest: &base.Manifest{Zsync: &base.Zsync{}}})
	if got := with.Suffixes(); !slices.Equal(got, []string{"bmap", "sha256", "zsync"}) {
		t.Errorf("with sums: %q", got)
	}
}

// TestSidecarsAreNotMadeTwiceAtOnce: concurrent requests wait for one sidecar.
// One that was begun before the keys changed is not kept.
func TestSidecarsAreNotMadeTwiceAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, err := newSidecars(nil)
		if err != nil {
			t.Fatal(err)
		}
		var made atomic.Int32
		finish := make(chan struct{})
		for range 20 {
			go func() {
				content, err := s.get("id/notepat-os.iso.asc", func() ([]byte, error) {
					made.Add(1)
					<-finish
					return []byte("old keys"), nil
				})
				if err != nil || string(content) != "old keys" {
					t.Errorf("%q, %v", content, err)
				}
			}()
		}
		synctest.Wait()
		(&Catalog{sidecars: s}).ForgetSidecars("asc")
		close(finish)
		synctest.Wait()
		if n := made.Load(); n != 1 {
			t.Errorf("made %d times at once", n)
		}
		content, err := s.get("id/notepat-os.iso.asc", func() ([]byte, error) { return []byte("new keys"), nil })
		if err != nil || string(content) != "new keys" {
			t.Errorf("after the keys changed: %q, %v", content, err)
		}
	})
}

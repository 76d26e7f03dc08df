package catalog

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"aesthetic.computer/isofs/base"
	"aesthetic.computer/isofs/fault"
	"aesthetic.computer/isofs/image"
)

// withBases makes a rig that can open these bases again.
func withBases(t *testing.T, bases ...image.Base) *rig {
	r := newRig(t, Limits{})
	r.config.OpenBase = func(sum base.Hash) (image.Base, error) {
		for _, b := range bases {
			if b.Manifest.SHA256 == sum {
				return b, nil
			}
		}
		return image.Base{}, fault.NotFound
	}
	r.restart()
	return r
}

// New images are made on a new base. Existing ones stay as they are, and so
// does one that is being made.
func TestSetBase(t *testing.T) {
	next := newBase(2)
	r := withBases(t, newBase(1), next)
	old := r.baked("notepat", "<p>1</p>")
	h, err := old.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	who := Client{"192.0.2.1", "wget"}
	if _, err := r.Begin(t.Context(), who, name("notepat")); err != nil {
		t.Fatal(err)
	}
	// A client that is not remembered may resume before the slot, while there
	// was one base.
	if _, err := r.Resume(t.Context(), Client{"192.0.2.9", ""}, name("notepat"), 5); err != nil {
		t.Fatal(err)
	}
	r.source.bake("slow", "<p>slow</p>", epoch)
	r.source.set(func() { r.source.gate, r.source.started = make(chan struct{}), make(chan string, 1) })
	var slow *Snapshot
	var making sync.WaitGroup
	making.Go(func() { slow = r.current("slow") })
	<-r.source.started
	if err := r.SetBase(next); err != nil {
		t.Fatal(err)
	}
	close(r.source.gate)
	making.Wait()
	r.source.set(func() { r.source.gate, r.source.started = nil, nil })
	if slow.Base().SHA256 != newBase(1).Manifest.SHA256 {
		t.Error("an image that was being made changed its base")
	}
	wantOpen(t, slow, "<p>slow</p>")

	now := r.current("notepat")
	if now == old || now.Base().SHA256 != next.Manifest.SHA256 || !now.Time().After(old.Time()) || r.Base() != next.Manifest {
		t.Errorf("a new download is made on %s, at %s after %s", now.Base().SHA256, now.Time(), old.Time())
	}
	wantOpen(t, now, "<p>1</p>")
	wantImage(t, h, old, "<p>1</p>") // the open image
	if got, err := r.Resume(t.Context(), who, name("notepat"), 5); got != old {
		t.Errorf("a resume: %v, %v", got, err)
	}
	if _, err := r.Resume(t.Context(), Client{"192.0.2.8", ""}, name("notepat"), 5); !errors.As(err, new(*StaleError)) {
		t.Errorf("a resume by a client that is not remembered: %v", err)
	}

	// A restart goes back to the configured base, and keeps the snapshots.
	r.restart()
	if r.Base().SHA256 != newBase(1).Manifest.SHA256 || !r.bases.several() {
		t.Errorf("after a restart the base is %s", r.Base().SHA256)
	}
	for _, s := range []*Snapshot{old, now, slow} {
		kept, err := r.ByID(s.ID())
		if err != nil {
			t.Fatal(err)
		}
		if kept.SHA256() != s.SHA256() {
			t.Errorf("%s has another digest", s.ID())
		}
	}
	if err := r.SetBase(image.Base{}); !errors.Is(err, fault.Invalid) {
		t.Errorf("no base: %v", err)
	}
}

// The race detector is the judge.
func TestSetBaseWhileAllIsInUse(t *testing.T) {
	bases := []image.Base{newBase(1), newBase(2)}
	r := withBases(t, bases...)
	r.source.bake("notepat", "<p>1</p>", epoch)
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			for range 20 {
				s := r.current("notepat")
				if sum := s.Base().SHA256; sum != bases[0].Manifest.SHA256 && sum != bases[1].Manifest.SHA256 {
					t.Errorf("on base %s", sum)
				}
				_ = r.BaseSummary()
				_, _ = r.Resume(t.Context(), Client{"192.0.2.7", ""}, name("notepat"), 5)
			}
		})
	}
	for i := range 20 {
		if err := r.SetBase(bases[i%2]); err != nil {
			t.Error(err)
		}
	}
	all.Wait()
}

func TestDrop(t *testing.T) {
	r := newRig(t, Limits{})
	first := r.baked("notepat", "<p>1</p>")
	h, err := first.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	r.clock.add(time.Minute)
	second := r.baked("notepat", "<p>2</p>")
	other := r.baked("other", "<p>3</p>")
	list := r.List()
	want := []Listed{{second, true, false}, {first, false, true}, {other, true, false}}
	if !slices.Equal(list, want) {
		t.Errorf("listed are %+v", list)
	}
	if !r.Drop(other.ID()) || r.Drop(other.ID()) || r.Drop("none") {
		t.Error("not dropped once")
	}
	r.wantStored(2)
	if ids := r.DropPiece(name("notepat")); !slices.Equal(ids, []string{second.ID(), first.ID()}) {
		t.Errorf("dropped are %v", ids)
	}
	r.wantIDs()
	r.wantStored(0)
	wantImage(t, h, first, "<p>1</p>") // an open download continues
	if ids := r.DropPiece(name("notepat")); len(ids) != 0 {
		t.Errorf("dropped again: %v", ids)
	}
	// The snapshot made again has a later time.
	if again := r.baked("notepat", "<p>4</p>"); !again.Time().After(second.Time()) {
		t.Errorf("made again at %s, after %s", again.Time(), second.Time())
	}
	r.restart()
	if len(r.IDs()) != 1 {
		t.Errorf("after a restart there are %v", r.IDs())
	}
}

// Dropping a piece also forgets that it was missing.
func TestDropForgetsFailures(t *testing.T) {
	r := newRig(t, Limits{MissingTime: time.Hour})
	if _, err := r.Current(t.Context(), name("new")); !errors.Is(err, fault.NotFound) {
		t.Fatal(err)
	}
	r.source.bake("new", "<p>1</p>", epoch)
	r.DropPiece(name("new"))
	wantBundle(t, r.current("new"), "<p>1</p>")
}

func TestPruneAll(t *testing.T) {
	r := newRig(t, Limits{})
	var made []*Snapshot
	for i := range 4 {
		r.clock.add(time.Minute)
		made = append(made, r.baked("notepat", fmt.Sprint("<p>", i)))
	}
	h, err := made[0].Open()
	if err != nil {
		t.Fatal(err)
	}
	r.clock.add(time.Minute)
	if n := r.Prune(); n != 0 {
		t.Errorf("Prune forgot %d", n)
	}
	if _, err := r.At(name("notepat"), made[1].Time()); err != nil { // a client was just sent to it
		t.Fatal(err)
	}
	if n := r.PruneAll(); n != 1 {
		t.Errorf("PruneAll forgot %d, not the one that no client needs", n)
	}
	r.wantIDs(made[0], made[1], made[3])
	wantImage(t, h, made[0], "<p>0")
	h.Close()
	r.clock.add(time.Minute)
	if n := r.PruneAll(); n != 2 {
		t.Errorf("then PruneAll forgot %d", n)
	}
	r.wantIDs(made[3])
	r.wantStored(1)
}

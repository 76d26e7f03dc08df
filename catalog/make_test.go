package catalog

import (
	"slices"
	"testing"
	"time"

	"aesthetic.computer/isofs/base"
	"aesthetic.computer/isofs/fault"
	"aesthetic.computer/isofs/image"
)

func TestEachBundleGetsAnIDAndALaterTime(t *testing.T) {
	// The bundle's time advances, stands still, and goes back. The snapshot's
	// time is in seconds after the base was made.
	made := time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)
	for _, c := range []struct {
		what  string
		times []int64 // of bundles, in seconds after the base
		want  []int64
	}{
		{"usual", []int64{10, 20, 30}, []int64{10, 20, 30}},
		{"the same time for all", []int64{10, 10, 10}, []int64{10, 11, 12}},
		{"going back", []int64{30, 20, 10}, []int64{30, 31, 32}},
		{"catching up", []int64{10, 10, 11, 12, 40}, []int64{10, 11, 12, 13, 40}},
		{"older than the base", []int64{-100, -90, 5}, []int64{0, 1, 5}},
	} {
		r := newRig(t, Limits{})
		ids := map[string]bool{}
		for i, at := range c.times {
			html := string(rune('a' + i))
			r.source.bake("notepat", html, made.Add(time.Duration(at)*time.Second+500*time.Millisecond))
			s := r.current("notepat")
			wantBundle(t, s, html)
			if want := made.Add(time.Duration(c.want[i]) * time.Second); !s.Time().Equal(want) || s.Time().Location() != time.UTC {
				t.Errorf("%s: snapshot %d is of %s, want %s", c.what, i, s.Time(), want)
			}
			ids[s.ID()] = true
		}
		if len(ids) != len(c.times) {
			t.Errorf("%s: %d ids of %d bundles", c.what, len(ids), len(c.times))
		}
	}
}

func TestTheSameBundleKeepsItsSnapshot(t *testing.T) {
	r := newRig(t, Limits{})
	first := r.baked("notepat", "<p>1</p>")
	r.clock.add(time.Hour)
	if again := r.baked("notepat", "<p>1</p>"); again != first || r.source.count() != 2 {
		t.Errorf("snapshot %s after %d fetches, want %s after 2", again.ID(), r.source.count(), first.ID())
	}
	r.restart()
	if again := r.current("notepat"); again.ID() != first.ID() || r.source.count() != 2 {
		t.Error("the bundle's new time was forgotten, and it is fetched again")
	}
}

func TestABundleThatComesBackIsANewSnapshot(t *testing.T) {
	r := newRig(t, Limits{})
	var all []*Snapshot
	for i, html := range []string{"<p>A</p>", "<p>B</p>", "<p>A</p>"} {
		r.source.bake("notepat", html, epoch.Add(time.Duration(-i)*time.Minute))
		all = append(all, r.current("notepat"))
	}
	r.wantIDs(all...)
	if !all[1].Time().After(all[0].Time()) || !all[2].Time().After(all[1].Time()) {
		t.Errorf("times are %s, %s, %s", all[0].Time(), all[1].Time(), all[2].Time())
	}
	if all[0].SHA256() == all[2].SHA256() {
		t.Error("two snapshots of two times have the same bytes, so their piece.json lies")
	}
	r.wantStored(2)
	wantOpen(t, all[0], "<p>A</p>")
	wantOpen(t, all[1], "<p>B</p>")
	if s := r.current("notepat"); s != all[2] {
		t.Error("the newest is not current")
	}
}

// what lists the records of a catalog.
func what(c *Catalog) (all []record) {
	for _, id := range c.IDs() {
		s := c.shown.find(id)
		r := s.record
		r.SourceTime, r.Made = time.Time{}, time.Time{} // of this node
		all = append(all, r)
	}
	return all
}

func TestARestartChangesNothing(t *testing.T) {
	r := newRig(t, Limits{})
	for _, html := range []string{"<p>A</p>", "<p>B</p>", "<p>A</p>"} {
		r.source.bake("notepat", html, epoch)
		r.current("notepat")
	}
	newest := r.baked("@jeffrey/tone", "<p>C</p>")
	before := what(r.Catalog)
	r.restart()
	if after := what(r.Catalog); len(after) != 4 || !slices.Equal(after, before) {
		t.Errorf("before:\n%+v\nafter:\n%+v", before, after)
	}
	fetches := r.source.count()
	if s := r.current("@jeffrey/tone"); s.ID() != newest.ID() || r.source.count() != fetches {
		t.Error("after a restart the piece is fetched again")
	}
	for _, s := range r.shown.byPiece[name("notepat")] {
		wantOpen(t, s, "<p>")
	}
}

func TestNodesAgree(t *testing.T) {
	one, two := newRig(t, Limits{}), newRig(t, Limits{})
	two.clock.add(12345 * time.Second) // it starts later
	for i, html := range []string{"<p>A</p>", "<p>B</p>"} {
		for _, node := range []*rig{one, two} {
			node.source.bake("notepat", html, epoch.Add(time.Duration(i)*time.Minute))
			node.current("notepat")
		}
	}
	if a, b := what(one.Catalog), what(two.Catalog); len(a) != 2 || !slices.Equal(a, b) {
		t.Errorf("one node:\n%+v\nthe other:\n%+v", a, b)
	}
	// A third node, which never saw the first bundle.
	three := newRig(t, Limits{})
	three.source.bake("notepat", "<p>B</p>", epoch.Add(time.Minute))
	if a, b := one.current("notepat"), three.current("notepat"); a.ID() != b.ID() || a.SHA256() != b.SHA256() || !a.Time().Equal(b.Time()) {
		t.Errorf("snapshot %s, and %s on a node that came later", a.ID(), b.ID())
	}
}

func TestANewBase(t *testing.T) {
	r := newRig(t, Limits{})
	old := r.baked("notepat", "<p>1</p>")
	first := r.config.Base
	r.config.OpenBase = func(sum base.Hash) (image.Base, error) {
		if sum != first.Manifest.SHA256 {
			t.Errorf("base %s is opened", sum)
		}
		return first, nil
	}
	r.config.Base = newBase(2)
	r.restart()
	kept, err := r.ByID(old.ID())
	if err != nil {
		t.Fatal(err)
	}
	wantOpen(t, kept, "<p>1</p>")
	s := r.current("notepat")
	if s.Base() != r.config.Base.Manifest || s.ID() == old.ID() || !s.Time().After(old.Time()) {
		t.Errorf("snapshot %s of %s on base %s, not on the new one", s.ID(), s.Time(), s.Base().Version)
	}
	wantOpen(t, s, "<p>1</p>")
	r.wantIDs(old, s)
	r.wantStored(1)
	// And back again, as an operator does when the new base does not boot.
	second := r.config.Base
	r.config.Base, r.config.OpenBase = first, func(base.Hash) (image.Base, error) { return second, nil }
	r.restart()
	if back := r.current("notepat"); back.ID() == old.ID() || !back.Time().After(s.Time()) || back.Base() != first.Manifest {
		t.Errorf("back on the first base it is snapshot %s of %s", back.ID(), back.Time())
	}
}

func TestABaseThatIsLost(t *testing.T) {
	r := newRig(t, Limits{})
	old := r.baked("notepat", "<p>1</p>")
	first := r.config.Base
	r.config.Base = newBase(2)
	failure := fault.Unavailable
	r.config.OpenBase = func(base.Hash) (image.Base, error) { return first, failure }
	r.restart()
	r.wantIDs()
	r.wantStored(1) // the bundle stays until the base is there again
	failure = nil
	r.restart()
	r.wantIDs(old)
	failure = fault.NotFound
	r.restart()
	r.wantIDs()
	r.wantStored(0)
	if s := r.current("notepat"); !s.Time().After(old.Time()) {
		t.Errorf("the new snapshot is of %s, that on the lost base was of %s", s.Time(), old.Time())
	}
}

// Other bytes never get the same time, even if only a client has some of the
// piece: its ETag would be that of the new snapshot.
func TestTheTimeOfAForgottenSnapshotIsNotGivenAgain(t *testing.T) {
	r := newRig(t, Limits{Bytes: 10})
	r.source.bake("notepat", "<p>old</p>", epoch)
	old := r.current("notepat")
	forget := func() {
		r.t.Helper()
		r.clock.add(time.Minute)
		r.baked("other", "<p>"+r.clock.Now().String())
		if _, err := r.ByID(r.shownOr("notepat", old).ID()); err == nil {
			r.t.Fatal("the snapshot is still retained")
		}
	}
	forget()
	r.restart()
	if again := r.current("notepat"); again.ID() != old.ID() || !again.Time().Equal(old.Time()) || again.SHA256() != old.SHA256() {
		t.Errorf("the same bundle is snapshot %s of %s, it was %s of %s", again.ID(), again.Time(), old.ID(), old.Time())
	}
	forget()
	r.source.bake("notepat", "<p>new</p>", epoch)
	if s := r.current("notepat"); !s.Time().After(old.Time()) {
		t.Errorf("another bundle has the time of the forgotten one, %s", s.Time())
	}
}

// shownOr returns the piece's newest snapshot, or else the given one.
func (r *rig) shownOr(piece string, or *Snapshot) *Snapshot {
	if s, _ := r.shown.newest(name(piece)); s != nil {
		return s
	}
	return or
}

package catalog

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"aesthetic.computer/isofs/fault"
)

// series bakes n bundles of 100 bytes of a piece, a minute apart.
func (r *rig) series(piece string, n int) []*Snapshot {
	r.t.Helper()
	var all []*Snapshot
	for range n {
		all = append(all, r.baked(piece, fmt.Sprintf("<p>%-97s", piece+r.clock.Now().Format(time.TimeOnly))))
		r.clock.add(time.Minute)
	}
	return all
}

func TestASupersededSnapshotIsKeptForATime(t *testing.T) {
	r := newRig(t, Limits{Retain: time.Hour})
	all := r.series("notepat", 2) // superseded a minute ago
	r.clock.add(59 * time.Minute)
	if n := r.Prune(); n != 0 {
		t.Errorf("%d forgotten after exactly an hour", n)
	}
	r.wantIDs(all...)
	r.clock.add(1)
	if n := r.Prune(); n != 1 {
		t.Errorf("%d forgotten after more than an hour", n)
	}
	r.wantIDs(all[1])
	r.wantStored(1)
	r.clock.add(1000 * time.Hour)
	if n := r.Prune(); n != 0 {
		t.Errorf("the current snapshot was forgotten for its age")
	}
}

func TestSoManySupersededSnapshotsOfAPiece(t *testing.T) {
	r := newRig(t, Limits{Superseded: 3})
	notepat, tone := r.series("notepat", 6), r.series("tone", 2)
	r.Prune()
	r.wantIDs(append(notepat[2:], tone...)...)
}

func TestSoManySnapshotsInAll(t *testing.T) {
	r := newRig(t, Limits{Snapshots: 3})
	a, b, c := r.series("a", 2), r.series("b", 2), r.series("c", 1)
	r.Prune()
	r.wantIDs(a[1], b[1], c[0])
}

func TestBytesAreBounded(t *testing.T) {
	r := newRig(t, Limits{Bytes: 400})
	a, b := r.series("a", 2), r.series("b", 2)
	r.wantIDs(a[0], a[1], b[0], b[1]) // exactly 400
	// First the superseded snapshots, the longest superseded before the others
	// ...
	c := r.series("c", 1)
	r.wantIDs(a[1], b[0], b[1], c[0])
	d := r.series("d", 1)
	r.wantIDs(a[1], b[1], c[0], d[0])
	// ... then the pieces without a request for the longest time.
	r.current("a")
	r.clock.add(time.Minute)
	e := r.series("e", 1)
	r.wantIDs(a[1], c[0], d[0], e[0])
	r.wantStored(4)
}

func TestABundleOfSeveralSnapshotsCountsOnce(t *testing.T) {
	r := newRig(t, Limits{Bytes: 100})
	html := strings.Repeat("x", 100)
	var all []*Snapshot
	for _, piece := range []string{"a", "b", "c"} {
		all = append(all, r.baked(piece, html))
		r.clock.add(time.Minute)
	}
	r.Prune()
	r.wantIDs(all...)
	r.wantStored(1)
	r.series("d", 1)
	r.wantIDs(r.current("d"))
}

func TestTheOnlySnapshotIsKeptHoweverLarge(t *testing.T) {
	r := newRig(t, Limits{Bytes: 1})
	only := r.series("a", 1)
	r.clock.add(time.Hour)
	r.Prune()
	r.wantIDs(only...)
}

// No client has a snapshot open between the answer that names it and the open.
func TestWhatWasJustAskedForIsKept(t *testing.T) {
	r := newRig(t, Limits{Bytes: 1})
	a, b := r.baked("a", "<p>a</p>"), r.baked("b", "<p>b</p>")
	r.wantIDs(a, b)
	r.clock.add(justUsed)
	r.Prune()
	if got := r.IDs(); len(got) != 1 {
		t.Errorf("retained are %v, want one", got)
	}
}

func TestAMissingPieceIsForgottenInTheEnd(t *testing.T) {
	r := newRig(t, Limits{Retain: time.Hour})
	old := r.series("notepat", 1)
	r.source.set(func() { delete(r.source.has, "notepat") })
	if _, err := r.Current(t.Context(), name("notepat")); !errors.Is(err, fault.NotFound) {
		t.Fatal(err)
	}
	r.clock.add(time.Hour)
	r.Prune()
	r.wantIDs(old...)
	r.clock.add(1)
	r.Prune()
	r.wantIDs()
	r.wantStored(0)
}

// A download keeps its bytes until it is closed, whatever happens to the piece.
func TestAnOpenImageKeepsItsBytes(t *testing.T) {
	r := newRig(t, Limits{Retain: time.Hour, Superseded: 1})
	old := r.baked("notepat", "<p>old</p>")
	h, err := old.Open()
	if err != nil {
		t.Fatal(err)
	}
	r.clock.add(time.Minute)
	newer := r.series("notepat", 3)
	r.clock.add(2 * time.Hour)
	r.Prune()
	r.wantIDs(old, newer[2]) // it is open, so it is kept
	wantImage(t, h, old, "<p>old</p>")
	if again, err := r.ByID(old.ID()); err != nil || again != old {
		t.Errorf("the open snapshot cannot be found by its id: %v", err)
	}
	// Even if it is forgotten and its bundle removed.
	r.drop(old, byOperator)
	r.Prune()
	r.wantStored(1)
	wantImage(t, h, old, "<p>old</p>")
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	wantImage(t, h, old, "<p>old</p>")
	if err := h.Close(); err != nil {
		t.Error(err)
	}
	if err := h.Close(); err != nil {
		t.Error(err)
	}
	if _, err := h.img.file.Stat(); err == nil {
		t.Error("the last to close left the file of the forgotten bundle open")
	}
}

func TestTheShelfIsBounded(t *testing.T) {
	r := newRig(t, Limits{Open: 2})
	var images []*openSnapshot
	for _, s := range r.series("notepat", 4) {
		h, err := s.Open()
		if err != nil {
			t.Fatal(err)
		}
		images = append(images, h.img)
		h.Close()
	}
	for i, img := range images {
		if _, err := img.file.Stat(); (err == nil) != (i >= 2) {
			t.Errorf("image %d: %v; the last two should be open, and no others", i, err)
		}
	}
	again, err := r.current("notepat").Open()
	if err != nil || again.img != images[3] {
		t.Errorf("an image on the shelf was opened again (%v)", err)
	}
	r.restart()
	if _, err := images[2].file.Stat(); err == nil {
		t.Error("Close leaves a file open")
	}
	again.Close()
	if _, err := images[3].file.Stat(); err == nil {
		t.Error("the last handle leaves a file open")
	}
}

// A *Snapshot that is forgotten gives an error or the right bytes. It does no
// harm to a new snapshot with its id.
func TestAForgottenSnapshotDoesNoHarm(t *testing.T) {
	r := newRig(t, Limits{})
	stale := r.baked("notepat", "<p>1</p>")
	r.drop(stale, byOperator)
	r.Prune()
	if _, err := stale.Open(); !errors.Is(err, fault.NotFound) {
		t.Errorf("open a forgotten snapshot: %v", err)
	}
	fresh := r.current("notepat")
	if fresh == stale || fresh.ID() != stale.ID() {
		t.Fatalf("made again it is %s, not another object of %s", fresh.ID(), stale.ID())
	}
	if r.drop(stale, byOperator) {
		t.Error("what was forgotten is forgotten again")
	}
	r.wantIDs(fresh)
	if _, err := os.Stat(r.disk.records.path(fresh.ID())); err != nil {
		t.Error(err)
	}
	wantOpen(t, stale, "<p>1</p>")
}

// sweep leaves a new bundle without a record: A stores X, B forgets some
// snapshot and sweeps, A makes the snapshot of X.
func TestABundleIsNotSweptBeforeItsRecord(t *testing.T) {
	r := newRig(t, Limits{})
	r.stop()
	sweeps := 0
	r.config.Now = func() time.Time {
		// make reads the clock after the bundle was stored.
		if r.Catalog != nil {
			sweeps++
			if err := r.disk.sweep(r.shown.bundles); err != nil {
				t.Error(err)
			}
		}
		return epoch
	}
	r.Catalog = nil
	r.open()
	wantOpen(t, r.baked("notepat", "<p>1</p>"), "<p>1</p>")
	if sweeps < 2 {
		t.Errorf("%d sweeps, so none came between", sweeps)
	}
	r.wantStored(1)
}

// TestANetworkWithManyPiecesPushesOutItsOwn: an interrupted download can be
// resumed, however many pieces others have made in the meantime, and whether or
// not they begin to download them.
func TestANetworkWithManyPiecesPushesOutItsOwn(t *testing.T) {
	for name, c := range map[string]struct {
		downloads bool
		from      func(i int) string
		lost      string
	}{
		"unread":                          {false, func(i int) string { return fmt.Sprintf("203.0.%d.1", i) }, "no_room_unread"},
		"read by one network, IPv4":       {true, func(i int) string { return fmt.Sprintf("203.0.113.%d", i) }, "no_room"},
		"read by one network, IPv6":       {true, func(i int) string { return fmt.Sprintf("2001:db8:1:2:%x::1", i) }, "no_room"},
		"read by as many as there's room": {true, func(i int) string { return fmt.Sprintf("203.0.%d.1", i%3) }, "no_room"},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, Limits{Bytes: 1000})
			victim := r.series("victim", 1)[0]
			victim.Begun(Client{Address: "192.0.2.1"})
			shared := r.series("shared", 1)[0]
			for i := range 5 {
				shared.Begun(Client{Address: fmt.Sprintf("198.51.%d.1", i)})
			}
			r.restart() // the remembered clients show which snapshots were read
			victim, shared = r.current("victim"), r.current("shared")
			victim.Begun(Client{Address: "192.0.2.1"})
			for i := range 5 {
				shared.Begun(Client{Address: fmt.Sprintf("198.51.%d.1", i)})
			}
			r.clock.add(time.Minute)
			for i := range 40 {
				s := r.series(fmt.Sprint("x", i), 1)[0]
				if c.downloads {
					s.Begun(Client{Address: c.from(i)})
				}
			}
			if s, err := r.ByID(victim.ID()); err != nil || s != victim {
				t.Errorf("what was downloaded is gone: %v", err)
			}
			if _, err := r.ByID(shared.ID()); err != nil {
				t.Errorf("what many downloaded is gone: %v", err)
			}
			if n := len(r.IDs()); n != 10 {
				t.Errorf("%d are kept, there is room for 10", n)
			}
			if got := r.Stats().Forgotten; got[c.lost] < 30 {
				t.Errorf("forgotten: %v, want some 32 by %s", got, c.lost)
			}
		})
	}
}

// TestDownloadsAreKnownAfterARestart: the downloads, but not their networks.
func TestDownloadsAreKnownAfterARestart(t *testing.T) {
	r := newRig(t, Limits{Bytes: 1000})
	victim := r.series("victim", 1)[0]
	if _, err := r.Begin(t.Context(), Client{Address: "192.0.2.1"}, name("victim")); err != nil {
		t.Fatal(err)
	}
	r.restart()
	for i := range 20 {
		r.series(fmt.Sprint("x", i), 1)
	}
	if _, err := r.ByID(victim.ID()); err != nil {
		t.Errorf("what was downloaded is gone: %v", err)
	}
}

func TestNetworkOf(t *testing.T) {
	for address, want := range map[string]string{
		"192.0.2.77": "192.0.2.0/24", "::ffff:192.0.2.1": "192.0.2.0/24", "2001:db8:1:2:3::4": "2001:db8:1:2::/64", "fe80::1%eth0": "fe80::/64", "": "", "unix:": "unix:",
	} {
		if got := networkOf(address); got != want {
			t.Errorf("%s is of %s, want %s", address, got, want)
		}
	}
}

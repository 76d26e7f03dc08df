package catalog

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"aesthetic.computer/isofs/fault"
	"aesthetic.computer/isofs/piece"
)

// watched is what a watcher saw.
type watched struct {
	Build
	stages []Stage
	err    error
}

func (r *rig) watch(ctx context.Context, piece string) (w watched) {
	w.Build, w.err = r.Watch(ctx, name(piece), func(s Stage) { w.stages = append(w.stages, s) })
	return w
}

func TestAWatcherSeesTheStages(t *testing.T) {
	r := newRig(t, Limits{})
	r.source.bake("notepat", "<p>1</p>", epoch)
	made := r.watch(t.Context(), "notepat")
	if made.err != nil || made.Unchanged || !slices.Equal(made.stages, []Stage{StageBundle, StageVolume, StageDigest}) {
		t.Errorf("a new piece: %+v", made)
	}
	if again := r.watch(t.Context(), "notepat"); again.Snapshot != made.Snapshot || !again.Unchanged || len(again.stages) > 0 || !again.Ended.IsZero() {
		t.Errorf("a known one: %+v", again)
	}
	// Baked again with the same bytes: it is fetched, and nothing is made.
	r.source.bake("notepat", "<p>1</p>", epoch.Add(time.Minute))
	if same := r.watch(t.Context(), "notepat"); same.Snapshot != made.Snapshot || !same.Unchanged || !slices.Equal(same.stages, []Stage{StageBundle}) {
		t.Errorf("the same bundle again: %+v", same)
	}
	if none := r.watch(t.Context(), "none"); !errors.Is(none.err, fault.NotFound) || none.Snapshot != nil || slices.ContainsFunc(none.stages, func(s Stage) bool { return s != StageBundle }) {
		t.Errorf("an unknown one: %+v", none)
	}
	got := r.Builds()
	if len(got) != 2 || !got[0].Unchanged || got[1] != made.Build {
		t.Errorf("builds: %+v", got)
	}
}

// A client that comes while the bundle is fetched sees that stage. A client
// that leaves takes nothing from the others.
func TestLateWatchersJoin(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, Limits{})
		r.source.bake("notepat", "<p>1</p>", epoch)
		r.source.gate, r.source.started = make(chan struct{}), make(chan string, 100)
		results := make([]watched, 20)
		var all sync.WaitGroup
		watch := func(i int, ctx context.Context) { all.Go(func() { results[i] = r.watch(ctx, "notepat") }) }
		ctx, leave := context.WithCancel(t.Context())
		watch(0, ctx)
		<-r.source.started
		r.clock.add(3 * time.Second)
		for i := range results[1:] {
			watch(i+1, t.Context())
		}
		synctest.Wait()
		if running, most := r.Building(); running != 1 || most != DefaultLimits().Builds {
			t.Errorf("%d of %d builds", running, most)
		}
		leave()
		synctest.Wait()
		r.clock.add(4 * time.Second)
		close(r.source.gate)
		all.Wait()
		if results[0].err == nil || !slices.Equal(results[0].stages, []Stage{StageBundle}) {
			t.Errorf("a watcher that left: %+v", results[0])
		}
		for _, w := range results[1:] {
			if w.err != nil || w.Build != results[1].Build || w.Timings.Bundle != 7*time.Second || !slices.Equal(w.stages, []Stage{StageBundle, StageVolume, StageDigest}) {
				t.Fatalf("a late one: %+v", w)
			}
		}
		if r.source.count() != 1 {
			t.Errorf("%d fetches", r.source.count())
		}
		if running, _ := r.Building(); running != 0 {
			t.Errorf("%d builds at the end", running)
		}
		r.Close()
	})
}

func TestBuildsAreBounded(t *testing.T) {
	r := newRig(t, Limits{})
	for i := range buildsKept + 3 {
		r.baked(fmt.Sprint("piece", i), "<p>1</p>")
	}
	got := r.Builds()
	if len(got) != buildsKept || got[0].Snapshot.Piece() != name(fmt.Sprint("piece", buildsKept+2)) {
		t.Errorf("%d builds, the last of %s", len(got), got[0].Snapshot.Piece())
	}
}

// Packs makes the bakery an oven, except for the piece "embedded".
func (b *bakery) Packs(n piece.Name) bool { return n.String() != "embedded" }

// A piece at two densities is two snapshots with separate histories, even if
// their bundles are equal, and after a restart.
func TestDensities(t *testing.T) {
	r := newRig(t, Limits{})
	r.config.Density = 8
	r.restart()
	plain := r.baked("notepat", "<p>1</p>")
	if got := r.NameAt(name("notepat"), 8); got != name("notepat") {
		t.Errorf("the default is %v", got)
	}
	if got := r.NameAt(name("embedded"), 4); got != name("embedded") {
		t.Errorf("what is not packed is %v", got)
	}
	at4 := r.NameAt(name("notepat"), 4)
	four, err := r.Current(t.Context(), at4)
	if err != nil || four.ID() == plain.ID() || four.SHA256() == plain.SHA256() || four.Piece() != at4 || four.FileName() != "notepat-os.iso" {
		t.Fatalf("%+v, %v", four, err)
	}
	wantOpen(t, four, "<p>1</p>")
	if got := r.current("notepat"); got != plain {
		t.Error("the plain name means another snapshot now")
	}
	if got := r.Pieces(t.Context()); !slices.Equal(got, []piece.Name{name("notepat")}) {
		t.Errorf("pieces are %v", got)
	}
	if got, err := r.At(name("notepat"), four.Time()); got != plain {
		t.Errorf("by its time: %v, %v", got, err)
	}
	r.restart()
	for want, n := range map[*Snapshot]piece.Name{plain: name("notepat"), four: at4} {
		if got, err := r.Current(t.Context(), n); err != nil || got.ID() != want.ID() || got.SHA256() != want.SHA256() {
			t.Errorf("after a restart: %v, %v", got, err)
		}
	}
	if r.source.count() != 2 {
		t.Errorf("%d fetches", r.source.count())
	}
	// A client that downloads both can continue either.
	who := Client{Address: "192.0.2.1", Agent: "wget"}
	for _, n := range []piece.Name{name("notepat"), at4} {
		if _, err := r.Begin(t.Context(), who, n); err != nil {
			t.Fatal(err)
		}
	}
	for _, n := range []piece.Name{name("notepat"), at4} {
		if got, err := r.Resume(t.Context(), who, n, slotStart+1); err != nil || got.Piece() != n {
			t.Errorf("a resume of %v at %d: %v, %v", n, n.Density(), got, err)
		}
	}
}

// Two densities of a piece are fetched separately, also at the same time.
func TestDensitiesAtOnce(t *testing.T) {
	r := newRig(t, Limits{})
	r.source.bake("notepat", "<p>1</p>", epoch)
	r.source.gate, r.source.started = make(chan struct{}), make(chan string, 100)
	names := []piece.Name{name("notepat"), name("notepat").WithDensity(4)}
	got := make([]*Snapshot, len(names))
	var all sync.WaitGroup
	for i, n := range names {
		all.Go(func() {
			var err error
			if got[i], err = r.Current(t.Context(), n); err != nil {
				t.Error(err)
			}
		})
	}
	for range names {
		select {
		case <-r.source.started:
		case <-t.Context().Done():
		}
	}
	close(r.source.gate)
	all.Wait()
	for i, s := range got {
		if s == nil || s.Piece() != names[i] {
			t.Errorf("for density %d there is %v", names[i].Density(), s)
		}
	}
}

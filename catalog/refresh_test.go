package catalog

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"aesthetic.computer/isofs/bundle"
	"aesthetic.computer/isofs/fault"
	"aesthetic.computer/isofs/piece"
)

func TestTheFirstRequestFetchesAndTheNextDoNot(t *testing.T) {
	r := newRig(t, Limits{})
	r.source.bake("notepat", "<p>1</p>", epoch)
	first, err := r.CurrentFile(t.Context(), "notepat-os.iso")
	if err != nil {
		t.Fatal(err)
	}
	if second := r.current("notepat"); second != first || r.source.count() != 1 {
		t.Errorf("%d fetches for two requests", r.source.count())
	}
	wantOpen(t, first, "<p>1</p>")
	if got, err := r.ByID(first.ID()); got != first || err != nil {
		t.Errorf("by its id there is %v (%v)", got, err)
	}
	if got := r.Pieces(t.Context()); !slices.Equal(got, []piece.Name{name("notepat")}) {
		t.Errorf("pieces are %v", got)
	}
	if side, err := first.Sidecar("sha256"); err != nil || string(side) != first.SHA256().String()+"  notepat-os.iso\n" {
		t.Errorf("the sidecar is %q (%v)", side, err)
	}
	if _, err := first.Sidecar("asc"); !errors.Is(err, fault.NotFound) {
		t.Errorf("a sidecar that it has not: %v", err)
	}
}

func TestCallersShareOneFetch(t *testing.T) {
	r := newRig(t, Limits{})
	r.source.bake("notepat", "<p>1</p>", epoch)
	r.source.gate, r.source.started = make(chan struct{}), make(chan string, 100)
	var callers sync.WaitGroup
	ids := make([]string, 50)
	for i := range ids {
		callers.Go(func() {
			if s, err := r.Current(t.Context(), name("notepat")); err == nil {
				ids[i] = s.ID()
			}
		})
	}
	<-r.source.started
	close(r.source.gate)
	callers.Wait()
	if got := slices.Compact(ids); len(got) != 1 || got[0] == "" || r.source.count() != 1 {
		t.Errorf("50 callers got %d answers of %d fetches: %q", len(got), r.source.count(), got)
	}
}

func TestACallerLeavesAndTheFetchGoesOn(t *testing.T) {
	r := newRig(t, Limits{})
	r.source.bake("notepat", "<p>1</p>", epoch)
	r.source.gate, r.source.started = make(chan struct{}), make(chan string, 100)
	ctx, leave := context.WithCancelCause(t.Context())
	impatient := errors.New("impatient")
	left := make(chan error)
	go func() {
		_, err := r.Current(ctx, name("notepat"))
		left <- err
	}()
	<-r.source.started
	leave(impatient)
	if err := <-left; !errors.Is(err, fault.Unavailable) || !errors.Is(err, impatient) {
		t.Errorf("a caller that leaves gets %v", err)
	}
	close(r.source.gate)
	if r.current("notepat"); r.source.count() != 1 {
		t.Errorf("%d fetches: the caller ended its fetch when it left", r.source.count())
	}
}

func TestAnUnknownPieceIsRememberedBriefly(t *testing.T) {
	r := newRig(t, Limits{MissingTime: 10 * time.Second})
	for range 3 {
		if _, err := r.Current(t.Context(), name("nobody")); !errors.Is(err, fault.NotFound) {
			t.Fatal(err)
		}
	}
	if r.source.count() != 1 {
		t.Errorf("%d fetches for three requests", r.source.count())
	}
	r.source.bake("nobody", "<p>somebody</p>", epoch)
	r.clock.add(10*time.Second - 1)
	if _, err := r.Current(t.Context(), name("nobody")); !errors.Is(err, fault.NotFound) {
		t.Errorf("a moment before: %v", err)
	}
	r.clock.add(1)
	r.current("nobody")
}

func TestAPieceThatIsKnownSurvivesItsSource(t *testing.T) {
	r := newRig(t, Limits{RetryAfter: 30 * time.Second})
	old := r.baked("notepat", "<p>1</p>")
	r.source.set(func() { r.source.err = fmt.Errorf("the oven burns: %w", fault.Unavailable) })
	for range 3 {
		if s := r.current("notepat"); s != old {
			t.Error("another snapshot")
		}
	}
	if r.source.count() != 2 {
		t.Errorf("%d fetches: the pause is not kept", r.source.count())
	}
	_, err := r.Current(t.Context(), name("other"))
	paused, ok := errors.AsType[*PausedError](err)
	if !ok || paused.After != 30*time.Second || !errors.Is(err, fault.Unavailable) {
		t.Errorf("a piece that is not known: %v", err)
	}
	r.clock.add(20 * time.Second)
	_, err = r.Current(t.Context(), name("other"))
	if paused, ok := errors.AsType[*PausedError](err); !ok || paused.After != 10*time.Second || r.source.count() != 3 {
		t.Errorf("20 seconds later, after %d fetches: %v", r.source.count(), err)
	}
	r.source.set(func() { r.source.err = nil })
	r.source.bake("notepat", "<p>2</p>", r.clock.Now())
	r.clock.add(10 * time.Second)
	wantBundle(t, r.current("notepat"), "<p>2</p>")
}

func TestABusyOvenIsLeftAloneForAsLongAsItAsks(t *testing.T) {
	r := newRig(t, Limits{RetryAfter: 30 * time.Second})
	r.source.err = &bundle.BusyError{After: 5 * time.Minute}
	_, err := r.Current(t.Context(), name("notepat"))
	if paused, ok := errors.AsType[*PausedError](err); !ok || paused.After != 5*time.Minute {
		t.Errorf("got %v", err)
	}
	r.clock.add(5*time.Minute - time.Second)
	_, err = r.Current(t.Context(), name("notepat"))
	if busy, ok := errors.AsType[*bundle.BusyError](err); !ok || busy.After != 5*time.Minute || r.source.count() != 1 {
		t.Errorf("after %d fetches: %v", r.source.count(), err)
	}
	r.clock.add(time.Second)
	if _, err = r.Current(t.Context(), name("notepat")); r.source.count() != 2 {
		t.Errorf("after %d fetches: %v", r.source.count(), err)
	}
}

func TestATooLargeBundleIsRemembered(t *testing.T) {
	r := newRig(t, Limits{})
	r.source.err = &bundle.TooLargeError{Name: name("huge"), Limit: 1}
	for range 2 {
		_, err := r.Current(t.Context(), name("huge"))
		if _, ok := errors.AsType[*bundle.TooLargeError](err); !ok || !errors.Is(err, fault.Invalid) {
			t.Errorf("got %v", err)
		}
	}
	if r.source.count() != 1 {
		t.Errorf("%d fetches", r.source.count())
	}
}

func TestHowLongAKnownPieceIsWaitedFor(t *testing.T) {
	for _, c := range []struct {
		wait time.Duration
		want string
	}{{time.Nanosecond, "<p>old</p>"}, {time.Hour, "<p>new</p>"}} {
		r := newRig(t, Limits{RefreshWait: c.wait})
		r.source.bake("notepat", "<p>old</p>", epoch)
		r.current("notepat")
		gate := make(chan struct{})
		r.source.set(func() { r.source.gate, r.source.started = gate, make(chan string, 100) })
		r.source.bake("notepat", "<p>new</p>", epoch.Add(time.Second))
		if c.wait == time.Hour {
			go func() {
				<-r.source.started
				close(gate)
			}()
		}
		wantBundle(t, r.current("notepat"), c.want)
		if c.wait != time.Hour {
			close(gate)
			// The build continues, and a later caller finds its snapshot.
			for r.current("notepat").Time().Equal(epoch) {
			}
			if r.source.count() != 2 {
				t.Errorf("%d fetches, want 2", r.source.count())
			}
		}
	}
}

// A caller that does not want to wait at all gets the present snapshot.
func TestAKnownPieceNeedsNoPatience(t *testing.T) {
	r := newRig(t, Limits{})
	old := r.baked("notepat", "<p>old</p>")
	r.source.set(func() { r.source.gate = make(chan struct{}) })
	r.source.bake("notepat", "<p>new</p>", epoch.Add(time.Second))
	ctx, leave := context.WithCancel(t.Context())
	leave()
	if s, err := r.Current(ctx, name("notepat")); s != old || err != nil {
		t.Errorf("got %v (%v)", s, err)
	}
}

func TestAPieceGoesAndComesBack(t *testing.T) {
	r := newRig(t, Limits{})
	old := r.baked("notepat", "<p>1</p>")
	r.source.set(func() { delete(r.source.has, "notepat") })
	if _, err := r.Current(t.Context(), name("notepat")); !errors.Is(err, fault.NotFound) {
		t.Errorf("when its source no longer has it: %v", err)
	}
	if got := r.Pieces(t.Context()); len(got) != 0 {
		t.Errorf("the gone piece is listed: %v", got)
	}
	wantOpen(t, old, "<p>1</p>") // for the clients that download it
	r.wantIDs(old)
	r.clock.add(time.Minute)
	r.source.bake("notepat", "<p>1</p>", r.clock.Now())
	if s := r.current("notepat"); s != old {
		t.Errorf("the same bundle came back as snapshot %s, not %s", s.ID(), old.ID())
	}
	if got := r.Pieces(t.Context()); len(got) != 1 {
		t.Errorf("the piece that came back is not listed: %v", got)
	}
	before := r.source.count()
	if r.current("notepat"); r.source.count() != before {
		t.Error("it is fetched again, though it has not changed")
	}
}

func TestRefreshFetchesWhateverIsKnown(t *testing.T) {
	r := newRig(t, Limits{})
	old := r.baked("notepat", "<p>1</p>")
	if s, err := r.Refresh(t.Context(), name("notepat")); s != old || err != nil || r.source.count() != 2 {
		t.Errorf("got %v (%v) after %d fetches", s, err, r.source.count())
	}
	if _, err := r.Refresh(t.Context(), name("nobody")); !errors.Is(err, fault.NotFound) {
		t.Error(err)
	}
	r.source.bake("nobody", "<p>2</p>", epoch)
	if _, err := r.Refresh(t.Context(), name("nobody")); err != nil {
		t.Errorf("once it is there: %v", err)
	}
}

func TestAFullHouseSaysSo(t *testing.T) {
	r := newRig(t, Limits{Builds: 1})
	old := r.baked("known", "<p>old</p>")
	r.source.bake("one", "<p>1</p>", epoch)
	r.source.bake("two", "<p>2</p>", epoch)
	gate := make(chan struct{})
	r.source.set(func() { r.source.gate, r.source.started = gate, make(chan string, 10) })
	one := make(chan error)
	go func() {
		_, err := r.Current(t.Context(), name("one"))
		one <- err
	}()
	<-r.source.started
	_, err := r.Current(t.Context(), name("two"))
	if busy, ok := errors.AsType[*BusyError](err); !ok || busy.RetryAfter <= 0 || !errors.Is(err, fault.Unavailable) {
		t.Errorf("a second piece at once: %v", err)
	}
	r.source.bake("known", "<p>new</p>", epoch)
	if s := r.current("known"); s != old {
		t.Error("a piece that is known does not keep its snapshot in a full house")
	}
	close(gate)
	if err := <-one; err != nil {
		t.Error(err)
	}
	r.current("two") // being busy is not remembered
}

func TestASourceThatBreaksItsContract(t *testing.T) {
	r := newRig(t, Limits{})
	r.source.err = errors.New("of no kind")
	if _, err := r.Current(t.Context(), name("notepat")); !errors.Is(err, fault.Unavailable) {
		t.Errorf("got kind %v: %v", fault.Kind(err), err)
	}
	r.wantStored(0)
}

func TestCloseEndsTheFetchesUnderWay(t *testing.T) {
	r := newRig(t, Limits{})
	r.source.gate, r.source.started = make(chan struct{}), make(chan string, 10)
	got := make(chan error)
	go func() {
		_, err := r.Current(t.Context(), name("notepat"))
		got <- err
	}()
	<-r.source.started
	if err := r.Close(); err != nil {
		t.Error(err)
	}
	if err := <-got; !errors.Is(err, fault.Unavailable) {
		t.Errorf("a caller that waited gets %v", err)
	}
	if _, err := r.Current(t.Context(), name("other")); !errors.Is(err, fault.Unavailable) || r.source.count() != 1 {
		t.Errorf("after Close: %v", err)
	}
}

func TestConfigIsChecked(t *testing.T) {
	good := newRig(t, Limits{}).config
	for what, change := range map[string]func(*Config){
		"no base":         func(c *Config) { c.Base.Manifest = nil },
		"no bytes":        func(c *Config) { c.Base.Bytes = nil },
		"no source":       func(c *Config) { c.Source = nil },
		"negative builds": func(c *Config) { c.Limits.Builds = -1 },
		"negative bytes":  func(c *Config) { c.Limits.Bytes = -1 },
		"negative retain": func(c *Config) { c.Limits.Retain = -1 },
	} {
		c := good
		c.Dir = t.TempDir()
		change(&c)
		if _, err := Open(c); !errors.Is(err, fault.Invalid) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

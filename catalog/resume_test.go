package catalog

import (
	"errors"
	"testing"
	"time"

	"aesthetic.computer/isofs/base"
	"aesthetic.computer/isofs/fault"
	"aesthetic.computer/isofs/image"
)

var (
	wget   = Client{Address: "192.0.2.1", Agent: "Wget/1.21"}
	curl   = Client{Address: "192.0.2.1", Agent: "curl/7.88"}    // behind the same address
	aria   = Client{Address: "192.0.2.1", Agent: "aria2/1.36"}   // a third program there
	abroad = Client{Address: "198.51.100.7", Agent: "Wget/1.21"} // the same program elsewhere
)

const (
	before   = slotStart - 1 // the last byte that all snapshots of a base share
	inside   = slotStart     // the first byte that differs
	furthest = 1 << 62
)

// story is the state before a resume: two snapshots, old and new.
type story struct {
	*rig
	old, new *Snapshot
}

// tell lets clients begin the old snapshot, and others the new one.
func tell(t *testing.T, withOld, withNew []Client) *story {
	r := newRig(t, Limits{})
	begin := func(html string, clients []Client) *Snapshot {
		r.clock.add(time.Minute)
		s := r.baked("notepat", html)
		for _, who := range clients {
			if got, err := r.Begin(t.Context(), who, name("notepat")); got != s || err != nil {
				t.Fatalf("Begin: %v (%v)", got, err)
			}
		}
		return s
	}
	return &story{rig: r, old: begin("<p>old</p>", withOld), new: begin("<p>new</p>", withNew)}
}

func TestWhichImageAResumeGets(t *testing.T) {
	const oldImage, newImage, refused = "old", "new", "refused"
	lose := func(s *story) { s.drop(s.old, byOperator) }
	changeBase := func(s *story) {
		first := s.config.Base
		s.config.Base = newBase(2)
		s.config.OpenBase = func(base.Hash) (image.Base, error) { return first, nil }
		s.restart()
	}
	restart := func(s *story) { s.restart() }
	for _, c := range []struct {
		what             string
		withOld, withNew []Client
		then             func(*story)
		who              Client
		start            int64
		want             string
	}{
		{"a client that began with the old", []Client{wget}, nil, nil, wget, inside, oldImage},
		{"a client that began with the old, near the beginning", []Client{wget}, nil, nil, wget, 1, oldImage},
		{"a client that requests bytes beyond the end", []Client{wget}, nil, nil, wget, furthest, oldImage},
		{"a client that began with the new", nil, []Client{wget}, nil, wget, inside, newImage},
		{"a client that began with the old and then with the new", []Client{wget}, []Client{wget}, nil, wget, inside, newImage},
		{"a client that is remembered over a restart", []Client{wget}, nil, restart, wget, inside, oldImage},
		{"each of two behind an address (1)", []Client{wget}, []Client{curl}, nil, wget, inside, oldImage},
		{"each of two behind an address (2)", []Client{wget}, []Client{curl}, nil, curl, inside, newImage},
		{"another program at an address that began once", []Client{wget}, nil, nil, curl, inside, oldImage},
		{"a third program at an address of two, before the slot", []Client{wget}, []Client{curl}, nil, aria, before, newImage},
		{"a third program at an address of two, in the slot", []Client{wget}, []Client{curl}, nil, aria, inside, refused},
		{"a stranger before the slot", []Client{wget}, nil, nil, abroad, before, newImage},
		{"a stranger in the slot", []Client{wget}, nil, nil, abroad, inside, refused},
		{"one whose snapshot is lost, before the slot", []Client{wget}, nil, lose, wget, before, refused},
		{"one whose snapshot is lost, in the slot", []Client{wget}, nil, lose, wget, inside, refused},
		{"another program where the snapshot is lost", []Client{wget}, nil, lose, curl, before, refused},
		{"another program where one of two is lost", []Client{wget}, []Client{curl}, lose, aria, inside, refused},
		{"a client that began with the new when the old is lost", []Client{wget}, []Client{curl}, lose, curl, inside, newImage},
		{"a client that began on the base before", []Client{wget}, nil, changeBase, wget, inside, oldImage},
		{"a client that began on the base before, near the beginning", []Client{wget}, nil, changeBase, wget, 1, oldImage},
		{"a stranger after a change of base, before the slot", []Client{wget}, nil, changeBase, abroad, 1, refused},
		{"a stranger after a change of base, in the slot", []Client{wget}, nil, changeBase, abroad, inside, refused},
	} {
		s := tell(t, c.withOld, c.withNew)
		if c.then != nil {
			c.then(s)
		}
		got, err := s.Resume(t.Context(), c.who, name("notepat"), c.start)
		stale, isStale := errors.AsType[*StaleError](err)
		switch {
		case isStale && c.want == refused && stale.Piece == name("notepat") && errors.Is(err, fault.NotFound):
		case err == nil && c.want == oldImage && got.ID() == s.old.ID():
		case err == nil && c.want == newImage && got.ID() == s.new.ID():
		default:
			t.Errorf("%s: got %v (%v), want %s", c.what, got, err, c.want)
		}
	}
}

// A stranger that got bytes before the slot has a snapshot from then on: a
// download in several connections requests the slot separately.
func TestAStrangerIsOneOnlyOnce(t *testing.T) {
	s := tell(t, nil, nil)
	first, err := s.Resume(t.Context(), wget, name("notepat"), 1)
	if err != nil {
		t.Fatal(err)
	}
	s.baked("notepat", "<p>newer</p>")
	if second, err := s.Resume(t.Context(), wget, name("notepat"), inside); second != first {
		t.Errorf("the second connection gets %v (%v), the first %v", second, err, first)
	}
}

func TestARequestAtTheStart(t *testing.T) {
	s := tell(t, []Client{wget}, nil)
	if got, err := s.Continue(t.Context(), wget, name("notepat")); got != s.old {
		t.Errorf("a short range for a client that reads the old: %v (%v)", got, err)
	}
	if got, err := s.Continue(t.Context(), abroad, name("notepat")); got != s.new {
		t.Errorf("a short range of a stranger: %v (%v)", got, err)
	}
	if got, err := s.Resume(t.Context(), abroad, name("notepat"), inside); got != s.new {
		t.Errorf("and then the client resumes: %v (%v)", got, err)
	}
	s.drop(s.old, byOperator)
	if got, err := s.Continue(t.Context(), wget, name("notepat")); got != s.new {
		t.Errorf("a short range when the old is lost: %v (%v)", got, err)
	}
	if got, err := s.Resume(t.Context(), wget, name("notepat"), inside); got != s.new {
		t.Errorf("and then the client resumes: %v (%v)", got, err)
	}
}

func TestHEADBeginsOnlyForStrangers(t *testing.T) {
	s := tell(t, []Client{wget}, nil)
	for _, who := range []Client{wget, abroad} {
		if got, err := s.Peek(t.Context(), who, name("notepat")); got != s.new {
			t.Errorf("HEAD: %v (%v), want the current one", got, err)
		}
	}
	if got, err := s.Resume(t.Context(), wget, name("notepat"), inside); got != s.old {
		t.Errorf("HEAD made a client forget what it reads: %v (%v)", got, err)
	}
	if got, err := s.Resume(t.Context(), abroad, name("notepat"), inside); got != s.new {
		t.Errorf("a stranger's HEAD is not remembered: %v (%v)", got, err)
	}
}

func TestAt(t *testing.T) {
	s := tell(t, nil, nil)
	for _, want := range []*Snapshot{s.old, s.new} {
		if got, err := s.At(name("notepat"), want.Time().Local()); got != want {
			t.Errorf("at %s: %v (%v)", want.Time(), got, err)
		}
	}
	if _, err := s.At(name("notepat"), s.old.Time().Add(time.Second)); !errors.Is(err, fault.NotFound) {
		t.Errorf("at a time of none: %v", err)
	}
	if _, err := s.At(name("other"), s.old.Time()); !errors.Is(err, fault.NotFound) {
		t.Errorf("of another piece: %v", err)
	}
}

// Every request for a piece that no source has says so.
func TestAPieceThatNoSourceHas(t *testing.T) {
	r := newRig(t, Limits{})
	ctx, none := t.Context(), name("none")
	for what, ask := range map[string]func() (*Snapshot, error){
		"Begin":    func() (*Snapshot, error) { return r.Begin(ctx, wget, none) },
		"Continue": func() (*Snapshot, error) { return r.Continue(ctx, wget, none) },
		"Peek":     func() (*Snapshot, error) { return r.Peek(ctx, wget, none) },
		"Resume":   func() (*Snapshot, error) { return r.Resume(ctx, wget, none, 5) },
	} {
		if _, err := ask(); !errors.Is(err, fault.NotFound) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// When the source no longer has a piece, the clients that began it can still
// download it.
func TestAResumeOfAPieceThatItsSourceLost(t *testing.T) {
	s := tell(t, []Client{wget}, nil)
	s.source.set(func() { delete(s.source.has, "notepat") })
	if _, err := s.Begin(t.Context(), curl, name("notepat")); !errors.Is(err, fault.NotFound) {
		t.Errorf("begin: %v", err)
	}
	if got, err := s.Resume(t.Context(), wget, name("notepat"), inside); got != s.old {
		t.Errorf("resume: %v (%v)", got, err)
	}
}

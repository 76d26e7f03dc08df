package origin

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"aesthetic.computer/isofs/fault"
)

// The next mirror continues where the one before stopped, and bytes that were
// reported are not written to again.
func TestNextMirrorGoesOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b, c := &fake{name: "a", does: breaks(1000, errOff)}, &fake{name: "b", does: breaks(500, errOff)}, &fake{name: "c"}
		m, _ := over(t, MirrorOptions{}, a, b, c)
		defer m.Close()
		p := make([]byte, 5000)
		var reported []int
		before := 0
		must(t, m.FetchStream(t.Context(), p, 77, func(n int) {
			if n <= before || !bytes.Equal(p[before:n], content[77+before:77+n]) {
				t.Errorf("reported %d bytes after %v, which are wrong", n, reported)
			}
			clear(p[:n]) // a later write to these bytes is found
			reported, before = append(reported, n), n
		}))
		if !slices.Equal(reported, []int{1000, 1500, 5000}) {
			t.Errorf("reported %v", reported)
		}
		if !bytes.Equal(p, make([]byte, 5000)) {
			t.Error("written to after it was reported")
		}
		if got := [][]span{a.asked(), b.asked(), c.asked()}; fmt.Sprint(got) != "[[{77 5000}] [{1077 4000}] [{1577 3500}]]" {
			t.Errorf("asked for %v", got)
		}
	})
}

// The error of all names each and says why, and is of one kind.
func TestAllMirrorsFail(t *testing.T) {
	missing := fmt.Errorf("%w: gone away", fault.NotFound)
	other := changed("it is another")
	for _, c := range []struct {
		a, b, want error
	}{{errOff, missing, fault.Unavailable}, {missing, missing, fault.NotFound}, {missing, other, fault.Corrupt}, {other, missing, fault.Corrupt}, {other, errOff, fault.Unavailable}} {
		synctest.Test(t, func(t *testing.T) {
			a, b := &fake{name: "http://a/base.iso", does: fails(c.a)}, &fake{name: "http://b/base.iso", does: fails(c.b)}
			m, _ := over(t, MirrorOptions{}, a, b)
			defer m.Close()
			started := time.Now()
			err := refuses(t, m, 0, 10, c.want)
			wantKind(t, err, c.want)
			for _, part := range []string{"http://a/base.iso", c.a.Error(), "http://b/base.iso", c.b.Error()} {
				if !strings.Contains(err.Error(), part) {
					t.Errorf("%v does not say %q", err, part)
				}
			}
			if took := time.Since(started); took > 30*time.Second || c.want != fault.Unavailable && took > 0 {
				t.Errorf("it took %v", took)
			}
			if c.a != errOff && len(a.asked()) != 1 {
				t.Errorf("what is final was asked %d times", len(a.asked()))
			}
			if c.a == errOff && len(a.asked()) < 5 {
				t.Errorf("what may pass was asked %d times", len(a.asked()))
			}
		})
	}
}

func TestMirrorsFinalErrors(t *testing.T) {
	a, b := &fake{name: "a", does: hangs}, &fake{name: "b"}
	m, _ := over(t, MirrorOptions{}, a, b)
	defer m.Close()
	refuses(t, m, int64(len(content)), 1, fault.Invalid)
	refuses(t, m, -1, 0, fault.Invalid)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	err := m.Fetch(ctx, make([]byte, 10), 0)
	wantKind(t, err, fault.Unavailable)
	if !errors.Is(err, context.Canceled) {
		t.Errorf("%v does not wrap the context's error", err)
	}
	if n := len(b.asked()); n != 0 {
		t.Errorf("b was asked %d times", n)
	}
}

// A mirror that neither answers nor ends leaves time for the others, and all
// together end in time.
func TestMirrorsShareTheDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := &fake{name: "a", does: hangs}, &fake{name: "b"}
		m, l := over(t, MirrorOptions{Options: Options{Timeout: 20 * time.Second}, NoHedge: true}, a, b)
		defer m.Close()
		started := time.Now()
		reads(t, m, 0, 100)
		if took := time.Since(started); took != 10*time.Second {
			t.Errorf("the first took %v of 20s", took)
		}
		reads(t, m, 0, 100)
		if len(a.asked()) != 1 || l.lines("origin set aside") != 1 {
			t.Errorf("a was asked %d times, and set aside %d times", len(a.asked()), l.lines("origin set aside"))
		}
		b.becomes(hangs)
		started = time.Now()
		refuses(t, m, 0, 100, fault.Unavailable)
		if took := time.Since(started); took != 20*time.Second {
			t.Errorf("all took %v of 20s", took)
		}
	})
}

// Each of several web servers gets one attempt before the next one; a single
// one gets another attempt.
func TestRefusedConnectionGoesToTheMirror(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	dead := "http://user:secret@" + l.Addr().String() + "/base.iso?token=secret"
	l.Close()
	s := serve(t, func(int, http.ResponseWriter, *http.Request) bool { return false })
	o := MirrorOptions{Options: s.quick()}
	m, err := OpenMirrors(o, int64(len(content)), dead, s.URL)
	must(t, err)
	defer m.Close()
	for range 3 {
		reads(t, m, 1, 1000)
	}
	each, _, _ := m.Stats()
	if len(s.pauses) != 0 || each[0].Fetches != 1 || each[0].Failures != 1 || !each[0].Aside || each[1].Fetches != 3 || each[1].Bytes != 3000 || each[1].Aside {
		t.Errorf("%v pauses, %+v", s.pauses, each)
	}
	if strings.Contains(fmt.Sprint(each, m), "secret") {
		t.Errorf("secrets in %v, %v", each, m)
	}
	s.Close()
	o.Options.sleep = func(context.Context, time.Duration) error { return errOff } // no second round
	m, err = OpenMirrors(o, int64(len(content)), dead, s.URL)
	must(t, err)
	defer m.Close()
	err = m.Fetch(t.Context(), make([]byte, 10), 0)
	if err == nil || strings.Contains(err.Error(), "secret") || !strings.Contains(err.Error(), "refused") {
		t.Errorf("the error of all: %v", err)
	}
}

func TestOpenMirrorsRefuses(t *testing.T) {
	for _, addresses := range [][]string{{}, {"/x", ""}, {"/x", "gopher://x/y"}} {
		_, err := OpenMirrors(MirrorOptions{}, 1, addresses...)
		wantKind(t, err, fault.Invalid)
	}
}

// Five failures set an origin aside: for 5 s, then twice as long, up to a
// minute. Then one Fetch of many tries it.
func TestSetAside(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := &fake{name: "a", does: fails(errOff)}, &fake{name: "b"}
		m, l := over(t, MirrorOptions{}, a, b)
		defer m.Close()
		for range 20 {
			reads(t, m, 0, 10)
		}
		if n := len(a.asked()); n != tooMany {
			t.Errorf("it was asked %d times before it was set aside", n)
		}
		for i, pause := range []time.Duration{5, 10, 20, 40, 60, 60} {
			before := len(a.asked())
			time.Sleep(pause*time.Second - time.Millisecond)
			reads(t, m, 0, 10)
			if n := len(a.asked()) - before; n != 0 {
				t.Errorf("round %d: asked %d times while it was set aside", i, n)
			}
			time.Sleep(time.Millisecond)
			hold := make(chan struct{})
			a.becomes(func(context.Context, int, []byte, int64, func(int)) error { <-hold; return errOff })
			var all sync.WaitGroup
			all.Go(func() { reads(t, m, 0, 10) })
			synctest.Wait()
			for range 10 {
				reads(t, m, 0, 10)
			}
			close(hold)
			all.Wait()
			if n := len(a.asked()) - before; n != 1 {
				t.Errorf("round %d: tried %d times", i, n)
			}
		}
		if n := l.lines("origin set aside"); n != 7 {
			t.Errorf("%d lines of being set aside", n)
		}
		a.becomes(nil)
		time.Sleep(time.Minute)
		before := len(b.asked())
		for range 3 {
			reads(t, m, 0, 10)
		}
		if len(b.asked()) != before || l.lines("used again") != 1 {
			t.Errorf("not used again: b was asked %d times, %d lines", len(b.asked())-before, l.lines("used again"))
		}
		a.becomes(fails(errOff))
		for range 10 {
			reads(t, m, 0, 10)
		}
		before = len(a.asked())
		time.Sleep(asideFirst)
		reads(t, m, 0, 10)
		if n := len(a.asked()) - before; n != 1 {
			t.Errorf("a success did not reset the pause")
		}
	})
}

// Failures that are far from each other, or have successes between them, set no
// origin aside. Grave ones do at once.
func TestWhatSetsAside(t *testing.T) {
	mixed := func(_ context.Context, n int, _ []byte, _ int64, _ func(int)) error {
		if n%tooMany == 0 {
			return nil
		}
		return errOff
	}
	for name, c := range map[string]struct {
		does  func(context.Context, int, []byte, int64, func(int)) error
		apart time.Duration
		want  int // of 20
	}{
		"rare":         {fails(errOff), 3 * time.Second, 20},
		"in between":   {mixed, 0, 20},
		"refused":      {fails(fmt.Errorf("%w: %w", fault.Unavailable, syscall.ECONNREFUSED)), 0, 1},
		"changed":      {fails(changed("it is another")), 0, 1},
		"file changed": {fails(fmt.Errorf("%w: file changed", fault.Corrupt)), 0, 1},
		"not there":    {fails(fault.NotFound), 0, 1},
		"stalled":      {fails(fmt.Errorf("%w: %w", fault.Unavailable, errStalled)), 0, 1},
		"wrong answer": {fails(wrong(fault.Corrupt, "another range")), 0, tooMany},
	} {
		synctest.Test(t, func(t *testing.T) {
			a, b := &fake{name: "a", does: c.does}, &fake{name: "b"}
			m, _ := over(t, MirrorOptions{}, a, b)
			defer m.Close()
			for range 20 {
				reads(t, m, 0, 10)
				time.Sleep(c.apart)
			}
			if n := len(a.asked()); n != c.want {
				t.Errorf("%s: asked %d times of 20, want %d", name, n, c.want)
			}
		})
	}
}

// If all are set aside they are tried all the same, and one that works is used
// again.
func TestAllSetAside(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		refused := fails(fmt.Errorf("%w: %w", fault.Unavailable, syscall.ECONNREFUSED))
		a, b := &fake{name: "a", does: refused}, &fake{name: "b", does: refused}
		m, l := over(t, MirrorOptions{Options: Options{Timeout: time.Second}}, a, b)
		defer m.Close()
		refuses(t, m, 0, 10, fault.Unavailable)
		b.becomes(nil)
		reads(t, m, 0, 10)
		reads(t, m, 0, 10)
		if l.lines("used again") != 1 || l.lines("origin set aside") != 2 {
			t.Errorf("the log: %s", l.text.String())
		}
	})
}

// A mirror that gave wrong bytes is set aside, and comes last for them.
func TestWrongBytesAreBlamed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b, c := &fake{name: "a"}, &fake{name: "b"}, &fake{name: "c"}
		m, l := over(t, MirrorOptions{}, a, b, c)
		defer m.Close()
		a.becomes(breaks(1000, errOff))
		reads(t, m, 0, 5000) // by a, and from 1000 on by b
		a.becomes(nil)
		m.Wrong(2000, 1000)
		m.Wrong(90_000, 10) // no mirror gave these
		each, _, _ := m.Stats()
		if each[0].Aside || !each[1].Aside || l.lines("wrong bytes") != 1 {
			t.Errorf("%+v, %s", each, l.text.String())
		}
		m.Wrong(0, 500)
		before := len(c.asked())
		reads(t, m, 300, 200) // a's doubtful bytes
		if len(c.asked()) != before+1 {
			t.Error("the one that is good was not asked")
		}
		c.becomes(fails(fault.NotFound))
		asked := len(b.asked())
		reads(t, m, 300, 200) // b was not wrong here
		if len(b.asked()) != asked+1 {
			t.Error("asked again who was wrong here, before others")
		}
		time.Sleep(asideForLie)
		asked = len(a.asked())
		reads(t, m, 0, 500)
		if len(a.asked()) != asked+1 || l.lines("used again") == 0 {
			t.Errorf("not used again: %s", l.text.String())
		}
	})
}

// A range that is fetched again after wrong bytes comes from one mirror, not
// two.
func TestDoubtedRangesAreOfOneMirror(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := &fake{name: "a"}, &fake{name: "b", does: breaks(10, errOff)}
		m, _ := over(t, MirrorOptions{}, a, b)
		defer m.Close()
		reads(t, m, 0, 100)
		m.Wrong(0, 100)
		p := make([]byte, 100)
		must(t, m.Fetch(t.Context(), p, 0))
		if got := a.asked(); got[len(got)-1] != (span{0, 100}) || len(b.asked()) != 1 || !bytes.Equal(p, content[:100]) {
			t.Errorf("a was asked for %v, b for %v", got, b.asked())
		}
	})
}

// The memory of which mirror gave which bytes is bounded, and forgets the
// oldest.
func TestGivenIsBounded(t *testing.T) {
	var g provenance
	now := time.Now()
	for i := range int64(3 * rangesGiven) {
		g.add(-1, i*10, i*10+5, int(i)%3)
	}
	if got := g.blame(0, 10, now); got != nil {
		t.Errorf("the oldest is known: %v", got)
	}
	last := int64(3*rangesGiven - 1)
	if got := g.blame(last*10-10, 20, now); !slices.Equal(got, []int{int(last) % 3, int(last-1) % 3}) {
		t.Errorf("got %v", got)
	}
	for range 2 * rangesWrong {
		g.blame(last*10, 1, now)
	}
	if len(g.wrong) != rangesWrong {
		t.Errorf("%d wrong ranges are remembered", len(g.wrong))
	}
	number := g.add(-1, 0, 10, 1)
	if again := g.add(number, 10, 20, 1); again != number || !slices.Equal(g.blame(15, 1, now), []int{1}) {
		t.Error("a part was not extended")
	}
	for range 2 * rangesGiven {
		g.add(-1, 50, 60, 2)
	}
	if again := g.add(number, 20, 30, 1); again == number {
		t.Error("a part that was forgotten was extended")
	}
}

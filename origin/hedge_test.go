package origin

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"aesthetic.computer/isofs/fault"
)

// heldBy answers when c is closed.
func heldBy(c <-chan struct{}) func(context.Context, int, []byte, int64, func(int)) error {
	return func(ctx context.Context, _ int, _ []byte, _ int64, _ func(int)) error {
		select {
		case <-c:
			return nil
		case <-ctx.Done():
			return canceled(ctx)
		}
	}
}

// figures checks how many second requests there were and how many of them won.
func figures(t *testing.T, m *Mirrors, issued, won uint64) {
	t.Helper()
	if _, i, w := m.Stats(); i != issued || w != won {
		t.Errorf("%d second requests of which %d won, want %d and %d", i, w, issued, won)
	}
}

// An answer that does not begin is requested again: from the next mirror, or
// from the same one. The read ends while the first answer is still held.
func TestSecondRequestWins(t *testing.T) {
	for _, alone := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			held := make(chan struct{}) // never released while the read goes on
			a, b := &fake{name: "a"}, &fake{name: "b"}
			a.does = func(ctx context.Context, n int, p []byte, off int64, got func(int)) error {
				if n == 1 {
					return heldBy(held)(ctx, n, p, off, got)
				}
				return nil
			}
			fakes := []*fake{a, b}[:1]
			if !alone {
				fakes = []*fake{a, b}
			}
			m, _ := over(t, MirrorOptions{}, fakes...)
			started := time.Now()
			reads(t, m, 7, 3000)
			if took := time.Since(started); took != hedgeSoonest {
				t.Errorf("it took %v", took)
			}
			figures(t, m, 1, 1)
			want := []int{1, 1}
			if alone {
				want = []int{2, 0}
			}
			if got := []int{len(a.asked()), len(b.asked())}; !slices.Equal(got, want) {
				t.Errorf("asked %v times, want %v", got, want)
			}
			if a.active != 0 {
				t.Error("the first request goes on")
			}
			must(t, m.Close()) // synctest finds what is left
		})
	}
}

// The second request is for the missing bytes, which follow those that the
// first one gave.
func TestSecondRequestInTheMiddle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := &fake{name: "a", does: func(ctx context.Context, n int, p []byte, off int64, got func(int)) error {
			copy(p[:1000], content[off:])
			got(1000)
			time.Sleep(hedgeSoonest / 2) // in time
			copy(p[:2000], content[off:])
			got(2000)
			<-ctx.Done()
			clear(p[2000:]) // p is its own until it returns
			return canceled(ctx)
		}}
		b := &fake{name: "b"}
		m, _ := over(t, MirrorOptions{}, a, b)
		defer m.Close()
		p := make([]byte, 5000)
		var reported []int
		must(t, m.FetchStream(t.Context(), p, 50, func(n int) { reported = append(reported, n) }))
		if !bytes.Equal(p, content[50:5050]) || !slices.Equal(reported, []int{1000, 2000, 5000}) || !slices.Equal(b.asked(), []span{{2050, 3000}}) {
			t.Errorf("reported %v, b was asked for %v, right: %v", reported, b.asked(), bytes.Equal(p, content[50:5050]))
		}
		m.Wrong(2100, 10)
		each, _, _ := m.Stats()
		if each[0].Aside || !each[1].Aside {
			t.Error("the wrong one is blamed for what the second request gave")
		}
	})
}

// The first request may win, too: the second is ended and writes nowhere.
func TestFirstRequestWins(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := &fake{name: "a", does: takes(2 * hedgeSoonest)}
		var late []byte
		ended := false
		b := &fake{name: "b", does: func(ctx context.Context, _ int, p []byte, _ int64, got func(int)) error {
			<-ctx.Done()
			time.Sleep(time.Hour) // deaf for a while, and then it writes
			for i := range p {
				p[i] = 0xee
			}
			got(len(p))
			late, ended = p, true
			return nil
		}}
		m, _ := over(t, MirrorOptions{}, a, b)
		p := make([]byte, 3000)
		started := time.Now()
		must(t, m.Fetch(t.Context(), p, 0))
		if took := time.Since(started); took != 2*hedgeSoonest {
			t.Errorf("it took %v", took)
		}
		figures(t, m, 1, 0)
		must(t, m.Close())
		if !ended || len(late) != 3000 || !bytes.Equal(p, content[:3000]) {
			t.Errorf("the loser ended: %v; the bytes are right: %v", ended, bytes.Equal(p, content[:3000]))
		}
	})
}

// If the first request fails the second continues in its place, and reports
// bytes as they come.
func TestSecondRequestTakesOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := &fake{name: "a", does: func(_ context.Context, _ int, p []byte, _ int64, _ func(int)) error {
			time.Sleep(2 * hedgeSoonest)
			clear(p)
			return errOff
		}}
		arrived := make(chan struct{})
		b := &fake{name: "b", does: func(_ context.Context, _ int, p []byte, off int64, got func(int)) error {
			copy(p[:1000], content[off:])
			got(1000)
			<-arrived
			return nil
		}}
		c := &fake{name: "c"}
		m, _ := over(t, MirrorOptions{}, a, b, c)
		defer m.Close()
		p := make([]byte, 3000)
		var once sync.Once
		must(t, m.FetchStream(t.Context(), p, 0, func(int) { once.Do(func() { close(arrived) }) }))
		if !bytes.Equal(p, content[:3000]) || len(c.asked()) != 0 {
			t.Errorf("right: %v, c was asked for %v", bytes.Equal(p, content[:3000]), c.asked())
		}
		// If both fail, the next mirror is asked for what neither gave.
		b.becomes(func(_ context.Context, _ int, p []byte, off int64, got func(int)) error {
			copy(p[:1000], content[off:])
			got(1000)
			time.Sleep(2 * hedgeSoonest)
			return errOff
		})
		reads(t, m, 0, 3000)
		if !slices.Equal(c.asked(), []span{{1000, 2000}}) {
			t.Errorf("c was asked for %v", c.asked())
		}
		figures(t, m, 2, 1)
	})
}

// However many requests are late, there are at most four second requests at
// once and one for twenty fetches, and none if the option says so.
func TestSecondRequestsAreFew(t *testing.T) {
	for _, none := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			a := &fake{name: "a"}
			a.does = func(ctx context.Context, n int, p []byte, off int64, got func(int)) error {
				a.mu.Lock()
				first := a.active == 1
				a.mu.Unlock()
				// Every fifth is late, and the second request beside it is not.
				if first && off%5 == 0 {
					return takes(10*time.Second)(ctx, n, p, off, got)
				}
				return nil
			}
			m, _ := over(t, MirrorOptions{NoHedge: none}, a)
			defer m.Close()
			const fetches = 400
			for i := range int64(fetches) {
				reads(t, m, i, 10)
				if _, issued, _ := m.Stats(); issued > hedgeBurst+uint64(i+1)/hedgeShare {
					t.Fatalf("%d second requests for %d fetches", issued, i+1)
				}
			}
			_, issued, won := m.Stats()
			if none != (issued == 0) || !none && won < hedgeBurst {
				t.Errorf("%d second requests of which %d won", issued, won)
			}
			if extra := len(a.asked()) - fetches; extra != int(issued) {
				t.Errorf("%d more requests, %d were counted", extra, issued)
			}
		})
	}
}

// Not more than four at once, as each has a buffer.
func TestSecondRequestsAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := &fake{name: "a", does: hangs}, &fake{name: "b", does: hangs}
		m, _ := over(t, MirrorOptions{}, a, b)
		m.pace.credit = 1000
		ctx, cancel := context.WithCancel(t.Context())
		var all sync.WaitGroup
		for i := range int64(20) {
			all.Go(func() {
				if err := m.Fetch(ctx, make([]byte, 10), i); err == nil {
					t.Error("bytes from nowhere")
				}
			})
		}
		time.Sleep(hedgeSoonest * 3 / 2)
		synctest.Wait()
		if n := len(b.asked()); n != hedgesAtOnce {
			t.Errorf("%d at once", n)
		}
		cancel()
		all.Wait()
		must(t, m.Close())
		if !a.closed || !b.closed {
			t.Error("not closed")
		}
		if m.pace.take(func() {}) {
			t.Error("a second request after the end")
		}
	})
}

// A request is late if nearly all others are sooner: where all take a second, a
// second is not late.
func TestLateness(t *testing.T) {
	var p pace
	if p.lateAfter() != hedgeSoonest {
		t.Errorf("at first %v", p.lateAfter())
	}
	for i := range 1000 {
		p.answered(time.Duration(i) * time.Millisecond)
	}
	// The last 256: 744 to 999 ms, except those since the last look.
	if got := p.lateAfter(); got < 970*time.Millisecond || got > 990*time.Millisecond {
		t.Errorf("then %v", got)
	}
	for range 300 {
		p.answered(time.Millisecond)
	}
	if p.lateAfter() != hedgeSoonest {
		t.Errorf("and in the end %v", p.lateAfter())
	}
	synctest.Test(t, func(t *testing.T) {
		a := &fake{name: "a", does: takes(time.Second)}
		m, _ := over(t, MirrorOptions{}, a)
		defer m.Close()
		for i := range int64(200) {
			reads(t, m, i, 10)
		}
		_, before, _ := m.Stats()
		a.becomes(takes(999 * time.Millisecond))
		for i := range int64(10) {
			reads(t, m, i, 10)
		}
		figures(t, m, before, 0)
	})
}

// An origin that sent Retry-After gets no second request during its pause.
func TestNoSecondRequestInAPause(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const pause = 3 * time.Second // much longer than what is late
		a := &fake{name: "a", does: func(_ context.Context, n int, _ []byte, _ int64, _ func(int)) error {
			if n > 1 {
				return nil
			}
			busy := newFailure(again, fault.Unavailable, "busy")
			busy.after = pause
			return busy
		}}
		m, _ := over(t, MirrorOptions{}, a)
		defer m.Close()
		started := time.Now()
		reads(t, m, 0, 1000)
		if took := time.Since(started); took != pause {
			t.Errorf("it took %v", took)
		}
		figures(t, m, 0, 0)
		if n := len(a.asked()); n != 2 {
			t.Errorf("%d requests", n)
		}
	})
}

// A slow reader does not make the origin late.
func TestSlowReaderIsNotLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := &fake{name: "a", does: func(_ context.Context, _ int, p []byte, off int64, got func(int)) error {
			for n := 100; n < len(p); n += 100 {
				copy(p[:n], content[off:])
				got(n)
			}
			return nil
		}}
		m, _ := over(t, MirrorOptions{}, a)
		defer m.Close()
		must(t, m.FetchStream(t.Context(), make([]byte, 1000), 0, func(int) { time.Sleep(time.Minute) }))
		figures(t, m, 0, 0)
	})
}

// A second request ends with its Fetch, and in its time.
func TestSecondRequestEndsInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := &fake{name: "a"}
		m, _ := over(t, MirrorOptions{Options: Options{Timeout: 10 * time.Second}}, a)
		m.pace.credit = 0
		a.does = func(ctx context.Context, n int, _ []byte, _ int64, _ func(int)) error {
			if n == 1 {
				time.Sleep(9 * time.Second)
				m.pace.mu.Lock()
				m.pace.credit = hedgeShare
				m.pace.mu.Unlock()
				time.Sleep(time.Second)
				return errOff // its own deadline
			}
			<-ctx.Done()
			return canceled(ctx)
		}
		started := time.Now()
		err := refuses(t, m, 0, 10, fault.Unavailable)
		if took := time.Since(started); took != 10*time.Second || !strings.Contains(err.Error(), "switched off") {
			t.Errorf("it took %v: %v", took, err)
		}
		figures(t, m, 1, 0)
		must(t, m.Close())
	})
}

// Both requests to a web server are for the pinned object, on different
// connections.
func TestSecondRequestKeepsThePin(t *testing.T) {
	held := make(chan struct{})
	var from sync.Map
	s := serve(t, func(n int, w http.ResponseWriter, r *http.Request) bool {
		from.Store(r.RemoteAddr, true)
		if n == 2 {
			<-held
		}
		return false
	})
	m, err := OpenMirrors(MirrorOptions{}, int64(len(content)), s.URL)
	must(t, err)
	defer m.Close()
	reads(t, m, 0, 100)
	reads(t, m, 500, 100) // ends while the answer is held
	close(held)
	figures(t, m, 1, 1)
	if !slices.Equal(s.match, []string{"", `"one"`, `"one"`}) {
		t.Errorf("If-Match was %q", s.match)
	}
	n := 0
	from.Range(func(any, any) bool { n++; return true })
	if n < 2 {
		t.Error("both went by one connection")
	}
}

// TestRow21SlowAnswersAreOvertaken: one answer of a hundred is held until the
// end, longer than any limit. All reads end meanwhile, and the origin gets at
// most one request in twenty more.
func TestRow21SlowAnswersAreOvertaken(t *testing.T) {
	for _, mirrors := range []int{1, 2} {
		t.Run(fmt.Sprint(mirrors), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				held := make(chan struct{})
				slow := 0
				a, b := &fake{name: "a"}, &fake{name: "b"}
				a.does = func(ctx context.Context, n int, p []byte, off int64, got func(int)) error {
					if n%100 == 50 {
						slow++
						return heldBy(held)(ctx, n, p, off, got)
					}
					return takes(20*time.Millisecond)(ctx, n, p, off, got)
				}
				m, _ := over(t, MirrorOptions{}, []*fake{a, b}[:mirrors]...)
				const fetches = 1000
				for i := range int64(fetches) {
					reads(t, m, i*50, 50)
				}
				close(held)
				if extra := len(a.asked()) + len(b.asked()) - fetches; extra > fetches/20 || extra < slow || slow < 9 {
					t.Errorf("%d more requests for %d slow ones of %d", extra, slow, fetches)
				}
				must(t, m.Close())
			})
		})
	}
}

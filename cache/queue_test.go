package cache

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

// A line is tickets with names, and the order in which they began.
type line struct {
	*queue
	tickets map[string]*ticket
	began   []string
}

func newLine(fetches int, bytes int64) *line {
	return &line{queue: newQueue(fetches, bytes), tickets: map[string]*ticket{}}
}

// come adds tickets of one byte; the first letter is the class.
func (l *line) come(names ...string) {
	for _, name := range names {
		l.large(name, 1)
	}
}

func (l *line) large(name string, bytes int64) {
	t := &ticket{class: class(strings.Index("dab", name[:1])), bytes: bytes}
	t.begin = func(ok bool) {
		if !ok {
			name = "closed " + name
		}
		l.began = append(l.began, name)
	}
	l.tickets[name] = t
	l.add(t)
}

func (l *line) end(names ...string) {
	for _, name := range names {
		l.done(l.tickets[name])
	}
}

func (l *line) want(t *testing.T, names ...string) {
	t.Helper()
	if !slices.Equal(l.began, names) {
		t.Fatalf("began: %v, want %v", l.began, names)
	}
	l.began = nil
}

func TestQueueUrgentFirst(t *testing.T) {
	l := newLine(2, 100)
	l.come("d1", "d2", "b1", "a1", "a2", "d3", "d4")
	l.want(t, "d1", "d2")
	l.end("d1")
	l.want(t, "d3")
	l.end("d3")
	l.want(t, "d4")
	l.end("d2")
	l.want(t, "a1")
	l.end("a1", "d4") // one slot is not for what is read ahead
	l.want(t, "a2", "b1")
}

func TestQueueLeavesRoomForDemand(t *testing.T) {
	for fetches, ahead := range map[int]int{1: 0, 2: 1, 3: 2, 4: 3, 8: 7, 16: 15} {
		l := newLine(fetches, 100)
		for i := range 20 {
			l.come(fmt.Sprint("a", i))
		}
		if len(l.began) != ahead {
			t.Errorf("%d of %d slots for what is read ahead, want %d", len(l.began), fetches, ahead)
		}
		l.began = nil
		l.come("d1")
		l.want(t, "d1")
	}
	l := newLine(8, 100)
	l.come("b1", "b2", "b3")
	l.want(t, "b1", "b2")
	l.come("d1")
	l.want(t, "d1")
	l.end("b1", "b2")
	l.want(t) // b3 waits for silence
	l.end("d1")
	l.want(t, "b3")
	l = newLine(1, 100)
	l.come("b1")
	l.want(t, "b1")
}

func TestQueueBoundsBytes(t *testing.T) {
	l := newLine(16, 100)
	l.large("d1", 60)
	l.large("d2", 60)
	l.come("d3") // small, and behind: d2 must not wait for ever
	l.want(t, "d1")
	l.end("d1")
	l.want(t, "d2", "d3")
	l.end("d2", "d3")
	l.large("d4", 1000) // alone
	l.come("d5")
	l.want(t, "d4")
	l.end("d4")
	l.want(t, "d5")
	l.end("d5")
	l.large("a1", 70)
	l.large("a2", 10) // three quarters are full
	l.large("d6", 30)
	l.want(t, "a1", "d6")
	if l.inflight() != 100 || l.room(ahead) != 90 {
		t.Errorf("%d bytes in flight, room for %d", l.inflight(), l.room(ahead))
	}
}

func TestQueuePromotes(t *testing.T) {
	l := newLine(2, 100)
	l.come("a1", "a2", "a3", "d1")
	l.want(t, "a1", "d1")
	l.promote(l.tickets["a3"], demand)
	l.promote(l.tickets["a3"], ahead) // nothing becomes less urgent
	l.end("d1")
	l.want(t, "a3")
	l.promote(l.tickets["a1"], demand) // under way: it does not count as read ahead now
	l.end("a3")
	l.want(t, "a2")
	l.end("a1", "a2")
	if l.running != [classes]int{} || l.held != 0 {
		t.Errorf("%v run, with %d bytes", l.running, l.held)
	}
}

func TestQueueExtends(t *testing.T) {
	l := newLine(2, 100)
	l.come("a1", "a2")
	l.want(t, "a1")
	if l.extend(l.tickets["a1"], ahead, 4) || l.extend(l.tickets["a2"], background, 4) || !l.extend(l.tickets["a2"], ahead, 4) {
		t.Error("what waits in that class can be extended, and nothing else")
	}
	if l.room(ahead) != 96 {
		t.Errorf("room for %d", l.room(ahead))
	}
	l.end("a1")
	if l.inflight() != 4 || l.room(ahead) != 100 {
		t.Errorf("%d bytes in flight, room for %d", l.inflight(), l.room(ahead))
	}
}

func TestQueueCloses(t *testing.T) {
	l := newLine(1, 100)
	l.come("d1", "d2", "a1", "b1")
	l.began = nil
	l.close()
	l.want(t, "closed d2", "closed a1", "closed b1")
	l.promote(l.tickets["d2"], demand)
	l.end("d1")
	if l.add(&ticket{}) {
		t.Error("added behind the end")
	}
	l.want(t)
}

// Whatever comes and goes, all of it begins, within the bounds.
func TestQueueAtRandom(t *testing.T) {
	for seed := range uint64(50) {
		r := rand.New(rand.NewPCG(seed, 3))
		fetches := 2 + r.IntN(6)
		l := newLine(fetches, 100)
		count := 0
		for i := 0; i < 300 || len(l.began) > 0; i++ {
			if i < 300 && r.IntN(2) == 0 {
				l.large(fmt.Sprint("dab"[r.IntN(3):][:1], i), 1+r.Int64N(80))
			} else if k := len(l.began); k > 0 {
				k = r.IntN(k)
				name := l.began[k]
				l.began = slices.Delete(l.began, k, k+1)
				l.end(name)
				count++
			}
			if len(l.began) > fetches || l.held > 100 {
				t.Fatalf("seed %d: %d at once, %d bytes", seed, len(l.began), l.held)
			}
			for _, some := range l.tickets {
				if r.IntN(100) == 0 && some.place != nil {
					l.promote(some, class(r.IntN(int(classes))))
				}
			}
		}
		if count != len(l.tickets) {
			t.Errorf("seed %d: %d of %d began", seed, count, len(l.tickets))
		}
	}
}

func TestBuffers(t *testing.T) {
	var b buffers
	for _, n := range []int64{1, 2, 4095, 4096, 4097, 1 << 20, 3 << 20} {
		p := b.get(n)
		if int64(len(*p)) != bufferSize(n) || bufferSize(n) < n || bufferSize(n) >= 2*n && n > 1 {
			t.Errorf("%d bytes for %d", len(*p), n)
		}
		b.put(p)
		if q := b.get(n); len(*q) != len(*p) {
			t.Errorf("a buffer of %d bytes for %d", len(*q), n)
		}
	}
}

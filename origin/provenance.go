package origin

import (
	"slices"
	"sync"
	"time"
)

// How many ranges are remembered. rangesGiven is far more than are fetched at
// once, and a report of wrong bytes comes at once or soon.
const (
	rangesGiven = 1024
	rangesWrong = 512
)

// asideForLie is how long a mirror that gave wrong bytes is not asked if there
// is another one.
const asideForLie = 30 * time.Second

// provenance remembers which mirror gave which bytes, and which were wrong.
type provenance struct {
	mu    sync.Mutex
	parts [rangesGiven]part // a ring
	next  int               // of parts so far; the next one is at next modulo rangesGiven
	wrong []part            // the newest last
}

// A part is a range that one mirror gave.
type part struct {
	off, end int64
	mirror   int
	at       time.Time // of the report, if it is wrong
}

func (g part) overlaps(off, end int64) bool { return g.off < end && off < g.end }

// add notes that the mirror gave [off, end), and returns the part's number. If
// the part with this number ends at off, add extends it.
func (g *provenance) add(number int, off, end int64, mirror int) int {
	g.mu.Lock()
	defer g.mu.Unlock()
	if number >= 0 && g.next-number < rangesGiven {
		g.parts[number%rangesGiven].end = end
		return number
	}
	number = g.next
	g.parts[number%rangesGiven] = part{off: off, end: end, mirror: mirror}
	g.next++
	return number
}

// blame notes that [off, off+n) was wrong, and returns the mirrors that gave it
// last.
func (g *provenance) blame(off, n int64, now time.Time) []int {
	g.mu.Lock()
	defer g.mu.Unlock()
	var wrong []int
	open := []part{{off: off, end: off + n}} // whose mirror is not yet found
	for i := g.next - 1; i >= max(0, g.next-rangesGiven) && len(open) > 0; i-- {
		p := g.parts[i%rangesGiven]
		var left []part
		for _, o := range open {
			if !p.overlaps(o.off, o.end) {
				left = append(left, o)
				continue
			}
			if !slices.Contains(wrong, p.mirror) {
				wrong = append(wrong, p.mirror)
			}
			if o.off < p.off {
				left = append(left, part{off: o.off, end: p.off})
			}
			if p.end < o.end {
				left = append(left, part{off: p.end, end: o.end})
			}
		}
		open = left
	}
	for _, mirror := range wrong {
		if len(g.wrong) == rangesWrong {
			g.wrong = slices.Delete(g.wrong, 0, 1)
		}
		g.wrong = append(g.wrong, part{off: off, end: off + n, mirror: mirror, at: now})
	}
	return wrong
}

// doubt returns for each of n mirrors how recently it was wrong within [off,
// end): 0 if it was not, or long ago, and more for a later report. The order of
// the reports counts, as two may come at the same time.
func (g *provenance) doubt(n int, off, end int64, now time.Time) []int {
	g.mu.Lock()
	defer g.mu.Unlock()
	lately := make([]int, n)
	for i, w := range g.wrong {
		if w.overlaps(off, end) && now.Sub(w.at) < asideForLie {
			lately[w.mirror] = 1 + i
		}
	}
	return lately
}

// doubted reports whether a mirror was wrong within the range of n bytes.
func (g *provenance) doubted(off, n int64, now time.Time) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return slices.ContainsFunc(g.wrong, func(w part) bool {
		return w.overlaps(off, off+n) && now.Sub(w.at) < asideForLie
	})
}

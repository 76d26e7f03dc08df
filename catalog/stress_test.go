package catalog

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"aesthetic.computer/isofs/fault"
)

// Many clients, small limits, snapshots that are forgotten and made again. An
// image that opens has the bytes of its snapshot. No time of a piece has two
// images. A client that is not refused stays with the snapshot that it began.
func TestStress(t *testing.T) {
	const pieces, workers, rounds = 8, 6, 100
	r := newRig(t, Limits{Bytes: 12 << 10, Superseded: 2, Retain: time.Minute, Open: 2, Clients: 16, RetryAfter: time.Second, RefreshWait: time.Millisecond})
	piece := func(i int) string { return fmt.Sprint("piece", i) }
	bake := func(i int, rnd *rand.Rand) {
		// Times that stand still and go back, and bundles that come back.
		html := fmt.Sprintf("<p>%-1000d", rnd.IntN(4)) + piece(i)
		r.source.bake(piece(i), html, epoch.Add(time.Duration(rnd.IntN(5))*time.Second))
	}
	for i := range pieces {
		bake(i, rand.New(rand.NewPCG(uint64(i), 0)))
	}
	var seen promises
	var all sync.WaitGroup
	for w := range workers {
		all.Go(func() {
			rnd := rand.New(rand.NewPCG(uint64(w), 1))
			who := Client{Address: fmt.Sprint("address", w), Agent: "stress"}
			for range rounds {
				i := rnd.IntN(pieces)
				switch rnd.IntN(8) {
				case 0, 1:
					bake(i, rnd)
				case 4:
					r.clock.add(time.Duration(rnd.IntN(20)) * time.Second)
				case 2:
					r.Prune()
				case 3:
					for _, id := range r.IDs() {
						if s, err := r.ByID(id); err == nil && rnd.IntN(4) == 0 {
							seen.check(t, s)
						}
					}
				default:
					r.download(&seen, who, piece(i), rnd)
				}
			}
		})
	}
	all.Wait()
	r.land()
	r.clock.add(time.Hour)
	r.Prune()
	r.consistent()
	before := what(r.Catalog)
	r.restart()
	if after := what(r.Catalog); !slices.Equal(after, before) || len(before) == 0 {
		t.Errorf("%d snapshots before the restart, %d after it, or others", len(before), len(after))
	}
	t.Logf("%d fetches, %d promises, %d retained", r.source.count(), len(seen.byID), len(before))
}

// land waits for builds without waiters.
func (r *rig) land() {
	for range cap(r.builds.turns) {
		r.builds.turns <- struct{}{}
	}
	for range cap(r.builds.turns) {
		<-r.builds.turns
	}
}

// download begins a piece and resumes it.
func (r *rig) download(seen *promises, who Client, piece string, rnd *rand.Rand) {
	s, err := r.Begin(r.t.Context(), who, name(piece))
	if err != nil {
		r.t.Errorf("begin %s: %v", piece, err)
		return
	}
	seen.check(r.t, s)
	if rnd.IntN(2) == 0 {
		r.clock.add(5 * time.Second)
	}
	again, err := r.Resume(r.t.Context(), who, name(piece), slotStart+5)
	if _, stale := errors.AsType[*StaleError](err); stale {
		return // it was forgotten in the meantime
	}
	if err != nil || again.ID() != s.ID() {
		r.t.Errorf("%s was begun with %s and is resumed with %v (%v)", piece, s.ID(), again, err)
	}
}

// consistent compares the index with itself and with the disk.
func (r *rig) consistent() {
	r.t.Helper()
	n := 0
	for piece, list := range r.shown.byPiece {
		for i, s := range list {
			n++
			if r.shown.byID[s.ID()] != s || s.Piece() != piece {
				r.t.Errorf("snapshot %s of %s is not the one of its id", s.ID(), piece)
			}
			if i > 0 && !s.Time().Before(list[i-1].Time()) {
				r.t.Errorf("the snapshots of %s are not in order", piece)
			}
		}
	}
	records, err := r.disk.records.readAll(r.config.Log)
	if err != nil || n != len(r.shown.byID) || n != len(records) {
		r.t.Errorf("%d snapshots of pieces, %d of ids, %d records (%v)", n, len(r.shown.byID), len(records), err)
	}
	r.wantStored(len(r.shown.bundles()))
	if len(r.disk.claims) != 0 {
		r.t.Errorf("bundles are claimed without a build: %v", r.disk.claims)
	}
}

// promises are all snapshots that any client ever got.
type promises struct {
	mu     sync.Mutex
	byID   map[string]string // to time and digest
	byTime map[string]string // piece and time to id
}

// check opens a snapshot, and compares it with all earlier answers for it.
func (p *promises) check(t *testing.T, s *Snapshot) {
	at := fmt.Sprint(s.Piece(), " ", s.Time().Unix())
	promise := fmt.Sprint(at, " ", s.SHA256())
	p.mu.Lock()
	if p.byID == nil {
		p.byID, p.byTime = map[string]string{}, map[string]string{}
	}
	if earlier, ok := p.byID[s.ID()]; ok && earlier != promise {
		t.Errorf("snapshot %s was %s, now it is %s", s.ID(), earlier, promise)
	}
	if earlier, ok := p.byTime[at]; ok && earlier != s.ID() {
		t.Errorf("%s is the time of snapshots %s and %s", at, earlier, s.ID())
	}
	p.byID[s.ID()], p.byTime[at] = promise, s.ID()
	p.mu.Unlock()
	h, err := s.Open()
	if errors.Is(err, fault.NotFound) {
		return // it was forgotten before it was opened
	}
	if err != nil {
		t.Errorf("open %s: %v", s.ID(), err)
		return
	}
	defer h.Close()
	if err := compareImage(h, s, "<p>"); err != nil {
		t.Error(err)
	}
}

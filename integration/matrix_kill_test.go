package integration

import (
	"math/rand/v2"
	"net/http"
	"os"
	"sync"
	"sync/atomic"
	"testing"
)

// TestRow15KilledWhileFilling and TestRow15KilledWhileEvicting kill all of isofs while it fetches.
// Then they start it with an origin that refuses. What the cache serves then must be right. Package
// cache does the same more often, without the mount.
func TestRow15KilledWhileFilling(t *testing.T) {
	t.Parallel()
	killedAgainAndAgain(t, rounds(8, 40), "256MiB")
}

func TestRow15KilledWhileEvicting(t *testing.T) {
	t.Parallel()
	killedAgainAndAgain(t, rounds(5, 20), "2MiB")
}

// rounds returns how often a test repeats what depends on chance. make soak sets SOAK.
func rounds(few, many int) int {
	if os.Getenv("SOAK") != "" {
		return many
	}
	return few
}

func killedAgainAndAgain(t *testing.T, times int, cacheSize string) {
	t.Helper()
	needRoot(t)
	p, s := faulty(t, unanswered, "--cache-size", cacheSize)
	r := rand.New(rand.NewPCG(15, uint64(times)))
	present := 0
	for range times {
		s.killWhileReading(p, r)
		p.add(&fault{all: true, spoil: status(http.StatusForbidden)})
		s.start()
		present = s.present()
		p.heal()
	}
	// There were so many fetches before the last kill that it cannot have lost all blocks.
	if present == 0 {
		t.Error("the kills left nothing in the cache: this proves nothing")
	}
	t.Logf("%d blocks of the base are in the cache at the end", present)
	s.recovered(p)
	s.endsClean()
}

// killWhileReading reads at random places, and kills isofs after a few requests to the origin.
func (s *server) killWhileReading(p *faultProxy, r *rand.Rand) {
	s.t.Helper()
	slot := readManifest(s.t).Slot
	enough := make(chan struct{})
	var asked atomic.Int64
	target := 2 + r.Int64N(6)
	p.add(&fault{all: true, spoil: func(*answer) {
		if asked.Add(1) == target {
			close(enough)
		}
	}})
	stop, all := make(chan struct{}), make(chan struct{})
	var readers sync.WaitGroup
	for range 4 {
		seed := r.Uint64()
		readers.Go(func() { s.roam(stop, seed, slot) })
	}
	go func() { readers.Wait(); close(all) }()
	select {
	case <-enough:
	case <-all: // the readers are done
	}
	s.kill()
	close(stop)
	<-all
	p.heal()
}

// roam reads at random places before the slot, until stop or for a limited number of reads. The
// bytes must be right. A read may fail because of the kill.
func (s *server) roam(stop <-chan struct{}, seed uint64, slot int64) {
	r := rand.New(rand.NewPCG(seed, 15))
	for range 50 {
		select {
		case <-stop:
			return
		default:
		}
		if at := r.Int64N(slot - 1<<20); seed%2 == 0 {
			_ = s.ask(at, some)
		} else {
			_ = s.pread(at, 2*some)
		}
	}
}

// present reads a part of every block before the slot and returns how many reads succeeded.
func (s *server) present() int {
	s.t.Helper()
	m := readManifest(s.t)
	n := 0
	for at := m.BlockSize; at <= m.Slot; at += m.BlockSize {
		if s.ask(at-some, some) == nil {
			n++
		}
	}
	return n
}

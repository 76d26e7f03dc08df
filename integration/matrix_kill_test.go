package integration

import (
	"math/rand/v2"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
)

// TestRow15KilledWhileFilling and the next kill all of isofs with the origin
// busy, and start it again with the origin gone: what the cache then serves is
// right. Package cache does the same more often, without the mount.
func TestRow15KilledWhileFilling(t *testing.T) {
	t.Parallel()
	killedAgainAndAgain(t, 20, "256MiB")
}

func TestRow15KilledWhileEvicting(t *testing.T) {
	t.Parallel()
	killedAgainAndAgain(t, 10, "2MiB")
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
	// The last kill came after so many fetches that not all can be lost.
	if present == 0 {
		t.Error("the kills left nothing in the cache: nothing was proved")
	}
	t.Logf("%d KiB of the base are in the cache at the end", present*some>>10)
	s.recovered(p)
	s.endsClean()
}

// killWhileReading reads here and there and kills when the origin was asked a
// few times.
func (s *server) killWhileReading(p *faultProxy, r *rand.Rand) {
	s.t.Helper()
	slot := readManifest(s.t).Slot
	enough := make(chan struct{})
	var asked atomic.Int64
	target := 3 + r.Int64N(10)
	p.add(&fault{all: true, spoil: func(*answer) {
		if asked.Add(1) == target {
			close(enough)
		}
	}})
	stop := make(chan struct{})
	var readers sync.WaitGroup
	for range 4 {
		seed := r.Uint64()
		readers.Go(func() {
			own := rand.New(rand.NewPCG(seed, 15))
			for {
				select {
				case <-stop:
					return
				default:
				}
				// Right, or refused because of the kill.
				if at := own.Int64N(slot - 1<<20); seed%2 == 0 {
					_ = s.ask(at, some)
				} else {
					_ = s.pread(at, 1<<19)
				}
			}
		})
	}
	until(s.t, "the origin to be asked, or all to be there", func() bool {
		select {
		case <-enough:
			return true
		default:
			return s.present() == int(slot/some)
		}
	})
	s.kill()
	close(stop)
	readers.Wait()
	p.heal()
}

// present reads all before the slot and returns how many pieces of it came.
func (s *server) present() int {
	s.t.Helper()
	n := 0
	for at := int64(0); at+some <= readManifest(s.t).Slot; at += some {
		if s.ask(at, some) == nil {
			n++
		}
	}
	return n
}

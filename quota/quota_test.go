package quota

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

func TestBurstThenPace(t *testing.T) {
	now := time.Unix(1_000_000, 0)
	b := New(Quota{Burst: 3, Every: 4 * time.Second}, 10, func() time.Time { return now })
	for i := range 3 {
		if b.Wait("a") != 0 || !b.Take("a") {
			t.Fatalf("the burst ends after %d", i)
		}
	}
	for range 2 { // Wait takes nothing
		if wait := b.Wait("a"); wait != 4*time.Second || b.Take("a") {
			t.Fatalf("after the burst: a wait of %s", wait)
		}
	}
	if b.Wait("b") != 0 || !b.Take("b") {
		t.Error("another client has to wait, too")
	}
	now = now.Add(3 * time.Second)
	if wait := b.Wait("a"); wait != time.Second || b.Take("a") {
		t.Errorf("3 s later: a wait of %s", wait)
	}
	now = now.Add(b.Wait("a"))
	if !b.Take("a") || b.Take("a") {
		t.Error("after the wait it is not once")
	}
	now = now.Add(time.Hour)
	for i := range 4 {
		if b.Take("a") != (i < 3) {
			t.Errorf("an hour later, number %d", i)
		}
	}
	now = now.Add(-24 * time.Hour) // a clock that is set back grants nothing
	if b.Take("a") {
		t.Error("a clock that was set back gave a token")
	}
}

func TestMemoryIsBounded(t *testing.T) {
	b := New(Quota{Burst: 1, Every: time.Hour}, 100, func() time.Time { return time.Unix(0, 0) })
	for i := range 10_000 {
		b.Take(fmt.Sprint(i))
	}
	if n := b.clients.Len(); n != 100 {
		t.Errorf("%d clients are remembered", n)
	}
	if b.Take("9999") || !b.Take("0") {
		t.Error("it is not the oldest that was forgotten")
	}
}

func TestManyAtOnceGetTheBurst(t *testing.T) {
	b := New(Quota{Burst: 50, Every: time.Hour}, 10, func() time.Time { return time.Unix(0, 0) })
	var all sync.WaitGroup
	var got atomic.Int32
	for range 8 {
		all.Go(func() {
			for range 100 {
				if b.Take("a") {
					got.Add(1)
				}
			}
		})
	}
	all.Wait()
	if got.Load() != 50 {
		t.Errorf("%d of 50", got.Load())
	}
}

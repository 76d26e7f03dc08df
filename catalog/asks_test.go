package catalog

import (
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"aesthetic.computer/isofs/fault"
	"aesthetic.computer/isofs/quota"
)

// refused returns the LimitError in an error, or nil.
func refused(err error) *LimitError {
	limit, _ := errors.AsType[*LimitError](err)
	return limit
}

// One client asks for very many names of no piece. The oven gets as many
// requests as the burst allows, and the other clients notice nothing.
func TestAFloodOfNewNames(t *testing.T) {
	r := newRig(t, Limits{MissingTime: time.Hour, NewNames: quota.Quota{Burst: 20, Every: 3 * time.Second}})
	known := r.baked("known", "<p>1</p>")
	r.source.bake("embedded", "<p>2</p>", epoch)
	before := r.source.count()
	flooder, other := AskedBy(t.Context(), "192.0.2.1"), AskedBy(t.Context(), "192.0.2.2")
	for i := range 10_000 {
		_, err := r.Current(flooder, name(fmt.Sprint("random", i)))
		limit := refused(err)
		switch {
		case i < 20 && !errors.Is(err, fault.NotFound):
			t.Fatalf("name %d: %v", i, err)
		case i >= 20 && (limit == nil || !limit.Client || limit.RetryAfter != 3*time.Second || !errors.Is(err, fault.Unavailable)):
			t.Fatalf("name %d: %v", i, err)
		}
	}
	if n := r.source.count() - before; n != 20 {
		t.Errorf("the oven was asked %d times", n)
	}
	// Requests that cost the oven nothing are free, also for the client that
	// floods.
	for what, piece := range map[string]string{"a known piece": "known", "one that is not packed": "embedded"} {
		if _, err := r.Current(flooder, name(piece)); err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
	if _, err := r.Current(flooder, name("random0")); !errors.Is(err, fault.NotFound) {
		t.Errorf("a name that is known to be missing: %v", err)
	}
	// Another client.
	r.source.bake("new", "<p>3</p>", epoch)
	if s, err := r.Current(other, name("known")); s != known {
		t.Errorf("another client's known piece: %v", err)
	}
	if _, err := r.Current(other, name("new")); err != nil {
		t.Errorf("another client's new piece: %v", err)
	}
	if got := r.Stats(); got.RefusedClient != 9980 || got.RefusedAll != 0 || len(r.asks.waiting) != 0 {
		t.Errorf("%+v, %d waiting", got, len(r.asks.waiting))
	}
	// Later the first client may ask again.
	r.clock.add(3 * time.Second)
	if _, err := r.Current(flooder, name("later")); !errors.Is(err, fault.NotFound) {
		t.Errorf("3 s later: %v", err)
	}
	if _, err := r.Current(flooder, name("later-still")); refused(err) == nil {
		t.Errorf("a second one: %v", err)
	}
}

// The oven has its own limit, for any number of clients. Requests from the
// mount have no address, and count too.
func TestAFloodFromEverywhere(t *testing.T) {
	r := newRig(t, Limits{AllNewNames: quota.Quota{Burst: 50, Every: time.Second}})
	for i := range 1000 {
		ctx := AskedBy(t.Context(), fmt.Sprint("client ", i))
		if i%2 == 0 {
			ctx = t.Context()
		}
		_, err := r.Current(ctx, name(fmt.Sprint("random", i)))
		if limit := refused(err); (limit == nil) != (i < 50) || limit != nil && limit.Client {
			t.Fatalf("name %d: %v", i, err)
		}
	}
	if r.source.count() != 50 {
		t.Errorf("the oven was asked %d times", r.source.count())
	}
	// A client that the common limit refuses keeps its own tokens.
	for range 20 {
		r.clock.add(time.Second)
		if _, err := r.Current(AskedBy(t.Context(), "client 999"), name(fmt.Sprint("later", r.clock.Now().Unix()))); refused(err) != nil {
			t.Fatal(err)
		}
	}
}

// A hundred clients that wait for one new piece cost as much as one.
func TestAClientThatJoinsPaysNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, Limits{NewNames: quota.Quota{Burst: 1, Every: time.Hour}})
		r.source.bake("new", "<p>1</p>", epoch)
		r.source.gate = make(chan struct{})
		var all sync.WaitGroup
		for range 100 {
			all.Go(func() {
				if _, err := r.Current(AskedBy(t.Context(), "192.0.2.1"), name("new")); err != nil {
					t.Error(err)
				}
			})
		}
		synctest.Wait()
		close(r.source.gate)
		all.Wait()
		if r.source.count() != 1 || len(r.asks.waiting) != 0 {
			t.Errorf("%d fetches, %d waiting", r.source.count(), len(r.asks.waiting))
		}
		r.Close()
	})
}

// The quotas do not count a refresh by the operator.
func TestARefreshIsNotRationed(t *testing.T) {
	r := newRig(t, Limits{NewNames: quota.Quota{Burst: 1, Every: time.Hour}, AllNewNames: quota.Quota{Burst: 1, Every: time.Hour}})
	for i := range 5 {
		piece := fmt.Sprint("piece", i)
		r.source.bake(piece, "<p>1</p>", epoch)
		if _, err := r.Refresh(t.Context(), name(piece)); err != nil {
			t.Error(err)
		}
	}
}

// A client joins, too, if it comes between another's request and the start of
// the fetch.
func TestAClientThatComesAtOncePaysNothing(t *testing.T) {
	hour := quota.Quota{Burst: 1, Every: time.Hour}
	a := newAsks(Limits{NewNames: hour, AllNewNames: hour}, time.Now)
	for range 3 {
		if err := a.enter(t.Context(), name("new")); err != nil {
			t.Fatal(err)
		}
	}
	if refused(a.enter(t.Context(), name("other"))) == nil {
		t.Error("another name is free")
	}
	for range 3 {
		a.leave(name("new"))
	}
	if refused(a.enter(t.Context(), name("new"))) == nil || len(a.waiting) != 0 {
		t.Errorf("without waiting clients it is free; %d names are waited for", len(a.waiting))
	}
}

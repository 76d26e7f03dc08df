package catalog

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"aesthetic.computer/isofs/bundle"
	"aesthetic.computer/isofs/fault"
	"aesthetic.computer/isofs/piece"
	"aesthetic.computer/isofs/quota"
)

// asksKept is how many clients are told apart by their asking for new names.
const asksKept = 8192

// A LimitError says that too many names were asked for that nobody knows here,
// by this client or by all together. It wraps fault.Unavailable.
type LimitError struct {
	RetryAfter time.Duration
	// Client is true if it is this client that asked for too many.
	Client bool
}

func (e *LimitError) Error() string {
	who := "all clients together have"
	if e.Client {
		who = "this address has"
	}
	return fmt.Sprintf("%s asked for too many pieces that are not known here; try again in %s", who, e.RetryAfter.Round(time.Second))
}

// Unwrap gives the kind.
func (e *LimitError) Unwrap() error { return fault.Unavailable }

type clientKey struct{}

// AskedBy returns a context of requests by the client at an address, which is
// what Limits.NewNames goes by. It travels in the context since all that a
// client may call leads to the oven. Without one only Limits.AllNewNames holds.
func AskedBy(ctx context.Context, address string) context.Context {
	return context.WithValue(ctx, clientKey{}, address)
}

// asks bound how often the oven is asked for names that nobody knows here.
// Each costs it a second of work, and only afterwards does it turn out whether
// there is such a piece.
type asks struct {
	mu        sync.Mutex // guards all below, and that a token is looked for in both and taken
	each, all *quota.Buckets
	waiting   map[piece.Name]int

	ofClient, ofAll, busy atomic.Uint64 // refused
}

func newAsks(l Limits, now func() time.Time) *asks {
	return &asks{
		each: quota.New(l.NewNames, asksKept, now), all: quota.New(l.AllNewNames, 1, now),
		waiting: map[piece.Name]int{},
	}
}

// change goes by the quotas of now, where they are not those of before.
func (a *asks) change(was, now Limits, clock func() time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if was.NewNames != now.NewNames {
		a.each = quota.New(now.NewNames, asksKept, clock)
	}
	if was.AllNewNames != now.AllNewNames {
		a.all = quota.New(now.AllNewNames, 1, clock)
	}
}

// enter takes a token of the client and one of all together, or none of either:
// who is refused takes nothing away from the others. Who waits for a name that
// others wait for already makes no more work, and pays nothing.
func (a *asks) enter(ctx context.Context, name piece.Name) error {
	client, known := ctx.Value(clientKey{}).(string)
	const together = ""
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.waiting[name] > 0 {
		a.waiting[name]++
		return nil
	}
	if known {
		if wait := a.each.Wait(client); wait > 0 {
			a.ofClient.Add(1)
			return &LimitError{wait, true}
		}
	}
	if wait := a.all.Wait(together); wait > 0 {
		a.ofAll.Add(1)
		return &LimitError{wait, false}
	}
	a.all.Take(together)
	if known {
		a.each.Take(client)
	}
	a.waiting[name]++
	return nil
}

func (a *asks) leave(name piece.Name) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.waiting[name]--; a.waiting[name] == 0 {
		delete(a.waiting, name)
	}
}

// mayAsk reports whether the source may be asked for a piece that is not
// known. Only an oven's work is rationed, and who joins a fetch that is under
// way makes no more of it. leave is called when nobody waits any longer.
func (c *Catalog) mayAsk(ctx context.Context, name piece.Name) (leave func(), err error) {
	leave = func() {}
	if p, ok := c.cfg.Source.(bundle.Packer); !ok || !p.Packs(name) {
		return leave, nil
	}
	if stage, _ := c.builds.progress.of(name); stage != 0 {
		return leave, nil // those who wait for it may have left
	}
	if err := c.asks.enter(ctx, name); err != nil {
		return nil, fmt.Errorf("ask for %s: %w", keyOf(name), err)
	}
	return func() { c.asks.leave(name) }, nil
}

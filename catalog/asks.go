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

// asksKept is the number of clients that have a bucket of their requests for
// new names.
const asksKept = 8192

// A LimitError says that clients asked for too many names that this catalog
// does not have: either this client, or all together. It wraps
// fault.Unavailable.
type LimitError struct {
	RetryAfter time.Duration
	// Client is true if this client asked for too many.
	Client bool
}

func (e *LimitError) Error() string {
	who := "all clients together have"
	if e.Client {
		who = "this address has"
	}
	return fmt.Sprintf("%s asked for too many pieces that are not known here; try again in %s", who, e.RetryAfter.Round(time.Second))
}

// Unwrap returns the kind.
func (e *LimitError) Unwrap() error { return fault.Unavailable }

type clientKey struct{}

// AskedBy returns a context for the requests of the client at an address.
// Limits.NewNames counts by this address. The context carries it because every
// call of a client may lead to the oven. Without an address, only
// Limits.AllNewNames holds.
func AskedBy(ctx context.Context, address string) context.Context {
	return context.WithValue(ctx, clientKey{}, address)
}

// asks bound the requests to the oven for names that this catalog does not
// have. Each costs the oven a second of work, and only then does the oven say
// whether the piece exists.
type asks struct {
	mu        sync.Mutex // guards all below; held while a token is looked for in both buckets and taken
	each, all *quota.Buckets
	waiting   map[piece.Name]int

	ofClient, ofAll, busy atomic.Uint64 // refused requests
}

func newAsks(l Limits, now func() time.Time) *asks {
	return &asks{
		each: quota.New(l.NewNames, asksKept, now), all: quota.New(l.AllNewNames, 1, now),
		waiting: map[piece.Name]int{},
	}
}

// change applies the quotas that differ from the earlier ones.
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

// enter takes one token of the client and one of all together, or none of
// either: a refused client takes nothing from the others. A client pays nothing
// if others already wait for the same name, as it makes no more work.
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

// mayAsk reports whether a client may ask the source for an unknown piece. Only
// an oven's work is rationed, and a client that joins a fetch makes no more of
// it. The caller calls leave when it no longer waits.
func (c *Catalog) mayAsk(ctx context.Context, name piece.Name) (leave func(), err error) {
	leave = func() {}
	if p, ok := c.cfg.Source.(bundle.Packer); !ok || !p.Packs(name) {
		return leave, nil
	}
	if stage, _ := c.builds.progress.of(name); stage != 0 {
		return leave, nil // the clients that began this fetch may have left
	}
	if err := c.asks.enter(ctx, name); err != nil {
		return nil, fmt.Errorf("ask for %s: %w", keyOf(name), err)
	}
	return func() { c.asks.leave(name) }, nil
}

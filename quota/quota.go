// Package quota says who may do something how often: a bucket of tokens for
// each client, in bounded memory.
//
// It leaves out what the something is, who a client is, and what one is told
// who has to wait.
package quota

import (
	"math"
	"sync"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"
	"golang.org/x/time/rate"
)

// A Quota is Burst times at once, and after that once Every.
type Quota struct {
	Burst int           // more than 0
	Every time.Duration // more than 0
}

// Buckets have one quota for each client. Safe for concurrent use.
type Buckets struct {
	quota Quota
	now   func() time.Time

	mu      sync.Mutex // guards clients, and what is in it
	clients *simplelru.LRU[string, *rate.Limiter]
}

// New returns buckets for as many clients as are remembered at once. The one
// that did nothing for the longest is forgotten first, and then has its burst
// again: what all together may do needs a bucket of its own.
func New(q Quota, clients int, now func() time.Time) *Buckets {
	known, err := simplelru.NewLRU[string, *rate.Limiter](max(clients, 1), nil)
	if err != nil {
		panic(err) // only for a size of zero
	}
	return &Buckets{quota: q, now: now, clients: known}
}

// Wait returns how long the client has to wait, which is 0 if it may do it now.
// It takes nothing.
func (b *Buckets) Wait(client string) time.Duration {
	b.mu.Lock()
	defer b.mu.Unlock()
	limiter, ok := b.clients.Peek(client)
	if !ok {
		return 0
	}
	missing := 1 - limiter.TokensAt(b.now())
	if missing <= 0 {
		return 0
	}
	return time.Duration(math.Ceil(missing * float64(b.quota.Every)))
}

// Take notes that the client did it, if it might, and reports whether it did.
func (b *Buckets) Take(client string) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	limiter, ok := b.clients.Get(client)
	if !ok {
		limiter = rate.NewLimiter(rate.Every(b.quota.Every), b.quota.Burst)
		b.clients.Add(client, limiter)
	}
	return limiter.AllowN(b.now(), 1)
}

// Package quota limits how often clients may do something, with a bucket of
// tokens for each client, in bounded memory.
//
// The caller defines the something and the client, and answers a client that
// has to wait.
package quota

import (
	"math"
	"sync"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"
	"golang.org/x/time/rate"
)

// A Quota allows Burst times at once, and after that one time per Every.
type Quota struct {
	Burst int           // more than 0
	Every time.Duration // more than 0
}

// Buckets have one quota for each client. Safe for concurrent use.
type Buckets struct {
	quota Quota
	now   func() time.Time

	mu      sync.Mutex // guards clients and the buckets in it
	clients *simplelru.LRU[string, *rate.Limiter]
}

// New returns buckets for the given number of clients. The client with the
// longest pause is forgotten first, and then has its burst again. A limit for
// all clients together needs another Buckets.
func New(q Quota, clients int, now func() time.Time) *Buckets {
	known, err := simplelru.NewLRU[string, *rate.Limiter](max(clients, 1), nil)
	if err != nil {
		panic(err) // only for a size of zero
	}
	return &Buckets{quota: q, now: now, clients: known}
}

// Wait returns how long the client has to wait, or 0. It takes no token.
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

// Take takes a token of the client, and reports whether there was one.
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

package catalog

import (
	"fmt"
	"time"

	"aesthetic.computer/isofs/fault"
	"aesthetic.computer/isofs/quota"
)

// Limits bound what a catalog keeps and how long callers wait. A zero field is
// replaced by that of DefaultLimits.
type Limits struct {
	Retain      time.Duration // how long a superseded snapshot is kept
	Superseded  int           // superseded snapshots kept of one piece
	Snapshots   int           // snapshots kept in all
	Bytes       int64         // bundles on disk
	Clients     int           // pieces times client addresses remembered for resumes
	Builds      int           // pieces being refreshed at once
	Open        int           // images kept open though nobody reads them
	RefreshWait time.Duration // how long a request for a known piece waits for a newer bundle
	FetchTime   time.Duration // after which a fetch is given up
	RetryAfter  time.Duration // pause after a fetch that failed
	MissingTime time.Duration // how long an unknown piece is remembered as such
	NewNames    quota.Quota   // pieces that nobody asked the oven for before: of each client
	AllNewNames quota.Quota   // and of all together
}

// DefaultLimits suit a machine with 2 GB of memory and 10 GB of disk.
func DefaultLimits() Limits {
	return Limits{
		Retain: 7 * 24 * time.Hour, Superseded: 8, Snapshots: 10_000, Bytes: 1 << 30,
		Clients: 20_000, Builds: 32, Open: 64,
		RefreshWait: 2 * time.Second, FetchTime: 90 * time.Second,
		RetryAfter: 30 * time.Second, MissingTime: 10 * time.Second,
		NewNames:    quota.Quota{Burst: 20, Every: 3 * time.Second},
		AllNewNames: quota.Quota{Burst: 200, Every: 50 * time.Millisecond},
	}
}

// SetLimits changes what holds from now on: Retain, Superseded, Snapshots,
// Bytes, NewNames and AllNewNames. The others are those of Open. Quotas that
// change are whole again for all. Limits that are negative are fault.Invalid,
// and change nothing.
func (c *Catalog) SetLimits(l Limits) error {
	if err := l.validate(); err != nil {
		return err
	}
	l = l.withDefaults()
	was := c.limits.Swap(&l)
	c.asks.change(*was, l, c.cfg.Now)
	return nil
}

func (l Limits) withDefaults() Limits {
	d := DefaultLimits()
	setDefault(&l.Retain, d.Retain)
	setDefault(&l.Superseded, d.Superseded)
	setDefault(&l.Snapshots, d.Snapshots)
	setDefault(&l.Bytes, d.Bytes)
	setDefault(&l.Clients, d.Clients)
	setDefault(&l.Builds, d.Builds)
	setDefault(&l.Open, d.Open)
	setDefault(&l.RefreshWait, d.RefreshWait)
	setDefault(&l.FetchTime, d.FetchTime)
	setDefault(&l.RetryAfter, d.RetryAfter)
	setDefault(&l.MissingTime, d.MissingTime)
	for q, d := range map[*quota.Quota]quota.Quota{&l.NewNames: d.NewNames, &l.AllNewNames: d.AllNewNames} {
		setDefault(&q.Burst, d.Burst)
		setDefault(&q.Every, d.Every)
	}
	return l
}

func setDefault[T int | int64 | time.Duration](v *T, d T) {
	if *v == 0 {
		*v = d
	}
}

func (l Limits) validate() error {
	if min(l.Superseded, l.Snapshots, l.Clients, l.Builds, l.Open) < 0 || l.Bytes < 0 ||
		min(l.Retain, l.RefreshWait, l.FetchTime, l.RetryAfter, l.MissingTime) < 0 ||
		min(l.NewNames.Burst, l.AllNewNames.Burst) < 0 || min(l.NewNames.Every, l.AllNewNames.Every) < 0 {
		return fmt.Errorf("the limits of a catalog cannot be negative: %w", fault.Invalid)
	}
	return nil
}

package catalog

import (
	"fmt"
	"time"

	"aesthetic.computer/isofs/fault"
	"aesthetic.computer/isofs/quota"
)

// Limits bound what a catalog keeps and how long callers wait. A zero field
// means that of DefaultLimits.
type Limits struct {
	Retain      time.Duration // the time for which a superseded snapshot is kept
	Superseded  int           // superseded snapshots kept per piece
	Snapshots   int           // snapshots kept in all
	Bytes       int64         // of bundles on disk
	Clients     int           // pairs of piece and client address, remembered for resumes
	Builds      int           // pieces being fetched at once
	Open        int           // images kept open without readers
	RefreshWait time.Duration // how long a request for a known piece waits for a newer bundle
	FetchTime   time.Duration // the most that a fetch may take
	RetryAfter  time.Duration // pause after a fetch that failed
	MissingTime time.Duration // the time for which an unknown piece is remembered
	NewNames    quota.Quota   // pieces new to the oven: of each client
	AllNewNames quota.Quota   // the same of all clients together
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

// SetLimits changes Retain, Superseded, Snapshots, Bytes, NewNames and
// AllNewNames. The others stay as at Open. A quota that changes starts full for
// all clients. Negative limits are fault.Invalid, and change nothing.
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

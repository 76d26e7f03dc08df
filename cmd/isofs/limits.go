package main

import (
	"errors"
	"math"
	"time"

	"github.com/spf13/cobra"

	"aesthetic.computer/isofs/catalog"
	"aesthetic.computer/isofs/quota"
	"aesthetic.computer/isofs/settings"
)

// limitFlags bound what is fetched and kept of pieces.
type limitFlags struct {
	retain    time.Duration
	fetches   int
	snapshots int
	newNames  quotaFlags // of each client
	allNew    quotaFlags // of all together
}

// quotaFlags are a burst and a rate.
type quotaFlags struct {
	burst int
	rate  float64 // a second
}

func (q quotaFlags) quota() quota.Quota {
	if q.burst == 0 { // the flag was not given
		return quota.Quota{}
	}
	return quota.Quota{Burst: q.burst, Every: time.Duration(math.Ceil(float64(time.Second) / q.rate))}
}

// register adds the limits of a server; all commands have --retain.
func (l *limitFlags) register(cmd *cobra.Command) {
	d := catalog.DefaultLimits()
	perSecond := func(q quota.Quota) float64 { return math.Round(1000*float64(time.Second)/float64(q.Every)) / 1000 }
	flags := cmd.Flags()
	flags.IntVar(&l.fetches, "limit-fetches", d.Builds, "pieces that are fetched at once")
	flags.IntVar(&l.snapshots, "limit-snapshots", d.Snapshots, "images kept, superseded ones included")
	flags.IntVar(&l.newNames.burst, "limit-new-burst", d.NewNames.Burst, "pieces never asked for before that a client may have the oven asked for at once")
	flags.Float64Var(&l.newNames.rate, "limit-new", perSecond(d.NewNames), "of those, how many a second once the burst is used up")
	flags.IntVar(&l.allNew.burst, "limit-new-total-burst", d.AllNewNames.Burst, "as --limit-new-burst, for all clients together and the mount")
	flags.Float64Var(&l.allNew.rate, "limit-new-total", perSecond(d.AllNewNames), "as --limit-new, for all clients together and the mount")
}

func (l *limitFlags) validate() error {
	var wrong []error
	for _, c := range []struct {
		name  string
		value int
	}{
		{"limit-fetches", l.fetches}, {"limit-snapshots", l.snapshots},
		{"limit-new-burst", l.newNames.burst}, {"limit-new-total-burst", l.allNew.burst},
	} {
		if c.value < 1 || c.value > 1_000_000 {
			wrong = append(wrong, settings.Wrong(c.name, "%d is not between 1 and 1000000", c.value))
		}
	}
	for name, rate := range map[string]float64{"limit-new": l.newNames.rate, "limit-new-total": l.allNew.rate} {
		if !(rate >= 0.001 && rate <= 1_000_000) { // refuses NaN, too
			wrong = append(wrong, settings.Wrong(name, "%g is not between 0.001 and 1000000", rate))
		}
	}
	return errors.Join(wrong...)
}

func (l *limitFlags) catalog() catalog.Limits {
	return catalog.Limits{
		Retain: l.retain, Builds: l.fetches, Snapshots: l.snapshots,
		NewNames: l.newNames.quota(), AllNewNames: l.allNew.quota(),
	}
}

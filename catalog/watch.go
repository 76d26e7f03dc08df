package catalog

import (
	"context"
	"slices"
	"sync"
	"time"

	"aesthetic.computer/isofs/piece"

	"golang.org/x/sync/singleflight"
)

// A Stage is a step in the making of a snapshot.
type Stage int

// The stages, in order.
const (
	StageBundle    Stage = iota + 1 // the source sends the bundle
	StageVolume                     // the volume is laid out around it
	StageDigest                     // the digest of the whole image is computed
	StageSignature                  // the image is signed; only with keys
)

// Timings has the duration of each stage.
type Timings struct{ Bundle, Volume, Digest, Signature time.Duration }

// A Build says how a piece got its snapshot.
type Build struct {
	Snapshot *Snapshot
	// Unchanged is true if the snapshot existed before: nothing was fetched, or
	// the fetched bundle was the same.
	Unchanged bool
	Timings   Timings   // zero if nothing was fetched
	Ended     time.Time // zero if nothing was fetched
	last      Stage     // the last stage that the build passed
}

// Watch is Current for a caller that follows the build. Before it returns, it
// calls notify with each stage that the build is in or has passed. A late
// caller joins at the present stage.
func (c *Catalog) Watch(ctx context.Context, name piece.Name, notify func(Stage)) (Build, error) {
	return c.currentBuild(ctx, name, notify)
}

// builds are the builds under way, at most one for each piece.
type builds struct {
	singleflight.Group
	turns    chan struct{}   // each build takes one
	life     context.Context // of the builds; ended by Close
	end      context.CancelCauseFunc
	progress *progress
}

func newBuilds(l Limits, now func() time.Time) builds {
	life, end := context.WithCancelCause(context.Background())
	return builds{turns: make(chan struct{}, l.Builds), life: life, end: end, progress: newProgress(now)}
}

// Building returns how many pieces are being fetched, and how many may be.
func (c *Catalog) Building() (running, most int) { return len(c.builds.turns), cap(c.builds.turns) }

// Builds returns the latest fetches that ended with a snapshot, the last first.
func (c *Catalog) Builds() []Build {
	c.builds.progress.mu.Lock()
	defer c.builds.progress.mu.Unlock()
	return slices.Clone(c.builds.progress.recent)
}

// buildsKept is how many builds are remembered.
const buildsKept = 10

// progress has the stage of each build. Builds write it a few times each; only
// watchers read it.
type progress struct {
	now func() time.Time

	mu      sync.Mutex // guards all below
	under   map[piece.Name]*making
	changed chan struct{} // closed and replaced with each change
	recent  []Build       // the last first
}

// A making is one build under way.
type making struct {
	stage Stage
	began [StageSignature + 1]time.Time // by stage
}

func newProgress(now func() time.Time) *progress {
	return &progress{now: now, under: map[piece.Name]*making{}, changed: make(chan struct{})}
}

// enter notes that the build of name begins a stage.
func (p *progress) enter(name piece.Name, s Stage) {
	p.mu.Lock()
	defer p.mu.Unlock()
	m := p.under[name]
	if m == nil {
		m = &making{}
		p.under[name] = m
	}
	m.stage = s
	m.began[s] = p.now()
	p.notify()
}

// notify needs mu.
func (p *progress) notify() {
	close(p.changed)
	p.changed = make(chan struct{})
}

// of returns the stage of name's build, or 0 without one. The channel is closed
// when that may have changed.
func (p *progress) of(name piece.Name) (Stage, <-chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if m := p.under[name]; m != nil {
		return m.stage, p.changed
	}
	return 0, p.changed
}

// leave notes that the build of name ended, with s if err is nil.
func (p *progress) leave(name piece.Name, s *Snapshot, err error) Build {
	p.mu.Lock()
	defer p.mu.Unlock()
	m := p.under[name]
	delete(p.under, name)
	p.notify()
	if err != nil || m == nil {
		return Build{}
	}
	b := Build{Snapshot: s, Unchanged: m.stage < StageVolume, Timings: m.timings(p.now()), Ended: p.now(), last: m.stage}
	p.recent = slices.Insert(p.recent, 0, b)
	p.recent = p.recent[:min(len(p.recent), buildsKept)]
	return b
}

func (m *making) timings(end time.Time) Timings {
	took := func(s Stage) time.Duration {
		switch {
		case s > m.stage:
			return 0
		case s == m.stage:
			return end.Sub(m.began[s])
		}
		return m.began[s+1].Sub(m.began[s])
	}
	return Timings{took(StageBundle), took(StageVolume), took(StageDigest), took(StageSignature)}
}

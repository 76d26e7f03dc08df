package upstream

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"time"

	"aesthetic.computer/isofs/base"
	"aesthetic.computer/isofs/fault"
	"aesthetic.computer/isofs/origin"
)

// A followed base is the one that a channel named when it was last followed. It is
// kept on disk, so that no later start goes back behind it.
type followed struct {
	Revision int64 `json:"revision"`
	base.Entry
}

// A followedChannel is the address of a channel, and its parts.
type followedChannel struct{ address, root, flavor, arch string }

// String is the channel's address without secrets.
func (f followedChannel) String() string { return origin.Redact(f.address) }

// addressOf returns where a version of the channel is published.
func (f followedChannel) addressOf(e base.Entry) string {
	return origin.Join(f.root, e.Path)
}

// A Follower opens the bases that a channel names, one after the other. String
// is the channel's address without secrets. Only one Follow may run at a time.
type Follower struct {
	followedChannel
	poll   time.Duration
	memory string // the file that has what was followed last
	log    *slog.Logger
	again  chan struct{} // asks Run for a look at once

	// read reads the channel.
	read func(ctx context.Context) ([]byte, error)
	// trust checks the channel's signature, if there is a keyring.
	trust func(ctx context.Context, c *base.Channel, data []byte) error
	// open opens a base that the channel names, published at an address.
	open func(ctx context.Context, address string, c *base.Channel) (*Base, error)
	// known opens a base that was opened before, without a network.
	known func(base.Hash) (*Base, error)
}

// newFollower makes the follower of a channel whose address is valid.
func newFollower(r *Registry, c ChannelConfig) *Follower {
	root, flavor, arch, _ := base.SplitChannelPath(c.Address) // Config.Validate has seen the error
	f := &Follower{
		followedChannel: followedChannel{c.Address, root, flavor, arch}, poll: c.Poll, log: r.log,
		memory: filepath.Join(r.dir, "channel-"+shortDigest(c.Address)), again: make(chan struct{}, 1),
		open: r.openNamed, known: r.ByDigest,
	}
	options := func() origin.Options {
		options := r.origin
		if _, ok := f.last(); ok {
			options.Timeout = knownTimeout // the kept base can take over
		}
		return options
	}
	f.read = func(ctx context.Context) ([]byte, error) {
		return options().ReadAll(ctx, f.address, base.MaxChannelSize)
	}
	f.trust = func(ctx context.Context, c *base.Channel, data []byte) error {
		return r.trustChannel(ctx, root, c, data, options())
	}
	return f
}

// start opens the first base: the one that the channel names, or else the one that
// was followed last.
func (f *Follower) start(ctx context.Context) (*Published, error) {
	now, err := f.look(ctx, nil)
	if err == nil {
		return now, f.remember(now)
	}
	last, ok := f.last()
	if !ok || ctx.Err() != nil {
		return nil, err
	}
	opened, knownErr := f.known(last.SHA256)
	if knownErr != nil {
		return nil, errors.Join(err, knownErr)
	}
	f.log.Warn("the channel cannot be followed; using the base that it named last",
		"channel", f.String(), "version", last.Version, "base", last.SHA256, "err", err)
	return &Published{opened, f.addressOf(last.Entry), last}, nil
}

// Follow reads the channel and opens the base that it names. If that is the present
// base, it returns the present base with the channel's current entry. It first
// records the result on disk, so that a restart does not go back behind a base that
// images were made on.
//
// An error wraps fault.Corrupt if the channel or the base is not what it should be,
// or not signed by a key of the keyring, or older than the base followed before.
// Other errors are those of package origin. The caller then keeps the present base.
func (f *Follower) Follow(ctx context.Context, present *Published) (*Published, error) {
	now, err := f.look(ctx, present)
	if err != nil {
		return nil, err
	}
	return now, f.remember(now)
}

// look is Follow without the record on disk. present is nil at a start.
func (f *Follower) look(ctx context.Context, present *Published) (*Published, error) {
	c, err := f.readChannel(ctx)
	if err != nil {
		return nil, err
	}
	last, _ := f.last()
	if c.Revision < last.Revision {
		// A cache or replica between here and there does not have the last one yet.
		return nil, fmt.Errorf("channel %s has revision %d, and had %d before: an old copy is not followed; if it was made again on purpose, remove %s: %w",
			f, c.Revision, last.Revision, f.memory, fault.Corrupt)
	}
	named := followed{c.Revision, c.Current}
	address := f.addressOf(c.Current)
	if present != nil && present.Manifest.SHA256 == c.Current.SHA256 {
		return &Published{present.Base, present.Address, named}, nil
	}
	if present == nil && last.SHA256 == c.Current.SHA256 {
		if opened, err := f.known(last.SHA256); err == nil {
			return &Published{opened, address, named}, nil
		}
	}
	opened, err := f.open(ctx, address, c)
	if err != nil {
		return nil, fmt.Errorf("channel %s names version %s: %w", f, c.Current.Version, err)
	}
	return &Published{opened, address, named}, nil
}

// readChannel reads the channel and checks its form, its signature, and that its
// name fits its address.
func (f *Follower) readChannel(ctx context.Context) (*base.Channel, error) {
	f.log.Debug("reading the channel", "channel", f.String())
	data, err := f.read(ctx)
	if err != nil {
		return nil, err
	}
	c, err := base.ParseChannel(data)
	if err != nil {
		return nil, fmt.Errorf("channel %s: %w", f, err)
	}
	if err := f.trust(ctx, c, data); err != nil {
		return nil, fmt.Errorf("channel %s: %w", f, err)
	}
	if c.Flavor != f.flavor || c.Arch != f.arch {
		return nil, fmt.Errorf("channel %s is of %s for %s: %w", f, c.Flavor, c.Arch, fault.Corrupt)
	}
	return c, nil
}

// last returns the base that was followed last; ok is false if there is no record.
func (f *Follower) last() (last followed, ok bool) {
	data, err := os.ReadFile(f.memory)
	if err != nil {
		return followed{}, false
	}
	if err := json.Unmarshal(data, &last); err != nil || base.CheckVersion(last.Version) != nil {
		f.log.Warn("what was followed last cannot be read", "file", f.memory, "err", err)
		return followed{}, false
	}
	return last, true
}

// remember records the base that is followed now.
func (f *Follower) remember(p *Published) error {
	if last, ok := f.last(); ok && last == p.named {
		return nil
	}
	data, err := json.Marshal(p.named)
	if err != nil {
		return fmt.Errorf("remember the channel's base: %w: %w", fault.Invalid, err)
	}
	return keepFile(f.memory, append(data, '\n'))
}

// Run calls follow every ChannelConfig.Poll, and soon after LookAgain, until ctx
// ends. It logs an error of follow. The pauses vary by a tenth, so that servers
// that were started together do not all ask at once.
func (f *Follower) Run(ctx context.Context, follow func(context.Context) error) {
	for {
		pause := f.poll*9/10 + rand.N(f.poll/5)
		select {
		case <-ctx.Done():
			return
		case <-f.again:
		case <-time.After(pause):
		}
		if err := follow(ctx); err != nil && ctx.Err() == nil {
			f.log.Warn("the channel is not followed; the base stays as it is", "channel", f.String(), "err", err)
		}
	}
}

// LookAgain makes Run call follow at once, and does not wait for it.
func (f *Follower) LookAgain() {
	select {
	case f.again <- struct{}{}:
	default: // it is about to
	}
}

// Revision returns the channel's revision when it named the base; 0 if no channel
// did.
func (p *Published) Revision() int64 { return p.named.Revision }

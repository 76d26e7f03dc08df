package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"time"

	"aesthetic.computer/isofs/base"
	"aesthetic.computer/isofs/fault"
	"aesthetic.computer/isofs/image"
	"aesthetic.computer/isofs/origin"
)

// A followed base is what a channel named when it was taken up last. It is kept
// in the state, so that no start goes back behind it.
type followed struct {
	Revision int64 `json:"revision"`
	base.Entry
}

// A followedChannel is the address of one, and its parts.
type followedChannel struct{ address, root, flavor, arch string }

// A follower has the server's base be the one that a channel names.
type follower struct {
	followedChannel
	poll   time.Duration
	memory string // the file that has what was followed last
	log    *slog.Logger

	read func(ctx context.Context) ([]byte, error) // the channel
	// trust checks the channel's signature, if there is a keyring.
	trust func(ctx context.Context, c *base.Channel, data []byte) error
	// open opens a base that the channel names, published at an address.
	open func(ctx context.Context, address string, c *base.Channel) (image.Base, error)
	// known opens a base that was opened before, without a network.
	known func(base.Hash) (image.Base, error)

	again chan struct{} // has it looked at at once
	mu    sync.Mutex    // held while it looks
}

func newFollower(o *stackFlags, b *bases, log *slog.Logger) (*follower, error) {
	root, flavor, arch, err := base.SplitChannelPath(o.channel.address)
	if err != nil {
		return nil, blame("channel", err)
	}
	sum := sha256.Sum256([]byte(o.channel.address))
	f := &follower{
		followedChannel: followedChannel{o.channel.address, root, flavor, arch}, poll: o.channel.poll, log: log,
		memory: filepath.Join(b.dir, "channel-"+hex.EncodeToString(sum[:8])),
		open:   b.named, known: b.bySum, again: make(chan struct{}, 1),
	}
	how := func() origin.Options {
		how := b.origin
		if _, ok := f.last(); ok {
			how.Timeout = knownPatience // there is something to go on with
		}
		return how
	}
	f.read = func(ctx context.Context) ([]byte, error) {
		return how().ReadAll(ctx, f.address, base.MaxChannelSize)
	}
	f.trust = func(ctx context.Context, c *base.Channel, data []byte) error {
		return b.trustChannel(ctx, root, c, data, how())
	}
	return f, nil
}

// String is the channel's address.
func (f followedChannel) String() string { return origin.Redact(f.address) }

// addressOf is where a version of the channel is published.
func (f followedChannel) addressOf(e base.Entry) string {
	return origin.Join(f.root, e.Path)
}

// start opens the base to begin with: the one that the channel names, or else
// the one that was followed last.
func (f *follower) start(ctx context.Context) (*published, error) {
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
	f.log.Warn("the channel cannot be followed; going on with the base that it named last",
		"channel", f.String(), "version", last.Version, "base", last.SHA256, "err", err)
	return &published{base: opened, address: f.addressOf(last.Entry), by: last}, nil
}

// look reads the channel and opens the base that it names, if that is not the
// present one.
func (f *follower) look(ctx context.Context, present *published) (*published, error) {
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
	last, _ := f.last()
	if c.Revision < last.Revision {
		// A cache on the way, or a replica, that has not heard of the last one.
		return nil, fmt.Errorf("channel %s has revision %d, and had %d before: an old copy is not followed; if it was made again on purpose, remove %s: %w",
			f, c.Revision, last.Revision, f.memory, fault.Corrupt)
	}
	named := followed{c.Revision, c.Current}
	address := f.addressOf(c.Current)
	if present != nil && present.base.Manifest.SHA256 == c.Current.SHA256 {
		return &published{present.base, present.address, named}, nil
	}
	if present == nil && last.SHA256 == c.Current.SHA256 {
		if opened, err := f.known(last.SHA256); err == nil {
			return &published{opened, address, named}, nil
		}
	}
	opened, err := f.open(ctx, address, c)
	if err != nil {
		return nil, fmt.Errorf("channel %s names version %s: %w", f, c.Current.Version, err)
	}
	return &published{opened, address, named}, nil
}

// last is what was followed last; ok is false if that is not known.
func (f *follower) last() (last followed, ok bool) {
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

// remember writes down what is followed now.
func (f *follower) remember(p *published) error {
	if last, ok := f.last(); ok && last == p.by {
		return nil
	}
	data, err := json.Marshal(p.by)
	if err != nil {
		return fmt.Errorf("remember the channel's base: %w: %w", fault.Invalid, err)
	}
	return keepFile(f.memory, append(data, '\n'))
}

// run looks at the channel every now and then, and when something asks for it, until
// ctx ends. Servers that began together do not all ask at once.
func (f *follower) run(ctx context.Context, follow func(context.Context) error) {
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

// lookAgain has the channel looked at at once.
func (f *follower) lookAgain() {
	select {
	case f.again <- struct{}{}:
	default: // it is about to
	}
}

package upstream

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"aesthetic.computer/isofs/base"
	"aesthetic.computer/isofs/cache"
	"aesthetic.computer/isofs/fault"
	"aesthetic.computer/isofs/image"
	"aesthetic.computer/isofs/origin"
	"aesthetic.computer/isofs/signature"
)

// knownTimeout bounds a read for which there is a fallback: a kept base, or a
// mirror.
const knownTimeout = 5 * time.Second

// A Base is a base that is open, until its Registry is closed.
type Base struct {
	Manifest *base.Manifest
	File     *cache.File     // its bytes: verified, and cached
	Origin   *origin.Mirrors // where the cache fetches them
}

// Image returns the base as images are composed on it.
func (b *Base) Image() image.Base { return image.Base{Manifest: b.Manifest, Bytes: b.File} }

// A Published base is one with the address where it is published.
type Published struct {
	*Base
	Address string
	named   followed // what the channel named, if it was found by one
}

// A Registry opens bases by address, by digest, or as a channel names them. It
// keeps the manifest of each, so that a later run opens them without a network.
// Its methods are safe for concurrent use.
type Registry struct {
	dir      string
	where    places // of the base that has a fixed address
	origin   origin.Options
	hedge    bool
	blocks   *cache.Cache
	log      *slog.Logger
	follower *Follower // nil: no channel is followed
	keyring  atomic.Pointer[signature.Keyring]

	mu   sync.Mutex // guards opened
	open []*Base    // the oldest first
}

// Open makes a Registry. It reads nothing yet. An error is fault.SettingErrors.
func Open(c Config) (*Registry, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	return newRegistry(c), nil
}

func newRegistry(c Config) *Registry {
	log := c.Log
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	r := &Registry{
		dir: c.Dir, where: append(places{c.Address}, c.Mirrors...), origin: c.Origin, hedge: c.Hedge,
		blocks: c.Blocks, log: log,
	}
	r.origin.Log = log
	r.keyring.Store(c.Keyring)
	if c.Channel.Address != "" {
		r.follower = newFollower(r, c.Channel)
	}
	return r
}

// Close closes the origins of all bases. Nothing can be fetched any more.
func (r *Registry) Close() error {
	var errs []error
	for _, m := range r.Origins() {
		errs = append(errs, m.Close())
	}
	return errors.Join(errs...)
}

// Follower returns the follower of Config's channel; nil if there is none.
func (r *Registry) Follower() *Follower { return r.follower }

// SetKeyring exchanges the keyring for all later checks; nil: no signature is
// needed any more.
func (r *Registry) SetKeyring(ring *signature.Keyring) { r.keyring.Store(ring) }

// Origins returns the origins of all bases that are open, the oldest first.
func (r *Registry) Origins() []*origin.Mirrors {
	r.mu.Lock()
	defer r.mu.Unlock()
	var all []*origin.Mirrors
	for _, b := range r.open {
		all = append(all, b.Origin)
	}
	return all
}

// Start opens the first base: that of Config.Address as ByAddress does, or else
// the one that the channel names. If the channel cannot be followed it opens
// the base that was followed last. Without such a base it returns the channel's
// error.
func (r *Registry) Start(ctx context.Context) (*Published, error) {
	if r.follower != nil {
		return r.follower.start(ctx)
	}
	opened, err := r.openAt(ctx, r.where)
	if err != nil {
		return nil, err
	}
	return &Published{Base: opened, Address: r.where.first()}, nil
}

// Probe reads the channel, or the manifest at Config.Address, and opens
// nothing. Errors are those of origin.ReadAll and base.Parse.
func (r *Registry) Probe(ctx context.Context) error {
	if r.follower != nil {
		_, err := r.origin.ReadAll(ctx, r.follower.address, base.MaxChannelSize)
		return err
	}
	_, err := r.manifestAt(ctx, r.where.first(), r.origin)
	return err
}

// ByAddress opens the base published at an address like Config.Address. If it
// cannot read the manifest there, it opens the base that was last opened from
// that address. An error of reading is a *fault.SettingError with
// SettingAddress. Other errors are those of base.Parse, or fault.Unavailable if
// the manifest cannot be kept.
func (r *Registry) ByAddress(ctx context.Context, address string) (*Published, error) {
	opened, err := r.openAt(ctx, places{address})
	if err != nil {
		return nil, err
	}
	return &Published{Base: opened, Address: address}, nil
}

// openAt opens the base published at the first place or at a mirror.
func (r *Registry) openAt(ctx context.Context, where places) (*Base, error) {
	read, err := r.read(ctx, where)
	if errors.Is(err, fault.Unavailable) {
		last, lastErr := r.openLast(where)
		if lastErr == nil {
			r.log.Warn("the base's address does not answer; using the base that it had last", "address", origin.Redact(where.first()), "base", last.Manifest.SHA256, "err", err)
			return last, nil
		}
		if !errors.Is(lastErr, fs.ErrNotExist) {
			err = errors.Join(err, lastErr)
		}
	}
	if err != nil {
		return nil, &fault.SettingError{Setting: SettingAddress, Err: err}
	}
	opened, err := r.openManifest(read.Manifest, where)
	if err != nil {
		return nil, err
	}
	if err := r.keep(read, where); err != nil {
		return nil, err
	}
	return opened, r.keepLast(where.first(), read.SHA256)
}

// Fetch opens the base of Config.Address as it is published now, and keeps
// nothing of it in Config.Dir. Errors are those of ByAddress.
func (r *Registry) Fetch(ctx context.Context) (*Base, error) {
	read, err := r.read(ctx, r.where)
	if err != nil {
		return nil, &fault.SettingError{Setting: SettingAddress, Err: err}
	}
	return r.openManifest(read.Manifest, r.where)
}

// read reads the manifest from the first place, or from a mirror if that does
// not answer.
func (r *Registry) read(ctx context.Context, where places) (*signedManifest, error) {
	folders := where.folders()
	options := r.origin
	options.Timeout = 0 // the default
	if _, err := os.Stat(r.lastPath(where.first())); err == nil || len(folders) > 1 {
		options.Timeout = knownTimeout
	}
	r.log.Info("reading the base's manifest", "address", origin.Redact(where.first()))
	read, err := r.manifestAt(ctx, folders.first(), options)
	if err == nil || !errors.Is(err, fault.Unavailable) {
		return read, err
	}
	for _, mirror := range folders[1:] {
		r.log.Warn("the manifest is read from a mirror", "mirror", origin.Redact(mirror), "err", err)
		read, mirrorErr := r.manifestAt(ctx, mirror, options)
		if mirrorErr == nil {
			return read, nil
		}
		err = fmt.Errorf("%w; %v", err, mirrorErr)
	}
	return nil, err
}

// ByDigest opens a base that was opened before, in this run or an earlier one,
// by the SHA-256 of its image. A base that never was is fault.NotFound. One
// whose kept manifest the keyring does not accept is fault.Unavailable.
func (r *Registry) ByDigest(sum base.Hash) (*Base, error) {
	if known := r.find(sum); known != nil {
		return known, nil
	}
	manifest, err := r.kept(sum)
	if err != nil {
		return nil, err
	}
	where, err := r.keptPlaces(sum)
	if err != nil {
		return nil, err
	}
	return r.openManifest(manifest, where)
}

// find returns a base that is open, or nil.
func (r *Registry) find(sum base.Hash) *Base {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.findLocked(sum)
}

func (r *Registry) findLocked(sum base.Hash) *Base {
	at := slices.IndexFunc(r.open, func(b *Base) bool { return b.Manifest.SHA256 == sum })
	if at < 0 {
		return nil
	}
	return r.open[at]
}

// openLast opens the base that was last found at the first place, with its
// present mirrors. Without such a base the error wraps fs.ErrNotExist.
func (r *Registry) openLast(where places) (*Base, error) {
	sum, err := r.last(where.first())
	if err != nil {
		return nil, err
	}
	manifest, err := r.kept(sum)
	if err != nil {
		return nil, err
	}
	return r.openManifest(manifest, where)
}

// openNamed opens the base that a channel names as its current one, published
// at address, after its first block was read and is right.
func (r *Registry) openNamed(ctx context.Context, address string, c *base.Channel) (*Base, error) {
	want := c.Current
	options := r.origin
	options.Timeout = knownTimeout
	read, err := r.manifestAt(ctx, address, options)
	if errors.Is(err, fault.Unavailable) {
		// The manifest may be kept here. The first block is read all the same.
		if known, knownErr := r.kept(want.SHA256); knownErr == nil {
			read, err = &signedManifest{Manifest: known}, nil
		}
	}
	if err != nil {
		return nil, err
	}
	manifest := read.Manifest
	if manifest.Entry() != want || manifest.Flavor != c.Flavor || manifest.Arch != c.Arch {
		return nil, fmt.Errorf("the manifest there is of %s, sha256 %s; the channel wants %s, sha256 %s: %w",
			manifest.Entry().Path, manifest.SHA256, want.Path, want.SHA256, fault.Corrupt)
	}
	opened, err := r.openManifest(manifest, places{address})
	if err != nil {
		return nil, err
	}
	var one [1]byte
	if _, err := opened.File.ReadAt(one[:], 0); err != nil {
		return nil, fmt.Errorf("read its first block: %w", err)
	}
	if read.data == nil {
		return opened, nil
	}
	return opened, r.keep(read, places{address})
}

// openManifest opens a base by its manifest. An open base stays at the places
// where it was found first.
func (r *Registry) openManifest(m *base.Manifest, where places) (*Base, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if known := r.findLocked(m.SHA256); known != nil {
		return known, nil
	}
	addresses, err := where.images(m, r.usable)
	if err != nil {
		return nil, err
	}
	from, err := origin.OpenMirrors(origin.MirrorOptions{Options: r.origin, NoHedge: !r.hedge}, m.TotalSize, addresses...)
	if err != nil {
		return nil, err
	}
	sums := make([][32]byte, len(m.Blocks))
	for i, h := range m.Blocks {
		sums[i] = h
	}
	file, err := r.blocks.Blob(cache.Blob{
		ID: m.SHA256.String(), Size: m.TotalSize, BlockSize: m.BlockSize, Sums: sums,
	}, from)
	if err != nil {
		return nil, errors.Join(err, from.Close())
	}
	opened := &Base{Manifest: m, File: file, Origin: from}
	r.open = append(r.open, opened)
	return opened, nil
}

// usable reports whether a mirror that the manifest names can be opened. A bad
// one does not stop isofs from starting: the operator did not name it.
func (r *Registry) usable(address string) bool {
	opened, err := r.origin.Open(address, 1) // sends no request
	if err != nil {
		r.log.Warn("a mirror that the manifest names is left out", "mirror", origin.Redact(address), "err", err)
		return false
	}
	return opened.Close() == nil
}

package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"

	"aesthetic.computer/isofs/base"
	"aesthetic.computer/isofs/bundle"
	"aesthetic.computer/isofs/cache"
	"aesthetic.computer/isofs/catalog"
	"aesthetic.computer/isofs/fault"
	"aesthetic.computer/isofs/image"
	"aesthetic.computer/isofs/upstream"
)

// A Stack is the layers below the mount, wired to each other. Its methods are
// safe for concurrent use.
type Stack struct {
	lock    *os.File // of the state
	cache   *cache.Cache
	bases   *upstream.Registry
	Catalog *catalog.Catalog
	meters  *meters
	keys    *signingKeys
	serving atomic.Pointer[upstream.Published] // what new images are made on
}

// setBase makes all new images on the base published at an address, a URL or an
// absolute path, until the next start. A server that follows a channel refuses
// with fault.Invalid.
func (s *Stack) setBase(ctx context.Context, address string) error {
	if s.bases.Follower() != nil {
		return fmt.Errorf("set the base: %w: this server follows the channel %s: publish there (isofs base publish) or go back (isofs base rollback)", fault.Invalid, s.bases.Follower())
	}
	if u, err := url.Parse(address); err != nil || u.Scheme == "" && !filepath.IsAbs(address) {
		return fmt.Errorf("base at %q: %w: give a URL or the whole path of a folder", address, fault.Invalid)
	}
	opened, err := s.bases.ByAddress(ctx, address)
	if err != nil {
		return err
	}
	if err := s.Catalog.SetBase(opened.Image()); err != nil {
		return err
	}
	s.serving.Store(opened)
	return nil
}

// OpenStack opens the layers. The base's address must answer only if the base was
// never opened before with this state. An error of a value of the Config is a
// fault.SettingError; others are those of the layers' own Open functions.
func OpenStack(ctx context.Context, c StackConfig) (*Stack, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	measured := newMeters()
	source, err := c.Pieces.source(measured)
	if err != nil {
		return nil, err
	}
	lock, err := Lock(c.State, SettingState)
	if err != nil {
		return nil, err
	}
	c.Cache.Fetched, c.Cache.Log = measured.fetched, c.Log
	blocks, err := cache.Open(c.Cache)
	if err != nil {
		return nil, errors.Join(err, lock.Close())
	}
	c.Bases.Blocks, c.Bases.Log = blocks, c.Log
	bases, err := upstream.Open(c.Bases)
	if err != nil {
		return nil, errors.Join(err, blocks.Close(), lock.Close())
	}
	s := &Stack{lock: lock, cache: blocks, meters: measured, keys: &signingKeys{}, bases: bases}
	s.keys.now.Store(c.Signer)
	if err := s.openCatalog(ctx, &c, source); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// openCatalog opens the first base, and the catalog on it.
func (s *Stack) openCatalog(ctx context.Context, c *StackConfig, source bundle.Source) error {
	first, err := s.bases.Start(ctx)
	if err != nil {
		return err
	}
	s.serving.Store(first)
	config := catalog.Config{
		Dir: c.State, Base: first.Image(), OpenBase: s.openBase, Source: source, Density: c.Pieces.Density,
		Limits: c.Limits, Log: c.Log, Sidecars: append(slices.Clone(c.Sidecars), catalog.ManifestSidecar()),
	}
	if c.Signer != nil {
		c.Log.Info("images are signed", "keys", c.Signer)
		config.Sidecars, config.Signing = append(config.Sidecars, ascMaker(s.keys)), signing(s.keys)
	}
	s.Catalog, err = catalog.Open(config)
	return err
}

// Signed reports whether images are signed.
func (s *Stack) Signed() bool { return s.keys.get() != nil }

// openBase opens an earlier base, for images that were made on it.
func (s *Stack) openBase(sum base.Hash) (image.Base, error) {
	opened, err := s.bases.ByDigest(sum)
	if err != nil {
		return image.Base{}, err
	}
	return opened.Image(), nil
}

// Close closes the layers, the upper first. Nothing can be read of images then.
func (s *Stack) Close() error {
	var errs []error
	if s.Catalog != nil {
		errs = append(errs, s.Catalog.Close())
	}
	return errors.Join(append(errs, s.cache.Close(), s.bases.Close(), s.lock.Close())...)
}

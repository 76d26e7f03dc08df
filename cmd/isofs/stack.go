package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/spf13/cobra"

	"aesthetic.computer/isofs/base"
	"aesthetic.computer/isofs/bundle"
	"aesthetic.computer/isofs/cache"
	"aesthetic.computer/isofs/catalog"
	"aesthetic.computer/isofs/fault"
	"aesthetic.computer/isofs/image"
	"aesthetic.computer/isofs/upstream"
)

// stackFlags are what serve, mount, pack and inspect have in common: where
// bases and bundles come from, and where things are kept.
type stackFlags struct {
	base     string
	channel  channelFlags // of servers, in place of base
	state    string
	user     string // whom to run as
	cache    cacheFlags
	fetches  int
	patience time.Duration
	pieces   []string
	oven     ovenFlags
	refresh  time.Duration
	limits   limitFlags
	s3       s3Flags
	mirrors  mirrorFlags
	sign     signFlags
	keyring  string
}

func (o *stackFlags) register(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringVar(&o.base, "base", "", "folder or URL (http, https, s3) that has the base's manifest.json and base.iso, or address of the manifest (needed)")
	flags.StringVar(&o.state, "state", defaultState(), "directory of what must survive: bundles, snapshots, manifests")
	flags.StringVar(&o.user, "user", defaultUser, "user to run as when started by root")
	o.cache.register(cmd)
	flags.IntVar(&o.fetches, "fetches", 16, "requests to the base's origin at once")
	durationVar(flags, &o.patience, "origin-timeout", 30*time.Second, "how long a read waits for the base's origin, with all retries, before it fails")
	o.s3.register(flags)
	o.mirrors.register(flags)
	o.sign.register(flags)
	flags.StringVar(&o.keyring, "keyring", "", "file with public OpenPGP keys: manifests and channels that none of them signed are refused")
	flags.StringSliceVar(&o.pieces, "pieces", []string{"embedded"}, "where bundles are, in order of preference: folders of *.html, or the word embedded")
	flags.StringVar(&o.oven.url, "oven", "", "URL of the oven that packs pieces that are in none of --pieces")
	flags.IntVar(&o.oven.density, "density", 8, "pixel density that the oven packs for")
	durationVar(flags, &o.oven.timeout, "oven-timeout", time.Minute, "how long the oven may take to pack a piece")
	durationVar(flags, &o.refresh, "refresh", time.Hour, "age at which a piece is asked of the oven again")
	durationVar(flags, &o.limits.retain, "retain", 7*24*time.Hour, "how long a superseded image stays, for downloads that began with it")
}

// ovenFlags say how to have pieces packed.
type ovenFlags struct {
	url     string
	density int
	timeout time.Duration
}

// validate fills in what was left open and reports all that is wrong, before
// anything is opened.
func (o *stackFlags) validate() error {
	wrong := []error{checkState(o.state), absolute(&o.state)}
	bases := o.upstream(nil, nil, nil)
	wrong = append(wrong, blameSettings(bases.Validate()))
	wrong = append(wrong, o.s3.validate()...)
	if err := o.cache.complete(); err != nil {
		wrong = append(wrong, err)
	}
	if o.fetches < 1 || o.fetches > 256 {
		wrong = append(wrong, wrongFlag("fetches", "%d is not between 1 and 256", o.fetches))
	}
	if o.oven.density < 1 || o.oven.density > 16 {
		wrong = append(wrong, wrongFlag("density", "%d is not between 1 and 16", o.oven.density))
	}
	// The catalog gives up a fetch after 90 s, and nginx a request after 120.
	if o.oven.timeout < time.Second || o.oven.timeout > 90*time.Second {
		wrong = append(wrong, wrongFlag("oven-timeout", "%s is not between 1s and 90s", duration(o.oven.timeout)))
	}
	if len(o.pieces) == 0 && o.oven.url == "" {
		wrong = append(wrong, wrongFlag("pieces", "is empty, and --oven is, too: there is nothing to serve"))
	}
	for flag, age := range map[string]time.Duration{"refresh": o.refresh, "retain": o.limits.retain} {
		if age <= 0 {
			wrong = append(wrong, wrongFlag(flag, "%s is not more than 0", duration(age)))
		}
	}
	return errors.Join(wrong...)
}

// rootState is --state if root does not say otherwise.
const rootState = "/var/lib/isofs"

// defaultState is where the state is if nobody says; "" if there is no place of
// the user's own, and then --state is needed.
func defaultState() string { return defaultStateOf(os.Geteuid()) }

func defaultStateOf(uid int) string {
	if uid == 0 {
		return rootState
	}
	if dir := os.Getenv("XDG_STATE_HOME"); filepath.IsAbs(dir) { // else it counts for nothing, as XDG says
		return filepath.Join(dir, "isofs")
	}
	home, err := os.UserHomeDir()
	if err != nil || !filepath.IsAbs(home) {
		return ""
	}
	return filepath.Join(home, ".local", "state", "isofs")
}

// checkState refuses a state that has no place.
func checkState(dir string) error {
	if dir == "" {
		return errors.New("--state is needed: HOME is not set, so there is no folder of your own for it")
	}
	return nil
}

// A stack is the layers below the mount, wired to each other.
type stack struct {
	lock    *os.File // of the state
	store   *cache.Store
	bases   *upstream.Registry
	catalog *catalog.Catalog
	meters  *meters
	keys    *signingKeys
	serving atomic.Pointer[upstream.Published] // what new images are made on
}

// setBase makes new images on the base published at an address from now on,
// until the next start.
func (s *stack) setBase(ctx context.Context, address string) error {
	if s.bases.Follower() != nil {
		return fmt.Errorf("set the base: %w: this server follows the channel %s: publish there (isofs base publish) or go back (isofs base rollback)", fault.Invalid, s.bases.Follower())
	}
	if u, err := url.Parse(address); err != nil || u.Scheme == "" && !filepath.IsAbs(address) {
		return fmt.Errorf("base at %q: %w: give a URL or the whole path of a folder", address, fault.Invalid)
	}
	opened, err := s.bases.ByAddress(ctx, address)
	if err != nil {
		return blameSettings(err)
	}
	if err := s.catalog.SetBase(opened.Image()); err != nil {
		return err
	}
	s.serving.Store(opened)
	return nil
}

// openStack opens the layers, with makers of sidecars for those who show them. It needs the base's address to answer only if
// the base was never opened before with this state.
func openStack(ctx context.Context, o *stackFlags, log *slog.Logger, sidecars ...catalog.SidecarMaker) (*stack, error) {
	measured := newMeters()
	source, err := o.source(measured)
	if err != nil {
		return nil, err
	}
	signer, err := o.sign.open()
	if err != nil {
		return nil, err
	}
	ring, err := openKeyring(o.keyring)
	if err != nil {
		return nil, err
	}
	lock, err := lockDir(o.state, "state")
	if err != nil {
		return nil, err
	}
	settings := o.cacheConfig(log)
	settings.Fetched = measured.fetched
	store, err := cache.Open(settings)
	if err != nil {
		return nil, errors.Join(err, lock.Close())
	}
	bases, err := o.openUpstream(store, ring, log)
	if err != nil {
		return nil, errors.Join(err, store.Close(), lock.Close())
	}
	s := &stack{lock: lock, store: store, meters: measured, keys: &signingKeys{}, bases: bases}
	s.keys.now.Store(signer)
	first, err := bases.Start(ctx)
	if err != nil {
		return nil, errors.Join(blameSettings(err), s.Close())
	}
	s.serving.Store(first)
	c := catalog.Config{
		Dir: o.state, Base: first.Image(), OpenBase: s.openBase, Source: source, Density: o.oven.density,
		Limits: o.limits.catalog(), Log: log, Sidecars: append(sidecars, catalog.ManifestSidecar()),
	}
	if signer != nil {
		log.Info("images are signed", "keys", signer)
		c.Sidecars, c.Signing = append(c.Sidecars, ascMaker(s.keys)), signing(s.keys)
	}
	s.catalog, err = catalog.Open(c)
	if err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// openBase opens an earlier base, for images that were made on it.
func (s *stack) openBase(sum base.Hash) (image.Base, error) {
	opened, err := s.bases.ByDigest(sum)
	if err != nil {
		return image.Base{}, err
	}
	return opened.Image(), nil
}

// source is where bundles come from: the folders in order, then the oven.
func (o *stackFlags) source(measured *meters) (bundle.Source, error) {
	var sources []bundle.Source
	for _, where := range o.pieces {
		if where == "embedded" {
			sources = append(sources, bundle.Embedded())
			continue
		}
		dir, err := bundle.NewDir(where)
		if err != nil {
			return nil, blame("pieces", err)
		}
		sources = append(sources, dir)
	}
	if o.oven.url != "" {
		oven, err := bundle.NewOven(o.oven.url, bundle.OvenOptions{
			Density: o.oven.density, Refresh: o.refresh, Timeout: o.oven.timeout, HeaderTimeout: o.oven.timeout,
		})
		if err != nil {
			return nil, blame("oven", err)
		}
		sources = append(sources, measuredOven{oven, measured})
	}
	if len(sources) == 0 {
		return nil, fmt.Errorf("no source of pieces: %w", fault.Invalid)
	}
	return bundle.Sources(sources...), nil
}

// Close closes the layers, the upper first.
func (s *stack) Close() error {
	var errs []error
	if s.catalog != nil {
		errs = append(errs, s.catalog.Close())
	}
	return errors.Join(append(errs, s.store.Close(), s.bases.Close(), s.lock.Close())...)
}

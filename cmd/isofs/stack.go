package main

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"aesthetic.computer/isofs/server"
	"aesthetic.computer/isofs/settings"
	"aesthetic.computer/isofs/signature"
)

// stackFlags are the flags that serve, mount, pack and inspect share: where bases and
// bundles come from, and where things are kept.
type stackFlags struct {
	base     string
	channel  channelFlags // of servers, in place of base
	state    string
	user     string // the user to run as
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
	flags.StringVar(&o.user, "user", server.DefaultUser, "user to run as when started by root")
	o.cache.register(cmd)
	flags.IntVar(&o.fetches, "fetches", 16, "requests to the base's origin at once")
	settings.DurationVar(flags, &o.patience, "origin-timeout", 30*time.Second, "how long a read waits for the base's origin, with all retries, before it fails")
	o.s3.register(flags)
	o.mirrors.register(flags)
	o.sign.register(flags)
	flags.StringVar(&o.keyring, "keyring", "", "file with public OpenPGP keys: manifests and channels that none of them signed are refused")
	flags.StringSliceVar(&o.pieces, "pieces", []string{"embedded"}, "where bundles are, in order of preference: folders of *.html, or the word embedded")
	flags.StringVar(&o.oven.url, "oven", "", "URL of the oven that packs pieces that are in none of --pieces")
	flags.IntVar(&o.oven.density, "density", 8, "pixel density that the oven packs for")
	settings.DurationVar(flags, &o.oven.timeout, "oven-timeout", time.Minute, "how long the oven may take to pack a piece")
	settings.DurationVar(flags, &o.refresh, "refresh", time.Hour, "age at which a piece is asked of the oven again")
	settings.DurationVar(flags, &o.limits.retain, "retain", 7*24*time.Hour, "how long a superseded image stays, for downloads that began with it")
}

// ovenFlags say how to have pieces packed.
type ovenFlags struct {
	url     string
	density int
	timeout time.Duration
}

// complete fills in the defaults that depend on who runs.
func (o *stackFlags) complete() error {
	o.cache.complete()
	if err := checkState(o.state); err != nil {
		return settings.Usage(err)
	}
	return absolute(&o.state)
}

// validate completes the flags and reports all that is wrong, before anything is opened.
func (o *stackFlags) validate() error {
	if err := o.complete(); err != nil {
		return err
	}
	config := o.config(nil, nil, nil)
	return settings.Usage(blameFlags(config.Validate()))
}

// rootState is root's default of --state.
const rootState = "/var/lib/isofs"

// defaultState returns the default of --state; "" if the user has no directory for it,
// and then --state is needed.
func defaultState() string { return defaultStateOf(os.Geteuid()) }

func defaultStateOf(uid int) string {
	if uid == 0 {
		return rootState
	}
	if dir := os.Getenv("XDG_STATE_HOME"); filepath.IsAbs(dir) { // else it does not count, as XDG says
		return filepath.Join(dir, "isofs")
	}
	home, err := os.UserHomeDir()
	if err != nil || !filepath.IsAbs(home) {
		return ""
	}
	return filepath.Join(home, ".local", "state", "isofs")
}

// checkState refuses an empty directory of the state.
func checkState(dir string) error {
	if dir == "" {
		return errors.New("--state is needed: HOME is not set, so there is no folder of your own for it")
	}
	return nil
}

// config returns the Config of the layers that the flags describe, signed by signer and
// trusted by ring.
func (o *stackFlags) config(signer *signature.Signer, ring *signature.Keyring, log *slog.Logger) server.StackConfig {
	return server.StackConfig{
		State: o.state, Bases: o.upstream(nil, ring, log), Cache: o.cacheConfig(log),
		Pieces: server.Pieces{Sources: o.pieces, Oven: o.oven.url, Density: o.oven.density, Timeout: o.oven.timeout, Refresh: o.refresh},
		Limits: o.limits.catalog(), Signer: signer, Log: log,
	}
}

// readConfig is config with the keys and the keyring that the flags name.
func (o *stackFlags) readConfig(log *slog.Logger) (server.StackConfig, error) {
	signer, err := o.sign.open()
	if err != nil {
		return server.StackConfig{}, err
	}
	ring, err := signature.OpenKeyring(o.keyring)
	return o.config(signer, ring, log), err
}

// openStack opens the layers.
func (o *stackFlags) openStack(ctx context.Context, log *slog.Logger) (*server.Stack, error) {
	config, err := o.readConfig(log)
	if err != nil {
		return nil, err
	}
	return server.OpenStack(ctx, config)
}

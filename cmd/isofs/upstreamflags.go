package main

import (
	"log/slog"
	"path/filepath"
	"time"

	"github.com/spf13/pflag"

	"aesthetic.computer/isofs/cache"
	"aesthetic.computer/isofs/origin"
	"aesthetic.computer/isofs/settings"
	"aesthetic.computer/isofs/signature"
	"aesthetic.computer/isofs/upstream"
)

// channelFlags say which channel a server follows.
type channelFlags struct {
	address string
	poll    time.Duration
}

func (o *channelFlags) register(flags *pflag.FlagSet) {
	flags.StringVar(&o.address, "channel", "", "in place of --base: path or URL (http, https, s3) of a channels/FLAVOR-ARCH.json, whose current base is served; SIGHUP looks at it at once")
	settings.DurationVar(flags, &o.poll, "channel-poll", 5*time.Minute, "how often the channel is looked at")
}

// mirrorFlags say where else a base is, and how much isofs requests of all
// places.
type mirrorFlags struct {
	addresses []string
	redirects []string // hosts that any of them may redirect to
	hedge     bool
}

func (o *mirrorFlags) register(flags *pflag.FlagSet) {
	flags.StringSliceVar(&o.addresses, "mirror", nil, "another place of the same base (repeatable): a folder or URL that has base.iso, or the address of the image itself, if it ends in .iso or has a query")
	flags.StringSliceVar(&o.redirects, "origin-redirect", nil, "host that --base and mirrors may redirect to, besides their own (repeatable)")
	flags.BoolVar(&o.hedge, "hedge", true, "ask a second time, of a mirror if there is one, for what is late; makes at most a twentieth more requests")
}

// upstream returns the Config that the flags describe, for bases cached in
// blocks and trusted by ring.
func (o *stackFlags) upstream(blocks *cache.Cache, ring *signature.Keyring, log *slog.Logger) upstream.Config {
	return upstream.Config{
		Dir: filepath.Join(o.state, "bases"), Address: o.base, Mirrors: o.mirrors.addresses,
		Channel: upstream.ChannelConfig{Address: o.channel.address, Poll: o.channel.poll},
		Origin:  origin.Options{Timeout: o.patience, Redirects: o.mirrors.redirects, S3: o.s3.options()},
		Hedge:   o.mirrors.hedge, Keyring: ring, Blocks: blocks, Log: log,
	}
}

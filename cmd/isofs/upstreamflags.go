package main

import (
	"errors"
	"net/url"
	"time"

	"github.com/spf13/pflag"

	"aesthetic.computer/isofs/base"
	"aesthetic.computer/isofs/origin"
)

// channelFlags say which channel a server follows.
type channelFlags struct {
	address string
	poll    time.Duration
}

func (o *channelFlags) register(flags *pflag.FlagSet) {
	flags.StringVar(&o.address, "channel", "", "in place of --base: path or URL (http, https, s3) of a channels/FLAVOR-ARCH.json, whose current base is served; SIGHUP looks at it at once")
	durationVar(flags, &o.poll, "channel-poll", 5*time.Minute, "how often the channel is looked at")
}

// validate reports all that is wrong, given the other flags that name bases.
func (o *channelFlags) validate(otherBase string, mirrors []string) error {
	var wrong []error
	if _, _, _, err := base.SplitChannelPath(o.address); err != nil {
		wrong = append(wrong, wrongFlag("channel", "%s: %w", origin.Redact(o.address), err))
	}
	if otherBase != "" {
		wrong = append(wrong, wrongFlag("base", "and --channel both say what to serve: give one of them"))
	}
	if len(mirrors) > 0 {
		wrong = append(wrong, wrongFlag("mirror", "is of one base, and a channel goes from one to the next: write mirrors into the manifests (isofs base index --also-at)"))
	}
	if o.poll < time.Second {
		wrong = append(wrong, wrongFlag("channel-poll", "%s is less than 1s", duration(o.poll)))
	}
	return errors.Join(wrong...)
}

// maxMirrors bounds --mirror; a manifest has a bound of its own.
const maxMirrors = 16

// mirrorFlags say where else a base is, and how much is asked of all.
type mirrorFlags struct {
	addresses []string
	redirects []string // hosts that any of all may redirect to
	hedge     bool
}

func (o *mirrorFlags) register(flags *pflag.FlagSet) {
	flags.StringSliceVar(&o.addresses, "mirror", nil, "another place of the same base (repeatable): a folder or URL that has base.iso, or the address of the image itself, if it ends in .iso or has a query")
	flags.StringSliceVar(&o.redirects, "origin-redirect", nil, "host that --base and mirrors may redirect to, besides their own (repeatable)")
	flags.BoolVar(&o.hedge, "hedge", true, "ask a second time, of a mirror if there is one, for what is late; makes at most a twentieth more requests")
}

func (o *mirrorFlags) validate(how origin.Options) []error {
	var wrong []error
	if len(o.addresses) > maxMirrors {
		wrong = append(wrong, wrongFlag("mirror", "is there %d times, at most %d are allowed", len(o.addresses), maxMirrors))
	}
	for _, host := range o.redirects {
		if u, err := url.Parse("//" + host); err != nil || u.Host != host || u.Hostname() == "" {
			wrong = append(wrong, wrongFlag("origin-redirect", "%q is not a host like cdn.example or cdn.example:8443", host))
		}
	}
	for _, address := range o.addresses {
		image, err := mirrorImage(address)
		if err == nil {
			var opened origin.Origin
			if opened, err = how.Open(image, 1); err == nil { // asks nobody
				err = opened.Close()
			}
		}
		if err != nil {
			wrong = append(wrong, blame("mirror", err))
		}
	}
	return wrong
}

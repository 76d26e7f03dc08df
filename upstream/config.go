// Package upstream opens bases: by the address or channel where they are
// published, or by the digest of one that was opened before.
//
// It reads and verifies manifests, fetches the bytes of each base through the
// block cache from all its mirrors, and follows a channel from one base to the
// next. It owns STATE/bases, where it keeps what it opened for starts without a
// network.
//
// Other packages fetch the bytes (origin), keep them (cache) and define manifests
// and channels (base). Package catalog decides which images are made on a base.
// The caller of Follow decides when that changes.
package upstream

import (
	"log/slog"
	"net/url"
	"time"

	"aesthetic.computer/isofs/base"
	"aesthetic.computer/isofs/cache"
	"aesthetic.computer/isofs/fault"
	"aesthetic.computer/isofs/origin"
	"aesthetic.computer/isofs/signature"
)

// maxMirrors bounds Config.Mirrors. A manifest has a bound of its own.
const maxMirrors = 16

// Config says where bases are published, how they are read, and which of them
// are trusted. Either Address or Channel.Address must be set.
type Config struct {
	// Dir is the directory of what is kept of bases, STATE/bases. It is made when
	// the first base is kept.
	Dir string
	// Address is the folder or URL (file, http, https, s3) that has the base's
	// manifest.json and base.iso, or the address of the manifest, *.json.
	Address string
	// Mirrors are up to 16 other places of the same base, in order of
	// preference: folders or URLs that have base.iso, or addresses of the image
	// itself, which end in .iso or have a query.
	Mirrors []string
	// Channel is followed in place of a fixed Address.
	Channel ChannelConfig
	// Origin says how all these are reached. Timeout bounds one read with all its
	// attempts and is at least 1 s. Open overwrites Log.
	Origin origin.Options
	// Hedge sends late requests a second time.
	Hedge bool
	// Keyring has the keys of which one must have signed each manifest and
	// channel; nil: no signature is needed. Registry.SetKeyring exchanges it.
	Keyring *signature.Keyring
	// Blocks caches the bytes of all bases. Without it no base can be opened,
	// only Registry.Probe works.
	Blocks *cache.Cache
	// Log receives failures that isofs survives; nil: nothing is logged.
	Log *slog.Logger
}

// ChannelConfig says which channel a Follower follows.
type ChannelConfig struct {
	Address string        // path or URL of a channels/FLAVOR-ARCH.json; "": none is followed
	Poll    time.Duration // mean time between two looks at it, at least 1 s
}

// The values of Config that can be wrong, in errors (fault.SettingError).
const (
	SettingDir       = "directory of bases"
	SettingAddress   = "base address"
	SettingMirrors   = "mirror"
	SettingRedirects = "redirect host"
	SettingTimeout   = "origin timeout"
	SettingChannel   = "channel"
	SettingPoll      = "poll interval"
)

// Validate returns all that is wrong with the values as fault.SettingErrors, or
// nil. It reads no file and sends no request.
func (c *Config) Validate() error {
	var wrong fault.SettingErrors
	if c.Dir == "" {
		wrong.Addf(SettingDir, "is needed: where manifests are kept")
	}
	if c.Channel.Address != "" {
		c.validateChannel(&wrong)
	} else {
		c.validateAddress(&wrong)
	}
	c.validateMirrors(&wrong)
	if c.Origin.Timeout < time.Second {
		wrong.Addf(SettingTimeout, "%s is less than 1s", c.Origin.Timeout)
	}
	return append(wrong, fault.AsSettings(c.Origin.S3.Validate())...).Err()
}

func (c *Config) validateChannel(wrong *fault.SettingErrors) {
	if _, _, _, err := base.SplitChannelPath(c.Channel.Address); err != nil {
		wrong.Addf(SettingChannel, "%s: %w", origin.Redact(c.Channel.Address), err)
	}
	if c.Address != "" {
		wrong.Addf(SettingAddress, "and a channel both say what to serve: give one of them")
	}
	if len(c.Mirrors) > 0 {
		wrong.Addf(SettingMirrors, "is of one base, and a channel goes from one to the next: write mirrors into the manifests (isofs base index --also-at)")
	}
	if c.Channel.Poll < time.Second {
		wrong.Addf(SettingPoll, "%s is less than 1s", c.Channel.Poll)
	}
}

func (c *Config) validateAddress(wrong *fault.SettingErrors) {
	if c.Address == "" {
		wrong.Addf(SettingAddress, "is needed: the folder or URL of a base (isofs bake tiny makes one)")
	}
	if _, err := imageOf(c.Address); err != nil && len(c.Mirrors) == 0 {
		wrong.Add(SettingAddress, err)
	}
}

func (c *Config) validateMirrors(wrong *fault.SettingErrors) {
	if len(c.Mirrors) > maxMirrors {
		wrong.Addf(SettingMirrors, "is there %d times, at most %d are allowed", len(c.Mirrors), maxMirrors)
	}
	for _, host := range c.Origin.Redirects {
		if u, err := url.Parse("//" + host); err != nil || u.Host != host || u.Hostname() == "" {
			wrong.Addf(SettingRedirects, "%q is not a host like cdn.example or cdn.example:8443", host)
		}
	}
	for _, address := range c.Mirrors {
		if err := c.checkMirror(address); err != nil {
			wrong.Add(SettingMirrors, err)
		}
	}
}

// checkMirror reports whether a mirror's address can be opened.
func (c *Config) checkMirror(address string) error {
	image, err := mirrorImage(address)
	if err != nil {
		return err
	}
	opened, err := c.Origin.Open(image, 1) // sends no request
	if err != nil {
		return err
	}
	return opened.Close()
}

// Package upstream opens bases: by the address or channel where they are
// published, or by the digest of one that was opened before.
//
// It reads and verifies manifests, has the bytes of each base fetched through
// the block cache from all its mirrors, and follows a channel from one base to
// the next. It owns STATE/bases, where it keeps what it opened for starts without
// a network.
//
// The package leaves out how bytes are fetched (package origin) and kept (package
// cache), what a manifest and a channel say (package base), which images are made
// on a base, and when that changes (package catalog and who calls Follow).
package upstream

import (
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"strings"
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
	// Dir is the directory of what is kept of bases, STATE/bases. It is made
	// when the first base is kept.
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
	// Origin says how all these are reached. Timeout bounds one read with all
	// its attempts and is at least 1 s. Log is overwritten.
	Origin origin.Options
	// Hedge has requests for what is late sent a second time.
	Hedge bool
	// Keyring has the keys of which one must have signed each manifest and
	// channel; nil: no signature is needed. Registry.SetKeyring exchanges it.
	Keyring *signature.Keyring
	// Blocks caches the bytes of all bases. Without it no base can be opened,
	// only Registry.Probe works.
	Blocks *cache.Store
	// Log receives what goes wrong and is survived; nil: nothing is logged.
	Log *slog.Logger
}

// ChannelConfig says which channel a Follower follows.
type ChannelConfig struct {
	Address string        // path or URL of a channels/FLAVOR-ARCH.json; "": none is followed
	Poll    time.Duration // mean time between two looks at it, at least 1 s
}

// A Setting is the name of a value of Config, in errors.
type Setting string

// The settings that can be wrong.
const (
	SettingDir       Setting = "directory"
	SettingAddress   Setting = "address"
	SettingMirrors   Setting = "mirror"
	SettingRedirects Setting = "redirect host"
	SettingTimeout   Setting = "timeout"
	SettingChannel   Setting = "channel"
	SettingPoll      Setting = "poll interval"
)

// ErrTwoSources is the error of a Config with both an address and a channel.
var ErrTwoSources = errors.New("and a channel both say what to serve: give one of them")

// A SettingError says what is wrong with a value of Config, or with what is
// found there. It wraps one of the kinds of package fault.
type SettingError struct {
	Setting Setting
	// Err is the cause. If Predicate is set its text is a predicate whose
	// subject is the setting ("is needed"), else it is a text of its own.
	Err       error
	Predicate bool
}

// Error implements error.
func (e *SettingError) Error() string {
	if e.Predicate {
		return string(e.Setting) + " " + e.Err.Error()
	}
	return string(e.Setting) + ": " + e.Err.Error()
}

// Unwrap returns the cause.
func (e *SettingError) Unwrap() error { return e.Err }

// SettingErrors are all that is wrong with a Config. They wrap fault.Invalid.
type SettingErrors []*SettingError

// Error implements error, with one error a line.
func (all SettingErrors) Error() string {
	var lines []string
	for _, e := range all {
		lines = append(lines, e.Error())
	}
	return strings.Join(lines, "\n")
}

// Unwrap returns the errors one by one.
func (all SettingErrors) Unwrap() []error {
	var errs []error
	for _, e := range all {
		errs = append(errs, e)
	}
	return errs
}

// An invalidError is an error that is fault.Invalid, which its text does not say.
type invalidError struct{ error }

// Unwrap returns the error and its kind.
func (e invalidError) Unwrap() []error { return []error{e.error, fault.Invalid} }

// add notes an error whose text stands by itself.
func (all *SettingErrors) add(setting Setting, err error) {
	*all = append(*all, &SettingError{Setting: setting, Err: invalidError{err}})
}

// addf notes an error whose text is a predicate of the setting.
func (all *SettingErrors) addf(setting Setting, format string, a ...any) {
	*all = append(*all, &SettingError{Setting: setting, Err: invalidError{fmt.Errorf(format, a...)}, Predicate: true})
}

// Validate returns all that is wrong with the values as SettingErrors, and nil
// if nothing is. It reads no file and asks no server.
func (c *Config) Validate() error {
	var wrong SettingErrors
	if c.Dir == "" {
		wrong.addf(SettingDir, "is needed: where manifests are kept")
	}
	if c.Channel.Address != "" {
		c.validateChannel(&wrong)
	} else {
		c.validateAddress(&wrong)
	}
	c.validateMirrors(&wrong)
	if c.Origin.Timeout < time.Second {
		wrong.addf(SettingTimeout, "%s is less than 1s", c.Origin.Timeout)
	}
	if len(wrong) == 0 {
		return nil
	}
	return wrong
}

func (c *Config) validateChannel(wrong *SettingErrors) {
	if _, _, _, err := base.SplitChannelPath(c.Channel.Address); err != nil {
		wrong.addf(SettingChannel, "%s: %w", origin.Redact(c.Channel.Address), err)
	}
	if c.Address != "" {
		wrong.addf(SettingAddress, "%w", ErrTwoSources)
	}
	if len(c.Mirrors) > 0 {
		wrong.addf(SettingMirrors, "is of one base, and a channel goes from one to the next: write mirrors into the manifests (isofs base index --also-at)")
	}
	if c.Channel.Poll < time.Second {
		wrong.addf(SettingPoll, "%s is less than 1s", c.Channel.Poll)
	}
}

func (c *Config) validateAddress(wrong *SettingErrors) {
	if c.Address == "" {
		wrong.addf(SettingAddress, "is needed: the folder or URL of a base (isofs bake tiny makes one)")
	}
	if _, err := imageOf(c.Address); err != nil && len(c.Mirrors) == 0 {
		wrong.add(SettingAddress, err)
	}
}

func (c *Config) validateMirrors(wrong *SettingErrors) {
	if len(c.Mirrors) > maxMirrors {
		wrong.addf(SettingMirrors, "is there %d times, at most %d are allowed", len(c.Mirrors), maxMirrors)
	}
	for _, host := range c.Origin.Redirects {
		if u, err := url.Parse("//" + host); err != nil || u.Host != host || u.Hostname() == "" {
			wrong.addf(SettingRedirects, "%q is not a host like cdn.example or cdn.example:8443", host)
		}
	}
	for _, address := range c.Mirrors {
		if err := c.checkMirror(address); err != nil {
			wrong.add(SettingMirrors, err)
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

package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"aesthetic.computer/isofs/bake"
	"aesthetic.computer/isofs/nginx"
	"aesthetic.computer/isofs/origin"
	"aesthetic.computer/isofs/server"
	"aesthetic.computer/isofs/settings"
	"aesthetic.computer/isofs/signature"
	"aesthetic.computer/isofs/upstream"
)

// flagGroups are the groups in which --help shows the flags of commands that have many, each
// in the order of reading.
var flagGroups = settings.Groups{
	{Title: "Base", Flags: []string{
		"base", "channel", "channel-poll", "mirror", "origin-redirect", "hedge", "fetches", "origin-timeout", "prefill",
		"s3-endpoint", "s3-region", "s3-path-style", "s3-anonymous",
	}},
	{Title: "Cache", Flags: []string{"cache", "cache-size", "scrub-rate", "profile", "page-cache-limit"}},
	{Title: "Pieces", Flags: []string{"pieces", "oven", "oven-timeout", "density", "refresh", "retain"}},
	{Title: "Web", Flags: []string{
		"mount", "listen", "server-name", "tls-cert", "tls-key", "redirect-from", "acme-webroot",
		"nginx", "read-threads", "access-log", "trusted-proxy", "public-url", "peer-url", "grace",
	}},
	{Title: "Limits", Flags: []string{
		"limit-connections", "limit-network", "limit-requests", "limit-burst", "limit-rate", "limit-costly", "limit-costly-burst", "limit-total", "limit-watchers",
		"limit-new-burst", "limit-new", "limit-new-total-burst", "limit-new-total", "limit-fetches", "limit-snapshots",
	}},
	{Title: "Signing", Flags: []string{"sign-key", "sign-passphrase-file", "keyring"}},
	{Title: "Operator", Flags: []string{"state", "run", "user", "admin-key-file", "metrics-listen"}},
}

// overridden are settings of the file that a flag makes ineffective. Base and channel say the
// same in two ways, and the typed one wins.
var overridden = map[string][]string{"base": {"channel"}, "channel": {"base", "mirror"}}

// offered are words for flags that take other words too: names of bases.
var offered = map[string][]string{
	"flavor": {bake.Flavor, bake.FlavorDebian, bake.FlavorFedora},
	"arch":   {"amd64"},
}

// keyVariables are the environment's variables that may have the operator's key. It has no
// flag: everybody on the machine can read flags.
var keyVariables = []string{"ISOFS_ADMIN_KEY", "OS_BUILD_ADMIN_KEY"}

// ownVariables are isofs's variables of the environment that belong to no flag.
var ownVariables = []string{server.ChildMark, keyVariables[0]}

// flagOf are the flags that the values of the packages' Configs come from.
var flagOf = map[string]string{
	upstream.SettingDir: "state", upstream.SettingAddress: "base", upstream.SettingMirrors: "mirror", upstream.SettingRedirects: "origin-redirect",
	origin.SettingEndpoint: "s3-endpoint", origin.SettingRegion: "s3-region", upstream.SettingTimeout: "origin-timeout", upstream.SettingChannel: "channel", upstream.SettingPoll: "channel-poll",

	server.SettingState: "state", server.SettingFetches: "fetches", server.SettingDensity: "density", server.SettingTimeout: "oven-timeout",
	server.SettingPieces: "pieces", server.SettingOven: "oven", server.SettingRefresh: "refresh", server.SettingRetain: "retain",
	server.SettingMetrics: "metrics-listen", server.SettingPublicURL: "public-url", server.SettingPeers: "peer-url", server.SettingWatchers: "limit-watchers",
	server.SettingUser: "user", server.SettingRun: "run", server.SettingPages: "page-cache-limit", server.SettingCacheSize: "cache-size", server.SettingAdminKey: "admin-key-file",

	nginx.SettingListen: "listen", nginx.SettingRedirect: "redirect-from", nginx.SettingServerName: "server-name", nginx.SettingCertificate: "tls-cert",
	nginx.SettingKey: "tls-key", nginx.SettingChallenges: "acme-webroot", nginx.SettingMount: "mount", nginx.SettingSocket: "run", nginx.SettingRunDir: "run",
	nginx.SettingAccessLog: "access-log", nginx.SettingUser: "user", nginx.SettingProfile: "profile", nginx.SettingProxies: "trusted-proxy",
	nginx.SettingThreads: "read-threads", nginx.SettingClient: "limit-connections", nginx.SettingNetwork: "limit-network", nginx.SettingTotal: "limit-total",
	nginx.SettingRequests: "limit-requests", nginx.SettingBurst: "limit-burst", nginx.SettingCostly: "limit-costly", nginx.SettingCostlyBurst: "limit-costly-burst",
	nginx.SettingBytes: "limit-rate",

	bake.SettingWork: "work", signature.SettingKeys: "sign-key", signature.SettingPassphrase: "sign-passphrase-file", signature.SettingKeyring: "keyring",
}

// blameFlags makes an error that a package found in its Config name the flags.
func blameFlags(err error) error {
	return settings.BlameConfig(err, flagOf)
}

// absolute makes a path that a flag gave independent of the current directory,
// unless it is empty.
func absolute(path *string) error {
	if *path == "" {
		return nil
	}
	abs, err := filepath.Abs(*path)
	if err != nil {
		return fmt.Errorf("make %s absolute: %w", *path, err)
	}
	*path = abs
	return nil
}

// hintFor returns what to do about an error of a command, where the error itself does not say
// it.
func hintFor(cmd *cobra.Command, err error) string {
	if e, ok := errors.AsType[interface {
		error
		Hint() string
	}](err); ok {
		return e.Hint()
	}
	denied := errors.Is(err, os.ErrPermission)
	flag, dir := directoryOf(cmd, err)
	switch {
	case errors.Is(err, syscall.ENOSPC) && flag != "":
		return fmt.Sprintf("the file system of --%s (%s) is full: make room there, or name another directory", flag, dir)
	case denied && server.IsChild():
		return "isofs gave up root's rights; choose a folder that --user may enter (not one below /root), or another --user"
	case denied && flag != "":
		return fmt.Sprintf("run as root, or name a directory of your own by --%s", flag)
	}
	return ""
}

// directoryOf returns the command's directory that has the file of an error, and the flag
// that names it; "" if the file is in none.
func directoryOf(cmd *cobra.Command, err error) (flag, dir string) {
	path := ""
	if e, ok := errors.AsType[*os.PathError](err); ok {
		path = e.Path
	} else if e, ok := errors.AsType[*os.LinkError](err); ok {
		path = e.New
	}
	value := func(name string) string {
		if f := cmd.Flags().Lookup(name); f != nil {
			return f.Value.String()
		}
		return ""
	}
	cache := value("cache")
	if cache == "" {
		cache = filepath.Join(value("state"), "cache")
	}
	for _, d := range [][2]string{{"cache", cache}, {"run", value("run")}, {"mount", value("mount")}, {"state", value("state")}} {
		in := cmd.Flags().Lookup(d[0]) != nil && d[1] != ""
		if below, err := filepath.Rel(d[1], path); in && err == nil && path != "" && below != ".." && !strings.HasPrefix(below, "../") {
			return d[0], d[1]
		}
	}
	return "", ""
}

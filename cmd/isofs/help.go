package main

import (
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// flagGroups are the groups in which --help shows the flags of commands that
// have many, each in the order in which one would read them.
var flagGroups = []struct {
	title string
	flags []string
}{
	{"Base", []string{
		"base", "channel", "channel-poll", "mirror", "origin-redirect", "hedge", "fetches", "origin-timeout", "prefill",
		"s3-endpoint", "s3-region", "s3-path-style", "s3-anonymous",
	}},
	{"Cache", []string{"cache", "cache-size", "scrub-rate", "profile", "page-cache-limit"}},
	{"Pieces", []string{"pieces", "oven", "oven-timeout", "density", "refresh", "retain"}},
	{"Web", []string{
		"mount", "listen", "server-name", "tls-cert", "tls-key", "redirect-from", "acme-webroot",
		"nginx", "read-threads", "access-log", "trusted-proxy", "public-url", "peer-url", "grace",
	}},
	{"Limits", []string{
		"limit-connections", "limit-network", "limit-requests", "limit-burst", "limit-rate", "limit-costly", "limit-costly-burst", "limit-total", "limit-watchers",
		"limit-new-burst", "limit-new", "limit-new-total-burst", "limit-new-total", "limit-fetches", "limit-snapshots",
	}},
	{"Signing", []string{"sign-key", "sign-passphrase-file", "keyring"}},
	{"Operator", []string{"state", "run", "user", "admin-key-file", "metrics-listen"}},
}

// fewGroups is how many groups are not told from each other.
const fewGroups = 2

// setHelp has the help of cmd, and of the commands below it, show flags in groups.
func setHelp(cmd *cobra.Command) {
	cobra.AddTemplateFunc("groupedFlags", groupedFlags)
	cmd.SetUsageTemplate(strings.Replace(cmd.UsageTemplate(),
		"Flags:\n{{.LocalFlags.FlagUsages | trimTrailingWhitespaces}}", "{{groupedFlags .LocalFlags}}", 1))
}

// groupedFlags are the flags of a command and what they are for.
func groupedFlags(flags *pflag.FlagSet) string {
	text, groups := "", 0
	for _, group := range flagGroups {
		some := subset(flags, group.flags)
		if !some.HasAvailableFlags() {
			continue
		}
		groups++
		text += "\n\n" + group.title + ":\n" + some.FlagUsages()
	}
	if groups <= fewGroups {
		return "Flags:\n" + strings.TrimRight(flags.FlagUsages(), "\n")
	}
	rest := subset(flags, nil)
	flags.VisitAll(func(f *pflag.Flag) {
		if groupOf(f.Name) == "" {
			rest.AddFlag(f)
		}
	})
	text = "Flags:\n" + rest.FlagUsages() + text
	return strings.TrimRight(strings.ReplaceAll(text, "\n\n\n", "\n\n"), "\n")
}

// subset is a set of these flags, in this order.
func subset(flags *pflag.FlagSet, names []string) *pflag.FlagSet {
	some := pflag.NewFlagSet("", pflag.ContinueOnError)
	some.SortFlags = false
	for _, n := range names {
		if f := flags.Lookup(n); f != nil {
			some.AddFlag(f)
		}
	}
	return some
}

// groupOf is the title of the group that a flag is in.
func groupOf(flag string) string {
	for _, group := range flagGroups {
		if slices.Contains(group.flags, flag) {
			return group.title
		}
	}
	return ""
}

// hide leaves out of the help of cmd all flags of these groups, and others by
// name, which it takes since one file of settings is for all commands, and has
// no use for.
func hide(cmd *cobra.Command, names ...string) {
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		if slices.Contains(names, f.Name) || slices.Contains(names, groupOf(f.Name)) {
			f.Hidden = true
		}
	})
}

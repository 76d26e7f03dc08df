package settings

import (
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// A Group is flags that --help shows together, by name, in the order of reading.
type Group struct {
	Title string
	Flags []string
}

// Groups are the groups of a program, in the order of --help.
type Groups []Group

// fewGroups is the number of groups up to which --help shows one list.
const fewGroups = 2

// SetHelp makes the help of cmd, and of the commands below it, show flags in groups.
func (g Groups) SetHelp(cmd *cobra.Command) {
	cobra.AddTemplateFunc("groupedFlags", g.usages)
	cmd.SetUsageTemplate(strings.Replace(cmd.UsageTemplate(),
		"Flags:\n{{.LocalFlags.FlagUsages | trimTrailingWhitespaces}}", "{{groupedFlags .LocalFlags}}", 1))
}

// usages returns the flags of a command and what they are for.
func (g Groups) usages(flags *pflag.FlagSet) string {
	text, groups := "", 0
	for _, group := range g {
		some := subset(flags, group.Flags)
		if !some.HasAvailableFlags() {
			continue
		}
		groups++
		text += "\n\n" + group.Title + ":\n" + some.FlagUsages()
	}
	if groups <= fewGroups {
		return "Flags:\n" + strings.TrimRight(flags.FlagUsages(), "\n")
	}
	rest := subset(flags, nil)
	flags.VisitAll(func(f *pflag.Flag) {
		if g.titleOf(f.Name) == "" {
			rest.AddFlag(f)
		}
	})
	text = "Flags:\n" + rest.FlagUsages() + text
	return strings.TrimRight(strings.ReplaceAll(text, "\n\n\n", "\n\n"), "\n")
}

// subset returns a set of these flags, in this order.
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

// titleOf returns the title of the group of a flag.
func (g Groups) titleOf(flag string) string {
	for _, group := range g {
		if slices.Contains(group.Flags, flag) {
			return group.Title
		}
	}
	return ""
}

// Hide leaves flags out of the help of cmd, by their names or those of their groups.
// The command takes them all the same, since one file of settings is for all commands.
func (g Groups) Hide(cmd *cobra.Command, names ...string) {
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		if slices.Contains(names, f.Name) || slices.Contains(names, g.titleOf(f.Name)) {
			f.Hidden = true
		}
	})
}

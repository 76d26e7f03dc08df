package main

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"github.com/xhit/go-str2duration/v2"

	"aesthetic.computer/isofs/bake"
	"aesthetic.computer/isofs/server"
)

// The values of flags, of which there is one kind each for sizes, durations and
// choices: whether they are typed, in the environment or in a file, they are
// read alike, and wrong ones are named alike (settingError).

// A size is a number of bytes as people write it, and as dd and truncate read
// it: 4G and 4GiB are of 1024, 4GB is of 1000.
type size int64

var units = []struct {
	suffix string
	bytes  int64
}{
	{"TiB", 1 << 40}, {"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10},
	{"TB", 1e12}, {"GB", 1e9}, {"MB", 1e6}, {"kB", 1e3},
}

// String implements pflag.Value.
func (s size) String() string {
	for _, u := range units {
		if int64(s) >= u.bytes && int64(s)%u.bytes == 0 {
			return fmt.Sprintf("%d%s", int64(s)/u.bytes, u.suffix)
		}
	}
	return strconv.FormatInt(int64(s), 10)
}

// Set implements pflag.Value.
func (s *size) Set(text string) error {
	whole := text
	if letter := strings.ToUpper(text[max(len(text)-1, 0):]); letter != "" && strings.Contains("KMGT", letter) {
		whole += "iB" // humanize takes 4G for 4GB
	}
	n, err := humanize.ParseBytes(whole)
	// humanize leaves commas out, so that 1,5GiB were 15GiB.
	if err != nil || n > math.MaxInt64 || strings.Contains(text, ",") {
		return fmt.Errorf("%q is not a size like 512MiB, 4G (of 1024) or 4GB (of 1000)", text)
	}
	*s = size(n)
	return nil
}

// Type implements pflag.Value.
func (size) Type() string { return "size" }

// A duration is a time as people write it: what Go reads, and days and weeks.
type duration time.Duration

func durationVar(flags *pflag.FlagSet, p *time.Duration, name string, otherwise time.Duration, usage string) {
	*p = otherwise
	flags.Var((*duration)(p), name, usage)
}

// String implements pflag.Value.
func (d duration) String() string { return server.FormatDuration(time.Duration(d)) }

// Set implements pflag.Value.
func (d *duration) Set(text string) error {
	n, err := str2duration.ParseDuration(text)
	if err != nil {
		return fmt.Errorf("%q is not a time like 30s, 1h30m or 7d", text)
	}
	*d = duration(n)
	return nil
}

// Type implements pflag.Value.
func (duration) Type() string { return "duration" }

// A choice is one of several words, which the shell completes (completeChoices).
type choice struct {
	value *string
	words []string
}

func choiceVar(flags *pflag.FlagSet, p *string, name, otherwise string, words []string, usage string) {
	*p = otherwise
	flags.Var(&choice{p, words}, name, usage)
}

// String implements pflag.Value.
func (c *choice) String() string { return *c.value }

// Set implements pflag.Value.
func (c *choice) Set(text string) error {
	if b, err := strconv.ParseBool(text); err == nil {
		text = strconv.FormatBool(b) // 1 and t are true, too
	}
	at := slices.IndexFunc(c.words, func(word string) bool { return strings.EqualFold(word, text) })
	if at < 0 {
		return fmt.Errorf("%q is none of %s", text, strings.Join(c.words, ", "))
	}
	*c.value = c.words[at]
	return nil
}

// Type implements pflag.Value.
func (*choice) Type() string { return "string" }

// offered are words for flags that take others, too: names of bases.
var offered = map[string][]string{
	"flavor": {bake.Flavor, bake.FlavorDebian, bake.FlavorFedora},
	"arch":   {"amd64"},
}

// completeChoices has the shell offer the words of each choice, of a command
// and of those below it.
func completeChoices(cmd *cobra.Command) {
	complete := func(f *pflag.Flag) {
		words := offered[f.Name]
		if c, ok := f.Value.(*choice); ok {
			words = c.words
		}
		if words != nil {
			_ = cmd.RegisterFlagCompletionFunc(f.Name, cobra.FixedCompletions(words, cobra.ShellCompDirectiveNoFileComp)) // fails only for a flag that is not there
		}
	}
	cmd.Flags().VisitAll(complete)
	cmd.PersistentFlags().VisitAll(complete)
	for _, sub := range cmd.Commands() {
		completeChoices(sub)
	}
}

// unfit says what is wrong with a value that a flag does not take. The values
// here repeat it themselves.
func unfit(f *pflag.Flag, value string, cause error) error {
	switch f.Value.(type) {
	case *size, *duration, *choice:
		return &settingError{flag: f.Name, err: cause}
	}
	return wrongFlag(f.Name, "%q %w", value, cause)
}

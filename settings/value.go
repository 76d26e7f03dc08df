package settings

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
)

// A Size is the value of a flag: a number of bytes as people write it, and as dd
// and truncate read it. 4G and 4GiB are multiples of 1024, 4GB is one of 1000.
type Size int64

var units = []struct {
	suffix string
	bytes  int64
}{
	{"TiB", 1 << 40}, {"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10},
	{"TB", 1e12}, {"GB", 1e9}, {"MB", 1e6}, {"kB", 1e3},
}

// String implements pflag.Value.
func (s Size) String() string {
	for _, u := range units {
		if int64(s) >= u.bytes && int64(s)%u.bytes == 0 {
			return fmt.Sprintf("%d%s", int64(s)/u.bytes, u.suffix)
		}
	}
	return strconv.FormatInt(int64(s), 10)
}

// Set implements pflag.Value.
func (s *Size) Set(text string) error {
	whole := text
	if letter := strings.ToUpper(text[max(len(text)-1, 0):]); letter != "" && strings.Contains("KMGT", letter) {
		whole += "iB" // humanize takes 4G for 4GB
	}
	n, err := humanize.ParseBytes(whole)
	// humanize leaves commas out: 1,5GiB would become 15GiB.
	if err != nil || n > math.MaxInt64 || strings.Contains(text, ",") {
		return fmt.Errorf("%q is not a size like 512MiB, 4G (of 1024) or 4GB (of 1000)", text)
	}
	*s = Size(n)
	return nil
}

// Type implements pflag.Value.
func (Size) Type() string { return "size" }

// A Duration is the value of a flag: a time as people write it. It takes what Go
// takes, and days and weeks.
type Duration time.Duration

// DurationVar defines a flag whose value is a Duration.
func DurationVar(flags *pflag.FlagSet, p *time.Duration, name string, otherwise time.Duration, usage string) {
	*p = otherwise
	flags.Var((*Duration)(p), name, usage)
}

// String implements pflag.Value.
func (d Duration) String() string { return FormatDuration(time.Duration(d)) }

// Set implements pflag.Value.
func (d *Duration) Set(text string) error {
	n, err := str2duration.ParseDuration(text)
	if err != nil {
		return fmt.Errorf("%q is not a time like 30s, 1h30m or 7d", text)
	}
	*d = Duration(n)
	return nil
}

// Type implements pflag.Value.
func (Duration) Type() string { return "duration" }

// A Choice is the value of a flag: one of several words, which the shell
// completes (CompleteChoices).
type Choice struct {
	value *string
	words []string
}

// ChoiceVar defines a flag whose value is a Choice.
func ChoiceVar(flags *pflag.FlagSet, p *string, name, otherwise string, words []string, usage string) {
	*p = otherwise
	flags.Var(&Choice{p, words}, name, usage)
}

// String implements pflag.Value.
func (c *Choice) String() string { return *c.value }

// Set implements pflag.Value.
func (c *Choice) Set(text string) error {
	if b, err := strconv.ParseBool(text); err == nil {
		text = strconv.FormatBool(b) // 1 and t are true, too
	}
	at := slices.IndexFunc(c.words, func(word string) bool { return strings.EqualFold(word, text) })
	if at < 0 {
		return fmt.Errorf("%q is not one of %s", text, strings.Join(c.words, ", "))
	}
	*c.value = c.words[at]
	return nil
}

// Type implements pflag.Value.
func (*Choice) Type() string { return "string" }

// Words returns the words that the flag takes.
func (c *Choice) Words() []string { return c.words }

// CompleteChoices makes the shell offer the words of each choice of a command and
// of those below it. offered has the words for other flags, by name, which take
// other words too.
func CompleteChoices(cmd *cobra.Command, offered map[string][]string) {
	complete := func(f *pflag.Flag) {
		words := offered[f.Name]
		if c, ok := f.Value.(*Choice); ok {
			words = c.words
		}
		if words != nil {
			_ = cmd.RegisterFlagCompletionFunc(f.Name, cobra.FixedCompletions(words, cobra.ShellCompDirectiveNoFileComp)) // fails only for a flag that is not there
		}
	}
	cmd.Flags().VisitAll(complete)
	cmd.PersistentFlags().VisitAll(complete)
	for _, sub := range cmd.Commands() {
		CompleteChoices(sub, offered)
	}
}

// FormatDuration writes a duration as people do: 2m and 7d, not 2m0s and 168h0m0s.
func FormatDuration(d time.Duration) string {
	const day = 24 * time.Hour
	if d >= day && d%day == 0 {
		return fmt.Sprintf("%dd", d/day)
	}
	text := d.String()
	for _, zero := range []string{"m0s", "h0m"} {
		if strings.HasSuffix(text, zero) {
			text = text[:len(text)-2]
		}
	}
	return text
}

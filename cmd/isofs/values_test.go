package main

import (
	"bytes"
	"context"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

func TestSizes(t *testing.T) {
	for text, want := range map[string]size{
		"0": 0, "1": 1, "1000000": 1000000, "1K": 1 << 10, "512MiB": 512 << 20, "4GiB": 4 << 30,
		"4g": 4 << 30, "4 GiB": 4 << 30, "2TiB": 2 << 40, "7b": 7, "4 G": 4 << 30, "2m": 2 << 20,
		"1MB": 1e6, "4GB": 4e9, "500 kB": 500e3, "1.5GiB": 3 << 29, "0.5k": 512, "3B": 3,
	} {
		var got size
		if err := got.Set(text); err != nil || got != want {
			t.Errorf("%q is %d (%v), want %d", text, got, err, want)
		}
		var again size
		if err := again.Set(want.String()); err != nil || again != want {
			t.Errorf("%d is written %q, which is read as %d (%v)", want, want, again, err)
		}
	}
	for _, text := range []string{"", "-1", "G", "GiB", "1XB", "1 2", "9999999TiB", "1MiBMiB", "0x10", "1,5GiB", "1e3", "NaN", "1.2.3M"} {
		var got size
		if err := got.Set(text); err == nil {
			t.Errorf("%q is taken as %d", text, got)
		}
	}
}

// TestDurations: what Go reads means what it always did, and there are days and weeks.
func TestDurations(t *testing.T) {
	const day = 24 * time.Hour
	for text, want := range map[string]time.Duration{
		"0": 0, "30s": 30 * time.Second, "1.5h": 90 * time.Minute, "1h30m": 90 * time.Minute, "168h0m0s": 7 * day,
		"7d": 7 * day, "1w": 7 * day, "1d12h": 36 * time.Hour, "100ms": 100 * time.Millisecond, "-5s": -5 * time.Second,
	} {
		var got duration
		if err := got.Set(text); err != nil || time.Duration(got) != want {
			t.Errorf("%q is %s (%v), want %s", text, got, err, want)
		}
	}
	for _, text := range []string{"", "7", "7x", "d", "1,5h", "7 d", "1e3s", "9999999999d"} {
		var got duration
		if err := got.Set(text); err == nil {
			t.Errorf("%q is taken as %s", text, got)
		}
	}
	for want, d := range map[string]time.Duration{
		"0s": 0, "30s": 30 * time.Second, "1m": time.Minute, "1m30s": 90 * time.Second, "10m": 10 * time.Minute, "1h": time.Hour, "1h0m1s": time.Hour + time.Second,
		"36h": 36 * time.Hour, "7d": 7 * day, "30d": 30 * day, "100ms": 100 * time.Millisecond,
	} {
		if got := duration(d).String(); got != want {
			t.Errorf("%s is written %s, want %s", d, got, want)
		}
	}
	for d := range time.Duration(2000) {
		var again duration
		if err := again.Set(duration(d * 97 * time.Second).String()); err != nil || again != duration(d*97*time.Second) {
			t.Errorf("%s is written %s and read as %s (%v)", d*97*time.Second, duration(d*97*time.Second), again, err)
		}
	}
}

// TestFlagsAreOfOneKind: no command reads sizes, times or choices in a way of
// its own, and the shell completes each choice with the words that it takes.
func TestFlagsAreOfOneKind(t *testing.T) {
	choices := map[string]string{}
	var walk func(cmd *cobra.Command)
	walk = func(cmd *cobra.Command) {
		look := func(f *pflag.Flag) {
			if kind := f.Value.Type(); kind == "duration" {
				if _, own := f.Value.(*duration); !own {
					t.Errorf("%s: --%s does not read days", cmd.CommandPath(), f.Name)
				}
			}
			words := offered[f.Name]
			if c, ok := f.Value.(*choice); ok {
				words = c.words
			}
			if words != nil {
				choices[f.Name] = strings.Join(words, "\n")
				args := append(strings.Fields(cmd.CommandPath())[1:], "--"+f.Name+"=")
				root, out := newRoot(), &bytes.Buffer{}
				root.SetArgs(append([]string{cobra.ShellCompNoDescRequestCmd}, args...))
				root.SetOut(out)
				root.SetErr(&bytes.Buffer{})
				if _, err := execute(context.Background(), root); err != nil || !strings.HasPrefix(out.String(), choices[f.Name]+"\n:") {
					t.Errorf("%s: --%s is completed by %q (%v), want %q", cmd.CommandPath(), f.Name, out, err, choices[f.Name])
				}
			}
		}
		cmd.Flags().VisitAll(look)
		cmd.PersistentFlags().VisitAll(look)
		for _, sub := range cmd.Commands() {
			walk(sub)
		}
	}
	walk(newRoot())
	for _, name := range []string{"profile", "log-level", "log-format", "as", "firmware", "accel", "s3-path-style", "arch", "flavor"} {
		if choices[name] == "" {
			t.Errorf("--%s has no list of words", name)
		}
	}
}

func TestChoice(t *testing.T) {
	got := ""
	c := &choice{&got, []string{"one", "true", "false"}}
	for text, want := range map[string]string{"one": "one", "ONE": "one", "1": "true", "f": "false"} {
		if err := c.Set(text); err != nil || got != want {
			t.Errorf("%q is %q (%v), want %q", text, got, err, want)
		}
	}
	if err := c.Set("two"); err == nil || !strings.Contains(err.Error(), `"two" is none of one, true, false`) {
		t.Errorf("two: %v", err)
	}
}

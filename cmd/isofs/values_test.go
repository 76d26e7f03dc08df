package main

import (
	"bytes"
	"context"
	"strings"
	"testing"

	"aesthetic.computer/isofs/settings"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// TestFlagsAreOfOneKind: all commands read sizes, times and choices in the same
// way, and the shell completes each choice with the words that it takes.
func TestFlagsAreOfOneKind(t *testing.T) {
	choices := map[string]string{}
	var walk func(cmd *cobra.Command)
	walk = func(cmd *cobra.Command) {
		look := func(f *pflag.Flag) {
			if kind := f.Value.Type(); kind == "duration" {
				if _, own := f.Value.(*settings.Duration); !own {
					t.Errorf("%s: --%s does not read days", cmd.CommandPath(), f.Name)
				}
			}
			words := offered[f.Name]
			if c, ok := f.Value.(*settings.Choice); ok {
				words = c.Words()
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

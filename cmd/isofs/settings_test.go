package main

import (
	"errors"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"aesthetic.computer/isofs/fault"
	"aesthetic.computer/isofs/settings"
)

func TestExitStatuses(t *testing.T) {
	for err, want := range map[error]int{
		errors.New("x"):                             exitFailed,
		settings.Usage(errors.New("x")):             exitUsage,
		errors.Join(fault.Invalid):                  exitUsage,
		errors.Join(errors.New("x"), fault.Corrupt): exitCorrupt,
	} {
		if got := exitStatus(err); got != want {
			t.Errorf("%v: status %d, want %d", err, got, want)
		}
	}
}

// Every command explains itself. Flags of one name have one kind, since one
// file of settings serves all commands.
func TestCommandsAreConsistent(t *testing.T) {
	kinds := map[string]string{}
	var walk func(cmd *cobra.Command)
	walk = func(cmd *cobra.Command) {
		if cmd.Short == "" {
			t.Errorf("%s has no short description", cmd.CommandPath())
		}
		cmd.Flags().VisitAll(func(f *pflag.Flag) {
			if kind, ok := kinds[f.Name]; ok && kind != f.Value.Type() {
				t.Errorf("%s: --%s is a %s here and a %s elsewhere", cmd.CommandPath(), f.Name, f.Value.Type(), kind)
			}
			kinds[f.Name] = f.Value.Type()
		})
		for _, sub := range cmd.Commands() {
			walk(sub)
		}
	}
	walk(newRoot())
}

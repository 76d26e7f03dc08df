package settings

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// FlagError says what is wrong with a flag that was typed (cobra.Command.SetFlagErrorFunc).
func FlagError(cmd *cobra.Command, err error) error {
	if invalid, ok := errors.AsType[*pflag.InvalidValueError](err); ok {
		return Usage(unfit(invalid.GetFlag(), invalid.GetValue(), invalid.Unwrap()))
	}
	hint := cmd.CommandPath() + " --help lists the flags"
	if unknown, ok := errors.AsType[*pflag.NotExistError](err); ok && len(unknown.GetSpecifiedName()) > 1 {
		var known []string
		cmd.Flags().VisitAll(func(f *pflag.Flag) { known = append(known, f.Name) })
		err = fmt.Errorf("there is no flag --%s%s", unknown.GetSpecifiedName(), nearest(unknown.GetSpecifiedName(), known, "--"))
	}
	return &usageError{err: err, hint: hint}
}

// CommandError says what is wrong with a command or its arguments. It takes cobra's error.
func CommandError(cmd *cobra.Command, err error) error {
	text, near, ok := strings.Cut(strings.TrimSpace(err.Error()), "\n\nDid you mean this?\n")
	if ok {
		text += "; did you mean " + strings.Join(strings.Fields(near), " or ") + "?"
	}
	if cmd.HasAvailableSubCommands() {
		return &usageError{err: errors.New(text), hint: cmd.CommandPath() + " --help lists the commands"}
	}
	switch args := cmd.Flags().Args(); {
	case len(args) == 0:
		text = cmd.CommandPath() + " needs an argument"
	case len(cmd.ValidArgs) == 0:
		text = fmt.Sprintf("%s takes other arguments than %q", cmd.CommandPath(), args)
	}
	return &usageError{err: errors.New(text), hint: "usage: " + cmd.UseLine()}
}

// OnlyCommands is the Args of a command that has others below it and does
// nothing itself.
func OnlyCommands(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	near := ""
	cmd.SuggestionsMinimumDistance = 2
	if all := cmd.SuggestionsFor(args[0]); len(all) > 0 {
		near = "\n\nDid you mean this?\n" + strings.Join(all, "\n")
	}
	return fmt.Errorf("unknown command %q for %q%s", args[0], cmd.CommandPath(), near)
}

// nearest returns a question whether an unknown name was meant to be a similar known one;
// "" if none is similar. Cobra finds similar commands, so the names become commands.
func nearest(name string, known []string, before string) string {
	var names cobra.Command
	names.SuggestionsMinimumDistance = 2
	for _, k := range slices.Compact(slices.Sorted(slices.Values(known))) {
		names.AddCommand(&cobra.Command{Use: k, Run: func(*cobra.Command, []string) {}})
	}
	near := names.SuggestionsFor(name)
	if len(near) == 0 {
		return ""
	}
	for i, n := range near {
		near[i] = before + n
	}
	return "; did you mean " + strings.Join(near, " or ") + "?"
}

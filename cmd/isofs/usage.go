package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"aesthetic.computer/isofs/fault"
	"aesthetic.computer/isofs/server"
	"aesthetic.computer/isofs/upstream"
)

// What is said of an error is made up here: the setting is called what the user
// called it, and a hint follows only where it helps.

// errUsage marks what the user typed wrong.
var errUsage = errors.New("wrong usage")

// A usageError is what the user typed wrong.
type usageError struct {
	err  error
	hint string // where to read on, if the error does not say what to do
}

func (e *usageError) Error() string   { return e.err.Error() }
func (e *usageError) Unwrap() []error { return []error{e.err, errUsage} }

// usage joins what the user typed wrong; nil if nothing is.
func usage(wrong ...error) error {
	if err := errors.Join(wrong...); err != nil {
		return &usageError{err: err}
	}
	return nil
}

// A settingError says what is wrong with a setting.
type settingError struct {
	flag    string // its name
	given   string // what the user gave it by, if that is not the flag: ISOFS_BASE, or /etc/isofs.toml: base
	foreign bool   // the command has no such flag: it took the value from elsewhere
	err     error  // follows the name in the sentence
	apart   bool   // with a colon between
}

func (e *settingError) Error() string {
	name := e.given
	if name == "" {
		name = "--" + e.flag
	}
	switch {
	case e.apart && e.foreign:
		return e.err.Error()
	case e.apart:
		name += ":"
	}
	return name + " " + e.err.Error()
}

func (e *settingError) Unwrap() error { return e.err }

// wrongFlag says what is wrong with a flag in a sentence that begins with its name.
func wrongFlag(flag, format string, a ...any) error {
	return &settingError{flag: flag, err: fmt.Errorf(format, a...)}
}

// blame says which flag an error is of, which is nil if the error is.
func blame(flag string, err error) error {
	if err == nil {
		return nil
	}
	return &settingError{flag: flag, err: err, apart: true}
}

// settingRun is --run, in errors of server.Lock.
const settingRun = "run directory"

// flagOf are the flags that the values of the packages' Configs come from.
var flagOf = map[string]string{
	upstream.SettingDir: "state", upstream.SettingAddress: "base", upstream.SettingMirrors: "mirror", upstream.SettingRedirects: "origin-redirect",
	upstream.SettingTimeout: "origin-timeout", upstream.SettingChannel: "channel", upstream.SettingPoll: "channel-poll",

	server.SettingState: "state", server.SettingFetches: "fetches", server.SettingDensity: "density", server.SettingTimeout: "oven-timeout",
	server.SettingPieces: "pieces", server.SettingOven: "oven", server.SettingRefresh: "refresh", server.SettingRetain: "retain",
	server.SettingMetrics: "metrics-listen", server.SettingPublicURL: "public-url", server.SettingWatchers: "limit-watchers", settingRun: "run",
}

// blameSettings says of which flags an error is that says of which values of a
// Config it is. Any other is returned as it is.
func blameSettings(err error) error {
	all := fault.AsSettings(err)
	if all == nil {
		return err
	}
	var named []error
	for _, e := range all {
		switch {
		case errors.Is(e, upstream.ErrTwoSources):
			named = append(named, wrongFlag("base", "and --channel both say what to serve: give one of them"))
		case e.Predicate:
			named = append(named, &settingError{flag: flagOf[e.Setting], err: e.Err})
		default:
			named = append(named, blame(flagOf[e.Setting], e.Err))
		}
	}
	if len(named) == 1 {
		return named[0]
	}
	return errors.Join(named...)
}

// givenKey is where a flag notes what its value came by.
const givenKey = "isofs-given-by"

// noteGiven notes what gave a flag its value, and givenBy tells it; "" is the flag itself.
func noteGiven(f *pflag.Flag, by string) {
	if f.Annotations == nil {
		f.Annotations = map[string][]string{}
	}
	f.Annotations[givenKey] = []string{by}
}

func givenBy(f *pflag.Flag) string {
	if by := f.Annotations[givenKey]; len(by) > 0 {
		return by[0]
	}
	return ""
}

// nameSettings has the errors in err name settings as the user did.
func nameSettings(flags *pflag.FlagSet, err error) {
	if e, ok := any(err).(*settingError); ok && e.given == "" {
		if f := flags.Lookup(e.flag); f != nil {
			e.given = givenBy(f)
		} else {
			e.foreign = true
		}
	}
	switch e := any(err).(type) { // errors.As would stop at the first
	case interface{ Unwrap() error }:
		nameSettings(flags, e.Unwrap())
	case interface{ Unwrap() []error }:
		for _, inner := range e.Unwrap() {
			nameSettings(flags, inner)
		}
	}
}

// flagError says what is wrong with a flag that was typed.
func flagError(cmd *cobra.Command, err error) error {
	if invalid, ok := errors.AsType[*pflag.InvalidValueError](err); ok {
		return usage(unfit(invalid.GetFlag(), invalid.GetValue(), invalid.Unwrap()))
	}
	hint := cmd.CommandPath() + " --help lists the flags"
	if unknown, ok := errors.AsType[*pflag.NotExistError](err); ok && len(unknown.GetSpecifiedName()) > 1 {
		var known []string
		cmd.Flags().VisitAll(func(f *pflag.Flag) { known = append(known, f.Name) })
		err = fmt.Errorf("there is no flag --%s%s", unknown.GetSpecifiedName(), nearest(unknown.GetSpecifiedName(), known, "--"))
	}
	return &usageError{err: err, hint: hint}
}

// commandError says what is wrong with a command or its arguments, in cobra's words.
func commandError(cmd *cobra.Command, err error) error {
	said, near, ok := strings.Cut(strings.TrimSpace(err.Error()), "\n\nDid you mean this?\n")
	if ok {
		said += "; did you mean " + strings.Join(strings.Fields(near), " or ") + "?"
	}
	if cmd.HasAvailableSubCommands() {
		return &usageError{err: errors.New(said), hint: cmd.CommandPath() + " --help lists the commands"}
	}
	switch args := cmd.Flags().Args(); {
	case len(args) == 0:
		said = cmd.CommandPath() + " needs an argument"
	case len(cmd.ValidArgs) == 0:
		said = fmt.Sprintf("%s takes other arguments than %q", cmd.CommandPath(), args)
	}
	return &usageError{err: errors.New(said), hint: "usage: " + cmd.UseLine()}
}

// onlyCommands is the Args of a command that has others below it and does
// nothing itself.
func onlyCommands(cmd *cobra.Command, args []string) error {
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

// nearest asks whether a name that is not known was meant to be one that is; "" if
// none is like it. What is like it cobra knows of commands.
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

// hintFor says what to do about an error of a command, where the error itself
// does not.
func hintFor(cmd *cobra.Command, err error) string {
	if e, ok := errors.AsType[*usageError](err); ok {
		return e.hint
	}
	denied := errors.Is(err, os.ErrPermission)
	flag, dir := directoryOf(cmd, err)
	switch {
	case errors.Is(err, syscall.ENOSPC) && flag != "":
		return fmt.Sprintf("the file system of --%s (%s) is full: make room there, or name another directory", flag, dir)
	case denied && isChild():
		return "isofs gave up root's rights; choose a folder that --user may enter (not one below /root), or another --user"
	case denied && flag != "":
		return fmt.Sprintf("run as root, or name a directory of your own by --%s", flag)
	}
	return ""
}

// directoryOf returns the directory of the command's in which that file is that
// an error is of, and the flag that names it; "" if it is in none.
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

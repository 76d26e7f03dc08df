package main

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"slices"
	"strings"

	"github.com/BurntSushi/toml"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// defaultConfig is read when it exists and --config does not say otherwise.
const defaultConfig = "/etc/isofs.toml"

// bindSettings gives every flag that was not typed the value of its
// environment variable, else that of the configuration file.
func bindSettings(cmd *cobra.Command) error {
	flags := cmd.Flags()
	if isChild() {
		resolved, err := handedDown()
		if err != nil {
			return err
		}
		return resolved.apply(flags)
	}
	if err := fromEnvironment(flags.Lookup("config"), flags); err != nil {
		return err
	}
	path, _ := flags.GetString("config")
	file, err := readConfig(path)
	if err != nil {
		return err
	}
	known := knownFlags(cmd.Root())
	for key := range file {
		if !slices.Contains(known, key) {
			return usage(fmt.Errorf("%s: %q is no setting of isofs; settings are named like flags, without the dashes%s", configName(path), key, nearest(key, known, "")))
		}
	}
	var failed error
	flags.VisitAll(func(f *pflag.Flag) {
		if failed == nil {
			failed = fromEnvironment(f, flags)
		}
	})
	// Base and channel say the same in two ways, so the one that was typed wins over the file's other one.
	for _, typed := range [][2]string{{"base", "channel"}, {"channel", "base"}, {"channel", "mirror"}} {
		if f := flags.Lookup(typed[0]); f != nil && f.Changed {
			delete(file, typed[1])
		}
	}
	flags.VisitAll(func(f *pflag.Flag) {
		if value, ok := file[f.Name]; ok && failed == nil && !f.Changed {
			failed = setBy(configName(path)+": "+f.Name, f, flags, value)
		}
	})
	return failed
}

// envName is the environment variable of a flag: cache-size is ISOFS_CACHE_SIZE.
func envName(flag string) string {
	return "ISOFS_" + strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))
}

func fromEnvironment(f *pflag.Flag, flags *pflag.FlagSet) error {
	if f == nil || f.Changed {
		return nil
	}
	value, ok := os.LookupEnv(envName(f.Name))
	if !ok {
		return nil
	}
	return setBy(envName(f.Name), f, flags, value)
}

// setBy gives a flag the value that something else than the flag itself gave.
func setBy(by string, f *pflag.Flag, flags *pflag.FlagSet, value string) error {
	noteGiven(f, by)
	err := flags.Set(f.Name, value)
	if invalid, ok := errors.AsType[*pflag.InvalidValueError](err); ok {
		err = unfit(f, value, invalid.Unwrap())
	}
	return usage(err)
}

// ownVariables are those of the environment that are isofs's and no flag's.
var ownVariables = []string{childMark, keyVariables[0]}

// warnOfVariables names variables that look like settings and are none. It is a
// warning only, unlike in a file: scripts and other programs have variables, too.
func warnOfVariables(root *cobra.Command) {
	for name, near := range strangeVariables(root, os.Environ()) {
		slog.Warn(name + " is no setting of isofs, and changes nothing" + near)
	}
}

// strangeVariables are those of an environment that look like settings and are
// none, each with the question whether another was meant.
func strangeVariables(root *cobra.Command, environment []string) map[string]string {
	known := slices.Clone(ownVariables)
	for _, flag := range knownFlags(root) {
		known = append(known, envName(flag))
	}
	strange := map[string]string{}
	for _, pair := range environment {
		name, _, _ := strings.Cut(pair, "=")
		if strings.HasPrefix(name, "ISOFS_") && !slices.Contains(known, name) {
			strange[name] = nearest(name, known, "")
		}
	}
	return strange
}

func configName(path string) string {
	if path == "" {
		return defaultConfig
	}
	return path
}

// readConfig returns the settings of a file. Lists are joined by commas, as
// the flags take them.
func readConfig(path string) (map[string]string, error) {
	data, err := os.ReadFile(configName(path))
	if path == "" && errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, usage(blame("config", err))
	}
	var values map[string]any
	if err := toml.Unmarshal(data, &values); err != nil {
		return nil, usage(fmt.Errorf("read the settings in %s: %w", configName(path), err))
	}
	settings := make(map[string]string, len(values))
	for key, value := range values {
		switch v := value.(type) {
		case []any:
			parts := make([]string, len(v))
			for i, e := range v {
				parts[i] = fmt.Sprint(e)
			}
			settings[key] = strings.Join(parts, ",")
		case map[string]any:
			return nil, usage(fmt.Errorf("%s: [%s] is a table; settings are plain lines", configName(path), key))
		default:
			settings[key] = fmt.Sprint(v)
		}
	}
	return settings, nil
}

// knownFlags are the names of all flags of all subcommands, since one file
// serves them all.
func knownFlags(cmd *cobra.Command) []string {
	var names []string
	add := func(f *pflag.Flag) { names = append(names, f.Name) }
	cmd.LocalFlags().VisitAll(add)
	cmd.PersistentFlags().VisitAll(add)
	for _, sub := range cmd.Commands() {
		names = append(names, knownFlags(sub)...)
	}
	return names
}

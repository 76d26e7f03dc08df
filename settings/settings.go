// Package settings gives flags their values: from the command line, from the
// environment and from a file, in this order. It notes what gave a value, so that an
// error names the setting as the user did.
//
// It has one kind of size, duration and choice for all commands, the groups in which
// --help shows flags, and what a process hands to another one (Values). The package
// does not define settings: those are the flags of a command.
package settings

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"

	"github.com/BurntSushi/toml"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// DefaultFile is read if it exists and --config names no other.
const DefaultFile = "/etc/isofs.toml"

// Bind gives every flag of cmd that was not typed the value of its environment
// variable, else that of the file, which --config names. overridden lists, for a
// flag that was typed, the file's settings that it makes ineffective.
func Bind(cmd *cobra.Command, overridden map[string][]string) error {
	flags := cmd.Flags()
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
			return Usage(fmt.Errorf("%s: %q is not a setting of isofs; settings are named like flags, without the dashes%s", configName(path), key, nearest(key, known, "")))
		}
	}
	var failed error
	flags.VisitAll(func(f *pflag.Flag) {
		if failed == nil {
			failed = fromEnvironment(f, flags)
		}
	})
	for typed, others := range overridden {
		if f := flags.Lookup(typed); f != nil && f.Changed {
			for _, other := range others {
				delete(file, other)
			}
		}
	}
	flags.VisitAll(func(f *pflag.Flag) {
		if value, ok := file[f.Name]; ok && failed == nil && !f.Changed {
			failed = setBy(configName(path)+": "+f.Name, f, flags, value)
		}
	})
	return failed
}

// EnvName returns the environment variable of a flag: ISOFS_CACHE_SIZE for
// cache-size.
func EnvName(flag string) string {
	return "ISOFS_" + strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))
}

func fromEnvironment(f *pflag.Flag, flags *pflag.FlagSet) error {
	if f == nil || f.Changed {
		return nil
	}
	value, ok := os.LookupEnv(EnvName(f.Name))
	if !ok {
		return nil
	}
	return setBy(EnvName(f.Name), f, flags, value)
}

// setBy sets a flag to a value that did not come from the flag itself.
func setBy(by string, f *pflag.Flag, flags *pflag.FlagSet, value string) error {
	noteGiven(f, by)
	err := flags.Set(f.Name, value)
	if invalid, ok := errors.AsType[*pflag.InvalidValueError](err); ok {
		err = unfit(f, value, invalid.Unwrap())
	}
	return Usage(err)
}

// Strange returns the variables of an environment (as of os.Environ) that look like
// settings of root's commands and are not. Each has a question whether another was
// meant. own has isofs's variables that are not settings.
func Strange(root *cobra.Command, environment, own []string) map[string]string {
	known := slices.Clone(own)
	for _, flag := range knownFlags(root) {
		known = append(known, EnvName(flag))
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
		return DefaultFile
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
		return nil, Usage(Blame("config", err))
	}
	var values map[string]any
	if err := toml.Unmarshal(data, &values); err != nil {
		return nil, Usage(fmt.Errorf("read the settings in %s: %w", configName(path), err))
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
			return nil, Usage(fmt.Errorf("%s: [%s] is a table; settings are plain lines", configName(path), key))
		default:
			settings[key] = fmt.Sprint(v)
		}
	}
	return settings, nil
}

// knownFlags returns the names of all flags of all subcommands, since one file
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

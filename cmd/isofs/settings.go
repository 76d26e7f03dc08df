package main

import (
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"slices"
	"strconv"
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
			return fmt.Errorf("%s: %q is no setting of isofs; settings are named like flags, without the dashes: %w", configName(path), key, errUsage)
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
			if err := flags.Set(f.Name, value); err != nil {
				failed = fmt.Errorf("%s: %s = %q: %w: %w", configName(path), f.Name, value, err, errUsage)
			}
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
	if err := flags.Set(f.Name, value); err != nil {
		return fmt.Errorf("%s=%q: %w: %w", envName(f.Name), value, err, errUsage)
	}
	return nil
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
		return nil, fmt.Errorf("read the configuration: %w", err)
	}
	var values map[string]any
	if err := toml.Unmarshal(data, &values); err != nil {
		return nil, fmt.Errorf("read the configuration %s: %w: %w", configName(path), err, errUsage)
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
			return nil, fmt.Errorf("%s: [%s] is a table; settings are plain lines: %w", configName(path), key, errUsage)
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

// A size is a number of bytes as people write it: 512MiB, 4G, 1000000.
type size int64

var units = []struct {
	suffix string
	bytes  int64
}{{"KiB", 1 << 10}, {"MiB", 1 << 20}, {"GiB", 1 << 30}, {"TiB", 1 << 40}}

// String implements pflag.Value.
func (s size) String() string {
	for _, u := range slices.Backward(units) {
		if int64(s) >= u.bytes && int64(s)%u.bytes == 0 {
			return fmt.Sprintf("%d%s", int64(s)/u.bytes, u.suffix)
		}
	}
	return strconv.FormatInt(int64(s), 10)
}

// Set implements pflag.Value.
func (s *size) Set(text string) error {
	digits := strings.TrimRight(text, "KMGTiBkmgtb ")
	unit := strings.TrimSpace(text[len(digits):])
	factor := int64(1)
	if unit != "" && !strings.EqualFold(unit, "b") {
		factor = 0
		for _, u := range units {
			if strings.EqualFold(unit, u.suffix) || strings.EqualFold(unit, u.suffix[:1]) {
				factor = u.bytes
			}
		}
	}
	n, err := strconv.ParseInt(digits, 10, 64)
	if err != nil || factor == 0 || n < 0 || n > math.MaxInt64/factor {
		return fmt.Errorf("%q is not a size like 512MiB or 4GiB", text)
	}
	*s = size(n * factor)
	return nil
}

// Type implements pflag.Value.
func (size) Type() string { return "size" }

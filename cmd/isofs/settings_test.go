package main

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"aesthetic.computer/isofs/fault"
)

// settled runs a command that has one flag of each kind through bindSettings.
func settled(t *testing.T, file string, args ...string) (*cobra.Command, error) {
	t.Helper()
	root := &cobra.Command{Use: "isofs", RunE: func(*cobra.Command, []string) error { return nil }}
	limit := size(1 << 20)
	root.Flags().String("config", "", "")
	root.Flags().Var(&limit, "cache-size", "")
	root.Flags().StringSlice("listen", []string{"default"}, "")
	root.Flags().String("base", "", "")
	root.Flags().String("channel", "", "")
	root.Flags().StringSlice("mirror", nil, "")
	if file != "" {
		path := filepath.Join(t.TempDir(), "isofs.toml")
		if err := os.WriteFile(path, []byte(file), 0o644); err != nil {
			t.Fatal(err)
		}
		args = append(args, "--config", path)
	}
	if err := root.ParseFlags(args); err != nil {
		t.Fatal(err)
	}
	err := bindSettings(root)
	nameSettings(root.Flags(), err)
	return root, err
}

// TestOneOfBaseAndChannel: what was typed says what to serve, in either way.
func TestOneOfBaseAndChannel(t *testing.T) {
	const base, channel = "base = \"b\"\nmirror = [\"m\"]\n", "channel = \"c\"\n"
	for _, c := range []struct {
		file, args              string
		base, channel, mirrored string
	}{
		{base, "--channel=typed", "", "typed", "[]"},
		{channel, "--base=typed", "typed", "", "[]"},
		{base, "--base=typed", "typed", "", "[m]"},
		{base + channel, "--listen=x", "b", "c", "[m]"}, // refused later
	} {
		root, err := settled(t, c.file, c.args)
		if err != nil {
			t.Fatal(err)
		}
		value := func(name string) string { return root.Flags().Lookup(name).Value.String() }
		if value("base") != c.base || value("channel") != c.channel || value("mirror") != c.mirrored {
			t.Errorf("%q with %s: base %q, channel %q, mirrors %s", c.file, c.args, value("base"), value("channel"), value("mirror"))
		}
	}
}

func TestFlagWinsOverEnvironmentOverFile(t *testing.T) {
	const file = "cache-size = \"2MiB\"\nlisten = [\"a:1\", \"b:2\"]\n"
	value := func(cmd *cobra.Command, name string) string { return cmd.Flags().Lookup(name).Value.String() }

	cmd, err := settled(t, file)
	if err != nil || value(cmd, "cache-size") != "2MiB" || value(cmd, "listen") != "[a:1,b:2]" {
		t.Errorf("file: %s %s %v", value(cmd, "cache-size"), value(cmd, "listen"), err)
	}
	t.Setenv("ISOFS_CACHE_SIZE", "3MiB")
	cmd, err = settled(t, file)
	if err != nil || value(cmd, "cache-size") != "3MiB" {
		t.Errorf("environment over file: %s %v", value(cmd, "cache-size"), err)
	}
	cmd, err = settled(t, file, "--cache-size", "4MiB")
	if err != nil || value(cmd, "cache-size") != "4MiB" {
		t.Errorf("flag over environment: %s %v", value(cmd, "cache-size"), err)
	}
}

func TestWrongSettingsSayWhere(t *testing.T) {
	for file, words := range map[string]string{
		"cash-size = 1\n":            `"cash-size" is no setting of isofs; settings are named like flags, without the dashes; did you mean cache-size?`,
		"cache-size = \"many\"\n":    `isofs.toml: cache-size "many"`,
		"[limits]\ncache-size = 1\n": `[limits]`,
		"cache-size\n":               "isofs.toml",
	} {
		_, err := settled(t, file)
		if err == nil || !errors.Is(err, errUsage) || !strings.Contains(err.Error(), words) {
			t.Errorf("%q: %v, want an error with %q", file, err, words)
		}
	}
	t.Setenv("ISOFS_CACHE_SIZE", "many")
	if _, err := settled(t, ""); err == nil || !strings.Contains(err.Error(), `ISOFS_CACHE_SIZE "many"`) {
		t.Errorf("environment: %v", err)
	}
}

func TestExitStatuses(t *testing.T) {
	for err, want := range map[error]int{
		errors.New("x"):                             exitFailed,
		usage(errors.New("x")):                      exitUsage,
		errors.Join(fault.Invalid):                  exitUsage,
		errors.Join(errors.New("x"), fault.Corrupt): exitCorrupt,
	} {
		if got := exitStatus(err); got != want {
			t.Errorf("%v: status %d, want %d", err, got, want)
		}
	}
}

// Every command explains itself, and no two flags of one name differ in kind,
// since one file of settings serves all.
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

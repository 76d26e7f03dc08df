package settings

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

// settled runs a command that has one flag of each kind through Bind.
func settled(t *testing.T, file string, args ...string) (*cobra.Command, error) {
	t.Helper()
	root := &cobra.Command{Use: "isofs", RunE: func(*cobra.Command, []string) error { return nil }}
	limit := Size(1 << 20)
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
	err := Bind(root, map[string][]string{"base": {"channel"}, "channel": {"base", "mirror"}})
	Name(root.Flags(), err)
	return root, err
}

// TestOneOfBaseAndChannel: the typed flag decides what to serve, --base or
// --channel.
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
		"cash-size = 1\n":            `"cash-size" is not a setting of isofs; settings are named like flags, without the dashes; did you mean cache-size?`,
		"cache-size = \"many\"\n":    `isofs.toml: cache-size "many"`,
		"[limits]\ncache-size = 1\n": `[limits]`,
		"cache-size\n":               "isofs.toml",
	} {
		_, err := settled(t, file)
		if err == nil || !errors.Is(err, ErrUsage) || !strings.Contains(err.Error(), words) {
			t.Errorf("%q: %v, want an error with %q", file, err, words)
		}
	}
	t.Setenv("ISOFS_CACHE_SIZE", "many")
	if _, err := settled(t, ""); err == nil || !strings.Contains(err.Error(), `ISOFS_CACHE_SIZE "many"`) {
		t.Errorf("environment: %v", err)
	}
}

// TestSettingsAreCalledAsGiven: an error names the flag, the variable or the line
// of the file that gave the value, whatever it is joined with.
func TestSettingsAreCalledAsGiven(t *testing.T) {
	t.Setenv("ISOFS_BASE", "x")
	root, err := settled(t, "channel = \"c\"\nmirror = [\"m\"]\n", "--listen", "l")
	if err != nil {
		t.Fatal(err)
	}
	file := root.Flags().Lookup("config").Value.String()
	for flag, want := range map[string]string{
		"listen": "--listen 7 is odd", "cache-size": "--cache-size 7 is odd", "base": "ISOFS_BASE 7 is odd", "mirror": file + ": mirror 7 is odd",
	} {
		err := fmt.Errorf("%w", Usage(errors.New("else"), Wrong(flag, "%d is odd", 7)))
		inner := errors.Unwrap(err)
		Name(root.Flags(), err)
		if got := inner.Error(); got != "else\n"+want {
			t.Errorf("%q, want %q", got, want)
		}
	}
	// The process of --user uses the same name.
	again, _ := settled(t, "")
	if err := ValuesOf(root.Flags()).Apply(again.Flags()); err != nil {
		t.Fatal(err)
	}
	if err := Blame("mirror", errors.New("no")); true {
		Name(again.Flags(), err)
		if want := file + ": mirror: no"; err.Error() != want {
			t.Errorf("handed down: %q, want %q", err, want)
		}
	}
	if err := Blame("sign-key", errors.New("no")); true {
		Name(again.Flags(), err)
		if err.Error() != "no" {
			t.Errorf("a flag that the command does not have is named: %q", err)
		}
	}
}

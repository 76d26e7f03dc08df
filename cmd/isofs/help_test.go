package main

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// printed runs a command and returns its output.
func printed(t *testing.T, args ...string) string {
	t.Helper()
	root, out := newRoot(), &bytes.Buffer{}
	root.SetArgs(args)
	root.SetOut(out)
	if _, err := execute(context.Background(), root); err != nil {
		t.Fatalf("%v: %v", args, err)
	}
	return out.String()
}

// TestHelpInGroups: every flag of serve is in one group, and --help shows each
// once, those of a group together and in their order.
func TestHelpInGroups(t *testing.T) {
	help, at := printed(t, "serve", "--help"), 0
	grouped := map[string]string{"help": "Flags"}
	for _, group := range flagGroups {
		title := strings.Index(help, "\n"+group.Title+":\n")
		if title < at {
			t.Errorf("the group %s is not there, or not behind the others", group.Title)
			continue
		}
		at = title
		for _, name := range group.Flags {
			if was := grouped[name]; was != "" {
				t.Errorf("--%s is in %s and in %s", name, was, group.Title)
			}
			grouped[name] = group.Title
			line := regexp.MustCompile(`\n +--`+name+`[ \[]`).FindAllStringIndex(help, -1)
			if len(line) != 1 || line[0][0] < at {
				t.Errorf("--%s is shown %d times, or in another order than in %s", name, len(line), group.Title)
				continue
			}
			at = line[0][0]
		}
	}
	newServe().Flags().VisitAll(func(f *pflag.Flag) {
		if grouped[f.Name] == "" {
			t.Errorf("--%s is in no group", f.Name)
		}
	})
	// Few flags are not divided.
	if help := printed(t, "base", "publish", "--help"); strings.Contains(help, "\nSigning:") || strings.Count(help, "  --sign-key ") != 1 || strings.Count(help, "\nFlags:\n") != 1 {
		t.Errorf("base publish: %s", help)
	}
}

// TestHelpShowsWhatMatters: the help leaves out flags that a command takes only
// for the file of settings.
func TestHelpShowsWhatMatters(t *testing.T) {
	for _, c := range []struct{ cmd, shows, hides string }{
		{"nginx-config", "--site --listen --limit-rate --profile --mount --run", "--base --oven --cache --sign-key --limit-new --retain"},
		{"doctor", "--help", "--base --listen --state"},
		{"warm", "--base --cache-size --keyring --user", "--oven --pieces --sign-key"},
		{"inspect", "--base --oven", "--retain --sign-key"},
		{"pack", "--base --oven --sign-key --output", "--listen"},
	} {
		help := printed(t, c.cmd, "--help")
		_, flags, _ := strings.Cut(help, "Flags:\n")
		for _, name := range strings.Fields(c.shows) {
			if !regexp.MustCompile(regexp.QuoteMeta(name) + `[ \[]`).MatchString(flags) {
				t.Errorf("%s does not show %s", c.cmd, name)
			}
		}
		for _, name := range strings.Fields(c.hides) {
			if regexp.MustCompile(`\n +` + name + `[ \[]`).MatchString(flags) {
				t.Errorf("%s shows %s", c.cmd, name)
			}
		}
	}
	printed(t, "nginx-config", "--listen", "127.0.0.1:1", "--base", "x", "--oven", "http://127.0.0.1:1", "--state", t.TempDir(), "--run", t.TempDir(), "--mount", t.TempDir())
}

// TestVersion: the command and the flag print the same.
func TestVersion(t *testing.T) {
	command, flag := printed(t, "version"), printed(t, "--version")
	if command != flag || !regexp.MustCompile(`^isofs version \S.*, go1\S* \w+/\w+\n$`).MatchString(command) {
		t.Errorf("isofs version: %q, --version: %q", command, flag)
	}
}

// TestManPages: one for each command, with all that --help says. The same
// command makes the same pages for every user.
func TestManPages(t *testing.T) {
	first, second := t.TempDir(), t.TempDir()
	t.Setenv("XDG_STATE_HOME", "/home/one")
	printed(t, "man", "--out", first)
	t.Setenv("XDG_STATE_HOME", "/home/two")
	printed(t, "man", "--out", filepath.Join(second, "made"))
	pages := 0
	var walk func(cmd *cobra.Command)
	walk = func(cmd *cobra.Command) {
		if cmd.Hidden || cmd.Name() == "help" || cmd.Name() == "completion" {
			return
		}
		pages++
		name := strings.ReplaceAll(cmd.CommandPath(), " ", "-") + ".1"
		page, err := os.ReadFile(filepath.Join(first, name))
		again, _ := os.ReadFile(filepath.Join(second, "made", name))
		if err != nil || !bytes.Equal(page, again) {
			t.Errorf("%s: %v, or it is another one in another home", name, err)
		}
		if regexp.MustCompile(`\b(Jan|20\d\d-|0001)\b`).Match(page[:min(200, len(page))]) {
			t.Errorf("%s has a date: %.200s", name, page)
		}
		text := regexp.MustCompile(`\\f[A-Z]|\\&|\\`).ReplaceAllString(string(page), "")
		words := cmd.Short + " " + cmd.Long
		cmd.LocalFlags().VisitAll(func(f *pflag.Flag) {
			if !f.Hidden {
				words += " --" + f.Name + " " + f.Usage
			}
		})
		for _, word := range strings.Fields(words) {
			if !strings.Contains(text, strings.ReplaceAll(word, `\`, "")) {
				t.Errorf("%s: no word of %q", name, word)
			}
		}
		for _, sub := range cmd.Commands() {
			walk(sub)
		}
	}
	walk(newRoot())
	if files, _ := os.ReadDir(first); len(files) != pages {
		t.Errorf("%d pages of %d commands", len(files), pages)
	}
}

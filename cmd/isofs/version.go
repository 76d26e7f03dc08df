package main

import (
	"fmt"
	"runtime"
	"runtime/debug"

	"aesthetic.computer/isofs/settings"
	"github.com/spf13/cobra"
)

// version returns the module's version, (devel) if the toolchain did not stamp one, with
// the commit if it stamped that, and the toolchain's own version.
func version() string {
	text, modified := "(devel)", ""
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		text = info.Main.Version
		for _, s := range info.Settings {
			switch {
			case s.Key == "vcs.revision":
				text += fmt.Sprintf(", commit %.12s", s.Value)
			case s.Key == "vcs.modified" && s.Value == "true":
				modified = " (modified)"
			}
		}
	}
	return fmt.Sprintf("%s%s, %s %s/%s", text, modified, runtime.Version(), runtime.GOOS, runtime.GOARCH)
}

func newVersion() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the version, as --version does",
		Args:  cobra.NoArgs,
		// Whatever is wrong with the settings.
		PersistentPreRunE: func(*cobra.Command, []string) error { return nil },
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, err := fmt.Fprintf(cmd.OutOrStdout(), "isofs version %s\n", version())
			return err
		},
	}
}

func newMan() *cobra.Command {
	var out string
	cmd := &cobra.Command{
		Use:   "man",
		Short: "Write the manual pages, one for each command",
		Long: `man writes isofs.1 and a page for each command, such as isofs-serve.1, into a folder, which is
made if it is missing. The same program writes the same pages.`,
		Example: "  isofs man --out /usr/local/share/man/man1",
		Args:    cobra.NoArgs,
		Hidden:  true, // needed once, by those who package or install isofs
		RunE: func(cmd *cobra.Command, _ []string) error {
			if out == "" {
				return settings.Usage(settings.Wrong("out", "is needed: the folder of the pages, such as /usr/local/share/man/man1"))
			}
			// The server's default, and not the home of the user that makes the pages.
			return settings.WritePages(newRoot(), out, map[string]string{"state": rootState})
		},
	}
	cmd.Flags().StringVar(&out, "out", "", "folder to write into (needed)")
	return cmd
}

package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/google/renameio/v2"
	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"
)

func newMan() *cobra.Command {
	var out string
	cmd := &cobra.Command{
		Use:   "man",
		Short: "Write the manual pages, one for each command",
		Long: `man writes isofs.1 and a page for each command, such as isofs-serve.1, into a folder, which is
made if it is missing. The same program writes the same pages.`,
		Example: "  isofs man --out /usr/local/share/man/man1",
		Args:    cobra.NoArgs,
		Hidden:  true, // who packs or installs isofs needs it once
		RunE: func(cmd *cobra.Command, _ []string) error {
			if out == "" {
				return usage(wrongFlag("out", "is needed: the folder of the pages, such as /usr/local/share/man/man1"))
			}
			if err := os.MkdirAll(out, 0o755); err != nil {
				return fmt.Errorf("make the folder of the pages: %w", err)
			}
			return writePages(newRoot(), out)
		},
	}
	cmd.Flags().StringVar(&out, "out", "", "folder to write into (needed)")
	return cmd
}

// writePages writes the page of a command and of all below it.
func writePages(cmd *cobra.Command, dir string) error {
	if cmd.Hidden || cmd.Name() == "help" {
		return nil
	}
	page, err := manPage(cmd)
	if err == nil {
		name := strings.ReplaceAll(cmd.CommandPath(), " ", "-") + ".1"
		err = renameio.WriteFile(filepath.Join(dir, name), page, 0o644)
	}
	if err != nil {
		return fmt.Errorf("write the page of %s: %w", cmd.CommandPath(), err)
	}
	var errs []error
	for _, sub := range cmd.Commands() {
		errs = append(errs, writePages(sub, dir))
	}
	return errors.Join(errs...)
}

// manPage is the page of a command: the same whoever makes it, when and where.
func manPage(cmd *cobra.Command) ([]byte, error) {
	if f := cmd.Flags().Lookup("state"); f != nil {
		f.DefValue = rootState // as for the server, and not as in the home of who makes the page
	}
	cmd.DisableAutoGenTag = true
	// doc wants a date, which the page then does without.
	never := time.Time{}
	var page bytes.Buffer
	err := doc.GenMan(cmd, &doc.GenManHeader{Section: "1", Date: &never, Source: "isofs", Manual: "isofs"}, &page)
	return bytes.Replace(page.Bytes(), []byte(never.Format(`"Jan 2006"`)), []byte(`""`), 1), err
}

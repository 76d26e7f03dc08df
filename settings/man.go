package settings

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

// WritePages writes a manual page into a folder for cmd and each command below it. A page
// does not depend on who writes it, when and where; so defaults gives a stand-in for the
// default values that do.
func WritePages(cmd *cobra.Command, dir string, defaults map[string]string) error {
	if cmd.Hidden || cmd.Name() == "help" {
		return nil
	}
	err := os.MkdirAll(dir, 0o755)
	var page []byte
	if err == nil {
		page, err = manPage(cmd, defaults)
	}
	if err == nil {
		name := strings.ReplaceAll(cmd.CommandPath(), " ", "-") + ".1"
		err = renameio.WriteFile(filepath.Join(dir, name), page, 0o644)
	}
	if err != nil {
		return fmt.Errorf("write the page of %s: %w", cmd.CommandPath(), err)
	}
	var errs []error
	for _, sub := range cmd.Commands() {
		errs = append(errs, WritePages(sub, dir, defaults))
	}
	return errors.Join(errs...)
}

func manPage(cmd *cobra.Command, defaults map[string]string) ([]byte, error) {
	for name, value := range defaults {
		if f := cmd.Flags().Lookup(name); f != nil {
			f.DefValue = value
		}
	}
	cmd.DisableAutoGenTag = true
	// doc needs a date, which the page then leaves out.
	never := time.Time{}
	var page bytes.Buffer
	err := doc.GenMan(cmd, &doc.GenManHeader{Section: "1", Date: &never, Source: "isofs", Manual: "isofs"}, &page)
	return bytes.Replace(page.Bytes(), []byte(never.Format(`"Jan 2006"`)), []byte(`""`), 1), err
}

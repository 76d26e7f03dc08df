// Package doctor looks for what isofs needs of a machine: to serve, with its own nginx or another
// one, to bake bases, and to pass its tests. For each missing thing it says what to do.
//
// Unlike other packages it names isofs's commands and flags, since its advice is what to type.
package doctor

import (
	"context"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"aesthetic.computer/isofs/server"
)

// Purposes are what a machine can be examined for.
var Purposes = []string{"serve", "nginx", "bake", "test"}

// A check is one thing that a machine must have.
type check struct {
	purpose string // one of Purposes
	what    string
	probe   func(ctx context.Context) error
	// packages of Debian that have it; empty if no package helps.
	packages []string
	advice   string
}

// A Doctor examines a machine for a server. User is the name of the user that the server is to
// run as; it need not have a base or channel.
type Doctor struct {
	Server server.Config // Web is set
	User   string
}

// Examine writes what it finds for some of Purposes. It returns an error if something is missing.
func (d Doctor) Examine(ctx context.Context, out io.Writer, purposes []string) error {
	all := slices.Concat(d.serverChecks(), d.roomChecks(), d.nginxChecks(), programChecks())
	var install []string
	missing := 0
	for _, purpose := range purposes {
		fmt.Fprintf(out, "to %s:\n", purpose)
		for _, c := range all {
			if c.purpose != purpose {
				continue
			}
			err := c.probe(ctx)
			if err == nil {
				fmt.Fprintf(out, "  ok       %s\n", c.what)
				continue
			}
			missing++
			fmt.Fprintf(out, "  missing  %s: %v\n", c.what, err)
			if c.advice != "" {
				fmt.Fprintf(out, "           %s\n", c.advice)
			}
			install = append(install, c.packages...)
		}
	}
	if missing == 0 {
		return nil
	}
	if len(install) > 0 {
		slices.Sort(install)
		sudo := ""
		if os.Geteuid() != 0 {
			sudo = "sudo "
		}
		fmt.Fprintf(out, "\nto install what is missing:\n  %sapt-get update && %sapt-get install --no-install-recommends %s\n",
			sudo, sudo, strings.Join(slices.Compact(install), " "))
	}
	return fmt.Errorf("missing: %d, named above", missing)
}

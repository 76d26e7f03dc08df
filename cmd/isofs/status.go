package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"text/tabwriter"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"aesthetic.computer/isofs/server"
	"aesthetic.computer/isofs/settings"
)

// A runningServer is a server of this machine, found by its directories.
type runningServer struct{ state, run string }

func (s *runningServer) register(flags *pflag.FlagSet) {
	flags.StringVar(&s.state, "state", defaultState(), "the server's --state, in which --run is by default")
	flags.StringVar(&s.run, "run", "", "the server's directory of sockets (default /run/isofs for root, else STATE/run)")
}

// client returns a client of the server. It refuses an empty directory.
func (s *runningServer) client() (server.Client, error) {
	run := s.run
	if run == "" {
		if os.Geteuid() != 0 {
			if err := checkState(s.state); err != nil {
				return server.Client{}, settings.Usage(fmt.Errorf("%w, nor for --run", err))
			}
		}
		run = runDirectory(s.state)
	}
	return server.Client{Socket: filepath.Join(run, server.SocketName)}, nil
}

func newStatus() *cobra.Command {
	var s runningServer
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Show whether this machine's server works",
		Long: `status asks the server of this machine, by the socket in --run, what /readyz and /os-status
tell: whether it is ready, each thing that this depends on, and the pieces that are being
fetched. The exit status is 1 if it is not ready, or does not run.`,
		Example: "  isofs status",
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return s.print(cmd.Context(), cmd.OutOrStdout()) },
	}
	s.register(cmd.Flags())
	return cmd
}

// print prints the server's answer, a line for each thing.
func (s *runningServer) print(ctx context.Context, out io.Writer) error {
	var ready struct {
		Ready  bool
		Checks map[string]struct {
			OK   bool
			Text string
		}
	}
	var builds struct {
		ActiveBuildCount int
		RecentBuilds     []struct{ Target, Time string }
	}
	client, err := s.client()
	if err != nil {
		return err
	}
	if err := client.Get(ctx, "/readyz", &ready); err != nil {
		return err
	}
	if err := client.Get(ctx, "/os-status", &builds); err != nil {
		return err
	}
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	words := map[bool]string{true: "ok", false: "failed"}
	fmt.Fprintf(w, "ready\t%s\t\n", map[bool]string{true: "yes", false: "no"}[ready.Ready])
	for _, name := range slices.Sorted(maps.Keys(ready.Checks)) {
		fmt.Fprintf(w, "%s\t%s\t%s\n", name, words[ready.Checks[name].OK], ready.Checks[name].Text)
	}
	fmt.Fprintf(w, "fetching\t%d\tpieces at the moment\n", builds.ActiveBuildCount)
	for _, b := range builds.RecentBuilds[:min(1, len(builds.RecentBuilds))] {
		fmt.Fprintf(w, "last\t%s\t%s\n", b.Target, b.Time)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	if !ready.Ready {
		return errors.New("the server is not ready")
	}
	return nil
}

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"text/tabwriter"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"aesthetic.computer/isofs/fault"
)

// A runningServer is one of this machine, known by its directories.
type runningServer struct{ state, run string }

func (s *runningServer) register(flags *pflag.FlagSet) {
	flags.StringVar(&s.state, "state", defaultState(), "the server's --state, in which --run is by default")
	flags.StringVar(&s.run, "run", "", "the server's directory of sockets (default /run/isofs for root, else STATE/run)")
}

// check refuses directories that have no place.
func (s *runningServer) check() error {
	if s.run != "" || os.Geteuid() == 0 {
		return nil
	}
	if err := checkState(s.state); err != nil {
		return usage(fmt.Errorf("%w, nor for --run", err))
	}
	return nil
}

func (s *runningServer) socket() string {
	run := s.run
	if run == "" {
		run = filepath.Join(s.state, "run")
		if os.Geteuid() == 0 {
			run = "/run/isofs"
		}
	}
	return filepath.Join(run, socketName)
}

// maxAnswer bounds what is read of the server: some 10,000 snapshots.
const maxAnswer = 64 << 20

// ask sends a request to the server's API by its socket.
func (s *runningServer) ask(req *http.Request) (status int, answer []byte, err error) {
	if err := s.check(); err != nil {
		return 0, nil, err
	}
	socket := s.socket()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		var dialer net.Dialer
		return dialer.DialContext(ctx, "unix", socket)
	}}}
	resp, err := client.Do(req)
	if errors.Is(err, os.ErrPermission) {
		return 0, nil, fmt.Errorf("ask the server at %s: %w: permission denied: only root, its --user and that user's group may", socket, fault.Unavailable)
	}
	if err != nil {
		return 0, nil, fmt.Errorf("ask the server at %s: %w: %w: is it running, with this --run?", socket, fault.Unavailable, err)
	}
	defer resp.Body.Close()
	answer, err = io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return 0, nil, fmt.Errorf("read the server's answer: %w: %w", fault.Unavailable, err)
	}
	return resp.StatusCode, answer, nil
}

// get asks for an address that answers in JSON.
func (s *runningServer) get(ctx context.Context, path string, into any) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://isofs"+path, nil)
	if err != nil {
		return err
	}
	_, answer, err := s.ask(req)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(answer, into); err != nil {
		return fmt.Errorf("understand the server's answer to %s: %w: %w", path, fault.Corrupt, err)
	}
	return nil
}

func newStatus() *cobra.Command {
	var s runningServer
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Say how the server of this machine does",
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

// print prints what the server tells, a line for each thing.
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
	if err := s.get(ctx, "/readyz", &ready); err != nil {
		return err
	}
	if err := s.get(ctx, "/os-status", &builds); err != nil {
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

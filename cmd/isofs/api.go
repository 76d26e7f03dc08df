package main

import (
	"errors"
	"fmt"
	"net"
	"os"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"aesthetic.computer/isofs/server"
)

// apiFlags are those of the API.
type apiFlags struct {
	publicURL string
	peers     []string
	watchers  int
}

func (a *apiFlags) register(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringVar(&a.publicURL, "public-url", "", "what absolute links begin with, such as https://images.example (default: the address that the client used)")
	flags.StringSliceVar(&a.peers, "peer-url", nil, "what addresses at another server of the same pieces and base begin with (repeatable): .meta4 names it, too, if there is a --public-url")
	flags.IntVar(&a.watchers, "limit-watchers", 500, "clients of /os?format=stream at once")
}

// validate reports what is wrong with what package server does not look at.
func (a *apiFlags) validate() error {
	var wrong []error
	for _, peer := range a.peers {
		if !server.BeginsLinks(peer) {
			wrong = append(wrong, wrongFlag("peer-url", "%q is not an address like https://other.example", peer))
		}
	}
	return errors.Join(wrong...)
}

// listenAPI listens on a unix socket, replacing one left by a killed run. Its
// user and group may connect.
func listenAPI(socket string) (*net.UnixListener, error) {
	if err := os.Remove(socket); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("remove the API's old socket: %w", err)
	}
	old := unix.Umask(0o117) // readable and writable by user and group
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: socket, Net: "unix"})
	unix.Umask(old)
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", socket, err)
	}
	return l, nil
}

// inheritedAPI is the socket that the parent listens on. It stays when this
// process ends: requests then wait for the next one.
func inheritedAPI() (net.Listener, error) {
	f := os.NewFile(apiFD, "api")
	defer f.Close()
	l, err := net.FileListener(f)
	if err != nil {
		return nil, fmt.Errorf("take over the API's socket: %w", err)
	}
	if unix, ok := l.(*net.UnixListener); ok {
		unix.SetUnlinkOnClose(false)
	}
	return l, nil
}

package main

import (
	"errors"

	"aesthetic.computer/isofs/server"
	"github.com/spf13/cobra"
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

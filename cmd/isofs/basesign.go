package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"aesthetic.computer/isofs/settings"
	"aesthetic.computer/isofs/store"
)

// store opens the keys to publish by; nil without keys.
func (o *signFlags) store() (store.Signer, error) {
	s, err := o.open()
	if s == nil {
		return nil, err
	}
	return s, nil
}

func newBaseSign() *cobra.Command {
	var o placeFlags
	cmd := &cobra.Command{
		Use:   "sign",
		Short: "Sign what is published",
		Long: `sign signs a channel as it is, and the manifests that it names: of a place where nothing was
signed so far, or with another key. What is there is believed: compare it with what you know
(isofs base list) before.`,
		Example: "  isofs base sign --at s3://bucket/images --sign-key new.asc",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			place, err := o.open()
			if err != nil {
				return err
			}
			sign, err := o.sign.store()
			if err != nil {
				return err
			}
			if sign == nil {
				return settings.Usage(settings.Wrong("sign-key", "is needed"))
			}
			c, err := o.channel(cmd, place)
			if err != nil {
				return err
			}
			signed, err := store.Place{Store: place, Flavor: c.Flavor, Arch: c.Arch, Sign: sign}.SignAll(cmd.Context())
			for _, name := range signed {
				fmt.Fprintf(cmd.OutOrStdout(), "signed %s\n", name)
			}
			if err != nil {
				return fmt.Errorf("sign %s %s at %s: %w", c.Flavor, c.Arch, place, err)
			}
			return nil
		},
	}
	o.register(cmd.Flags(), "at")
	return cmd
}

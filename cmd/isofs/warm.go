package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"aesthetic.computer/isofs/cache"
	"aesthetic.computer/isofs/settings"
	"aesthetic.computer/isofs/signature"
	"aesthetic.computer/isofs/upstream"
)

func newWarm() *cobra.Command {
	var o stackFlags
	cmd := &cobra.Command{
		Use:   "warm",
		Short: "Fill a block cache with a base, before a server needs it",
		Long: `warm fetches all blocks of a base that the cache does not have yet, and compares those
that it has. A server that is started on that cache then needs the base's origin no more.
It stops rather than give up blocks of other bases: --cache-size says how much there may be.

It cannot use the cache of a server that runs; that one fills its own with --prefill.`,
		Example: "  isofs warm --base https://cdn.example/bases/tiny/amd64/2026-11-01 --cache /var/lib/isofs/cache",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if o.cache.where == inMemory {
				return settings.Usage(settings.Wrong("cache", "memory is gone when warm ends: name a directory"))
			}
			if err := o.validate(); err != nil {
				return err
			}
			if done, err := o.asUser(cmd.Context(), cmd, nil); done || err != nil {
				return err
			}
			return runWarm(cmd, &o)
		},
	}
	o.register(cmd)
	flagGroups.Hide(cmd, "Pieces", "sign-key", "sign-passphrase-file")
	return cmd
}

func runWarm(cmd *cobra.Command, o *stackFlags) (err error) {
	log := quietLogger()
	ring, err := signature.OpenKeyring(o.keyring)
	if err != nil {
		return err
	}
	blocks, err := cache.Open(o.cacheConfig(log))
	if err != nil {
		return err
	}
	bases, err := upstream.Open(o.upstream(blocks, ring, log))
	if err != nil {
		return errors.Join(err, blocks.Close())
	}
	defer func() { err = errors.Join(err, blocks.Close(), bases.Close()) }()
	opened, err := bases.Fetch(cmd.Context())
	if err != nil {
		return err
	}
	show, end := progressBar("filling " + o.cache.dir(o.state))
	err = opened.File.Fill(cmd.Context(), show)
	end()
	if errors.Is(err, cache.ErrFull) {
		return fmt.Errorf("%w: give it a larger --cache-size", err)
	}
	if err != nil {
		return err
	}
	st := blocks.Stats()
	fmt.Fprintf(cmd.OutOrStdout(), "%s: base %s is there, all %d bytes (%d of them fetched now)\n",
		o.cache.dir(o.state), opened.Manifest.SHA256, opened.Manifest.TotalSize, st.FetchedBytes)
	return nil
}

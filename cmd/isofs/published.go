package main

import (
	"fmt"
	"slices"
	"text/tabwriter"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"aesthetic.computer/isofs/base"
	"aesthetic.computer/isofs/origin"
	"aesthetic.computer/isofs/settings"
	"aesthetic.computer/isofs/store"
)

// placeFlags say where bases are published, and which of them to use.
type placeFlags struct {
	flag    string // that has the address
	address string
	kind    kindFlags
	s3      s3Flags
	sign    signFlags
}

func (o *placeFlags) register(flags *pflag.FlagSet, flag string) {
	o.flag = flag
	flags.StringVar(&o.address, flag, "", "where bases are published: a folder, or s3://bucket/prefix (needed)")
	flags.StringVar(&o.kind.flavor, "flavor", "", "flavor of the bases, if there are several")
	flags.StringVar(&o.kind.arch, "arch", "", "architecture of the bases, if there are several")
	o.s3.register(flags)
	if flag == "at" { // of commands that write
		o.sign.register(flags)
	}
}

// open validates the flags, joins what else is wrong, and opens the place.
func (o *placeFlags) open(wrong ...error) (store.Store, error) {
	if err := settings.Usage(append(wrong, checkPlace(o.flag, o.address), blameFlags(o.s3.options().Validate()))...); err != nil {
		return nil, err
	}
	return store.At(o.address, origin.Options{S3: o.s3.options()})
}

// channel finds the channel that the flags choose.
func (o *placeFlags) channel(cmd *cobra.Command, place store.Store) (*base.Channel, error) {
	all, err := store.Channels(cmd.Context(), place)
	if err != nil {
		return nil, err
	}
	return o.kind.choose(all, place)
}

func newBaseList() *cobra.Command {
	var o placeFlags
	cmd := &cobra.Command{
		Use:     "list",
		Short:   "List the bases that are published somewhere",
		Example: "  isofs base list --from s3://bucket/images",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			place, err := o.open()
			if err != nil {
				return err
			}
			return baseList(cmd, place, o.kind)
		},
	}
	o.register(cmd.Flags(), "from")
	return cmd
}

func baseList(cmd *cobra.Command, place store.Store, only kindFlags) error {
	channels, err := store.Channels(cmd.Context(), place)
	if err != nil {
		return err
	}
	w, listed := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 0, 2, ' ', 0), 0
	for _, c := range channels {
		if !only.allows(c) {
			continue
		}
		versions, err := store.Place{Store: place, Flavor: c.Flavor, Arch: c.Arch}.Versions(cmd.Context())
		if err != nil {
			return err
		}
		listed += len(versions)
		for _, v := range versions {
			fmt.Fprintf(w, "%s\t%s\t%s\t%d\t%s\n", c.Flavor, c.Arch, v.Name, v.Size, stateOf(c, v))
		}
	}
	if listed == 0 {
		fmt.Fprintf(cmd.ErrOrStderr(), "nothing%s is published at %s: there is no channel (isofs base publish makes one)\n", only, place)
	}
	return w.Flush()
}

// stateOf describes a version by what its channel says of it.
func stateOf(c *base.Channel, v store.Version) string {
	switch {
	case c.IsRemoving(v.Name):
		return "being removed"
	case !v.Whole:
		return "unfinished"
	case c.Current.Version == v.Name:
		return "current"
	case slices.ContainsFunc(c.Previous, func(e base.Entry) bool { return e.Version == v.Name }):
		return "previous"
	}
	return "not in the channel"
}

func newBaseRollback() *cobra.Command {
	var o placeFlags
	cmd := &cobra.Command{
		Use:   "rollback [VERSION]",
		Short: "Make an earlier base the one to serve again",
		Long: `rollback has the channel name VERSION, which must be there, or else the version before the
current one. Servers that follow the channel take it up; nothing is copied or removed.
If somebody else wrote the channel meanwhile, the exit status is 4.`,
		Example: "  isofs base rollback --at s3://bucket/images",
		Args:    cobra.MaximumNArgs(1),
		RunE:    func(cmd *cobra.Command, args []string) error { return baseRollback(cmd, &o, args) },
	}
	o.register(cmd.Flags(), "at")
	return cmd
}

func baseRollback(cmd *cobra.Command, o *placeFlags, args []string) error {
	place, err := o.open()
	if err != nil {
		return err
	}
	now, err := o.channel(cmd, place)
	if err != nil {
		return err
	}
	version := ""
	if len(args) == 1 {
		version = args[0]
		if err := base.CheckVersion(version); err != nil {
			return err
		}
	}
	sign, err := o.sign.store()
	if err != nil {
		return err
	}
	c, err := store.Place{Store: place, Flavor: now.Flavor, Arch: now.Arch, Sign: sign}.Rollback(cmd.Context(), version)
	if err != nil {
		return fmt.Errorf("roll back %s %s at %s: %w", now.Flavor, now.Arch, place, err)
	}
	fmt.Fprintf(cmd.OutOrStdout(), "%s %s is %s now, it was %s (revision %d)\n", c.Flavor, c.Arch, c.Current.Version, now.Current.Version, c.Revision)
	return nil
}

func newBasePrune() *cobra.Command {
	var o placeFlags
	var keep int
	var dry bool
	cmd := &cobra.Command{
		Use:   "prune",
		Short: "Remove bases that are too old to go back to",
		Long: `prune shortens the channel to --keep versions, the current one included, and removes what is
neither named by it then nor among the --keep newest. Versions that are not finished are
left alone: somebody may be publishing them.`,
		Example: "  isofs base prune --at s3://bucket/images --keep 3",
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return basePrune(cmd, &o, keep, dry) },
	}
	o.register(cmd.Flags(), "at")
	cmd.Flags().IntVar(&keep, "keep", base.DefaultKeep, "versions that are kept")
	cmd.Flags().BoolVar(&dry, "dry-run", false, "only say what would be removed")
	return cmd
}

func basePrune(cmd *cobra.Command, o *placeFlags, keep int, dry bool) error {
	place, err := o.open(checkKeep(keep))
	if err != nil {
		return err
	}
	c, err := o.channel(cmd, place)
	if err != nil {
		return err
	}
	sign, err := o.sign.store()
	if err != nil {
		return err
	}
	removed, err := store.Place{Store: place, Flavor: c.Flavor, Arch: c.Arch, Sign: sign}.Prune(cmd.Context(), keep, dry)
	verb := "removed"
	if dry {
		verb = "would remove"
	}
	printRemoved(cmd, verb, removed)
	if err != nil {
		return fmt.Errorf("prune %s %s at %s: %w", c.Flavor, c.Arch, place, err)
	}
	if len(removed) == 0 {
		fmt.Fprintf(cmd.ErrOrStderr(), "there is nothing to remove of %s %s at %s (--keep %d)\n", c.Flavor, c.Arch, place, keep)
	}
	return nil
}

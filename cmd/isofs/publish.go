package main

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"aesthetic.computer/isofs/base"
	"aesthetic.computer/isofs/origin"
	"aesthetic.computer/isofs/settings"
	"aesthetic.computer/isofs/store"
)

// publishFlags are the flags of isofs base publish.
type publishFlags struct {
	to   string
	keep int
	dry  bool
	s3   s3Flags
	sign signFlags
}

func newBasePublish() *cobra.Command {
	var o publishFlags
	cmd := &cobra.Command{
		Use:   "publish DIR|IMAGE [MANIFEST]",
		Short: "Publish a base, and make it the one to serve",
		Long: `publish copies base.iso and manifest.json to bases/FLAVOR/ARCH/VERSION in a folder or
bucket, reads them back, compares every block, and then has channels/FLAVOR-ARCH.json name
this version. Servers that follow the channel take it up. The channel is written last,
and only if no other publisher wrote it meanwhile: then the exit status is 4.

The same command continues an interrupted publication. A version that is there with other
bytes is not overwritten. With --sign-key manifest and channel are signed, each signature
before the signed file. A signed channel is not written without a signature. At last publish
removes the versions beyond --keep, as isofs base prune does.`,
		Example: `  isofs base publish bases/tiny/amd64/2026-11-01 --to /srv/www
  isofs base publish bases/tiny/amd64/2026-11-01 --to s3://bucket/images --dry-run`,
		Args: cobra.RangeArgs(1, 2),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := settings.Usage(blameFlags(o.s3.options().Validate()), checkPlace("to", o.to), checkKeep(o.keep)); err != nil {
				return err
			}
			return basePublish(cmd, args, o)
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&o.to, "to", "", "where to publish: a folder, or s3://bucket/prefix (needed)")
	flags.IntVar(&o.keep, "keep", base.DefaultKeep, "versions that are kept")
	flags.BoolVar(&o.dry, "dry-run", false, "only say what would be done")
	o.s3.register(flags)
	o.sign.register(flags)
	return cmd
}

// checkPlace refuses a missing place.
func checkPlace(flag, address string) error {
	if address == "" {
		return settings.Wrong(flag, "is needed: the folder, or s3://bucket/prefix, in which bases/ and channels/ are")
	}
	return nil
}

func checkKeep(n int) error {
	if n < 1 || n > base.MaxKeep {
		return settings.Wrong("keep", "%d is not between 1 and %d", n, base.MaxKeep)
	}
	return nil
}

func basePublish(cmd *cobra.Command, args []string, o publishFlags) error {
	b, err := openLocal(args)
	if err != nil {
		return err
	}
	defer b.Image.Close()
	place, err := store.At(o.to, origin.Options{S3: o.s3.options()})
	if err != nil {
		return err
	}
	sign, err := o.sign.store()
	if err != nil {
		return err
	}
	steps := &steps{to: cmd.ErrOrStderr(), what: "publish"}
	defer steps.end()
	p := store.Publication{Manifest: b.Manifest, Image: b.Image, Keep: o.keep, Progress: steps.show, Sign: sign}
	plan, err := store.Preview(cmd.Context(), place, p)
	if err != nil {
		return err
	}
	printPlan(cmd, place, b, plan)
	if o.dry {
		return nil
	}
	err = b.Verify(cmd.Context(), func(done, total int64) { steps.show("checking the image", done, total) })
	if err != nil {
		return err
	}
	result, err := store.Publish(cmd.Context(), place, p)
	steps.end()
	if result.Channel != nil {
		printPublished(cmd, result.Channel, result.Already)
		printRemoved(cmd, "removed", result.Removed)
	}
	return err
}

func printPublished(cmd *cobra.Command, c *base.Channel, already bool) {
	now := "is published, and current"
	if already {
		now = "was published already, is current, and was read back"
	}
	fmt.Fprintf(cmd.OutOrStdout(), "%s %s %s %s (sha256 %s)\nchannel %s, revision %d\n",
		c.Flavor, c.Arch, c.Current.Version, now, c.Current.SHA256, base.ChannelPath(c.Flavor, c.Arch), c.Revision)
}

// printPlan prints what publish will do.
func printPlan(cmd *cobra.Command, place store.Store, b *base.Local, plan store.Plan) {
	m, out := b.Manifest, cmd.ErrOrStderr()
	fmt.Fprintf(out, "publish: %s %s %s, %d bytes, to %s/%s\n", m.Flavor, m.Arch, m.Version, m.TotalSize, place, m.Entry().Path)
	var do []string
	if plan.Image {
		do = append(do, "check and copy "+base.ImageName)
	}
	do = append(do, "read it back")
	if plan.Manifest {
		do = append(do, "write "+base.ManifestName)
	}
	switch channel := base.ChannelPath(m.Flavor, m.Arch); {
	case plan.Channel && plan.From == "":
		do = append(do, "make "+channel)
	case plan.Channel:
		do = append(do, fmt.Sprintf("move %s from %s to %s", channel, plan.From, m.Version))
	default:
		do = append(do, "leave "+channel+" as it is")
	}
	if len(plan.Remove) > 0 {
		do = append(do, "remove "+strings.Join(plan.Remove, ", "))
	}
	fmt.Fprintf(out, "publish: to do: %s\n", strings.Join(do, "; "))
}

func printRemoved(cmd *cobra.Command, how string, versions []string) {
	for _, v := range versions {
		fmt.Fprintf(cmd.OutOrStdout(), "%s %s\n", how, v)
	}
}

// kindFlags choose one of the channels at a place.
type kindFlags struct{ flavor, arch string }

// String describes the chosen ones in a sentence.
func (k kindFlags) String() string {
	var text string
	if k.flavor != "" {
		text += " of flavor " + k.flavor
	}
	if k.arch != "" {
		text += " for " + k.arch
	}
	return text
}

// choose returns the only channel that the flags allow.
func (k kindFlags) choose(all []*base.Channel, place store.Store) (*base.Channel, error) {
	if len(all) == 0 {
		return nil, fmt.Errorf("there is no channel at %s: nothing is published there (isofs base publish does that)", place)
	}
	var found []*base.Channel
	var names []string
	for _, c := range all {
		names = append(names, c.Flavor+"-"+c.Arch)
		if k.allows(c) {
			found = append(found, c)
		}
	}
	if len(found) != 1 {
		return nil, settings.Usage(errors.New("which channel? --flavor and --arch must name one of " + strings.Join(names, ", ")))
	}
	return found[0], nil
}

// allows reports whether the flags allow a channel.
func (k kindFlags) allows(c *base.Channel) bool {
	return (k.flavor == "" || k.flavor == c.Flavor) && (k.arch == "" || k.arch == c.Arch)
}

package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"aesthetic.computer/isofs/bake"
)

func newBakeFedora() *cobra.Command {
	o := bake.FedoraOptions{}
	o.Log = quietLogger()
	cmd := &cobra.Command{
		Use:   "fedora --live-iso FILE (--checksum FILE | --sha256 HEX)",
		Short: "Make a base that people boot of a Fedora Workstation Live ISO",
		Long: `fedora makes a base of a Fedora Live ISO: Fedora's signed boot chain, kernel and root file
system, with the session of the debian base laid over it and what that needs installed by
dnf. The ISO is compared with its checksum first. --checksum takes the CHECKSUM file that
Fedora publishes beside it; its OpenPGP signature is checked if --keyring has Fedora's keys,
and is yours to check with gpg if not.

What it mounts and changes is a root file system of its own, in name spaces that end with it.
` + bake.FedoraNeeds + `
The long steps are kept in the work directory by a hash of recipe and ISO; a bake that was
ended goes on with the step that it was in. The folder of the base is printed.`,
		Example: "  isofs bake fedora --live-iso Fedora-Workstation-Live-43-1.6.x86_64.iso --checksum Fedora-Workstation-43-1.6-x86_64-CHECKSUM -o bases",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := workIn(&o.WorkDir); err != nil {
				return err
			}
			fmt.Fprintf(cmd.ErrOrStderr(), "bake: %s\n", bake.FedoraNeeds)
			progress, end := bakeProgress(cmd)
			o.Progress = progress
			result, err := bake.Fedora(cmd.Context(), o)
			end()
			return tellBaked(cmd, result, err)
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&o.LiveISO, "live-iso", "", "Fedora Live ISO")
	flags.StringVar(&o.Want.Checksum, "checksum", "", "Fedora's CHECKSUM file, which names the ISO")
	flags.StringVar(&o.Want.SHA256, "sha256", "", "SHA-256 of the ISO, instead of a CHECKSUM file")
	flags.StringVar(&o.Want.Keyring, "keyring", "", "keyring of Fedora's keys: the CHECKSUM file must be signed by one of them (gpgv)")
	flags.BoolVar(&o.NoInstall, "no-install", false, "install nothing: the ISO must have all that the session needs")
	flags.StringVarP(&o.OutDir, "output", "o", "bases", "directory of bases; the result is fedora/ARCH/VERSION in it")
	flags.StringVar(&o.WorkDir, "work", "", "directory of downloaded packages and finished steps (default: the user's cache directory)")
	flags.StringVar(&o.Mirror, "archive", "", "address of Debian's archive, for newer erofs-utils where this machine's are old (default: the one that apt uses here)")
	flags.StringVar(&o.Version, "base-version", "", "YYYY-MM-DD or YYYY-MM-DD.N (default: the day of --epoch)")
	flags.Int64Var(&o.SourceDateEpoch, "epoch", bake.DefaultEpoch, "time to stamp on everything, in Unix seconds")
	_ = cmd.MarkFlagRequired("live-iso") // it was defined above
	return cmd
}

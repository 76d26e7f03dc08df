package main

import (
	"fmt"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"aesthetic.computer/isofs/bake"
	"aesthetic.computer/isofs/settings"
	"aesthetic.computer/isofs/signature"
)

func newBake() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "bake",
		Short: "Make bases",
		Args:  settings.OnlyCommands,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newBakeTiny(), newBakeDebian(), newBakeFedora())
	return cmd
}

func newBakeTiny() *cobra.Command {
	o := bake.TinyOptions{Log: quietLogger()}
	cmd := &cobra.Command{
		Use:   "tiny",
		Short: "Make the tiny base: Debian's kernel and busybox, which say what the image carries",
		Long: `tiny makes a base of some 60 MB that boots as a disk and as a CD-ROM, by UEFI, Secure Boot
included, and by BIOS, and says on screen and serial port which piece the image carries. It
is for trying and testing. For real machines name another kernel: --kernel linux-image-amd64.

It downloads some 30 MB of Debian packages once, through apt, and takes seconds then. It
needs no root, installs nothing and mounts nothing. The same packages give the same bytes.
The folder of the base is printed.`,
		Example: "  isofs bake tiny -o bases",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return runBake(cmd, &o.Progress, func() (*bake.Result, error) { return bake.Tiny(cmd.Context(), o) })
		},
	}
	flags := cmd.Flags()
	registerBake(flags, "tiny", &o.OutDir, &o.WorkDir, &o.Version, &o.SourceDateEpoch)
	flags.StringVar(&o.Arch, "arch", "amd64", "architecture")
	flags.StringVar(&o.KernelPackage, "kernel", "", "Debian package of the kernel (default "+bake.DefaultKernelPackage+", which is for virtual machines)")
	return cmd
}

func newBakeDebian() *cobra.Command {
	o := bake.DebianOptions{Log: quietLogger()}
	trusted := ""
	cmd := &cobra.Command{
		Use:   "debian",
		Short: "Make the base that people boot: a splash, then the piece fullscreen in a browser",
		Long: `debian makes a base of Debian ` + bake.DebianRelease + `: Debian's signed boot chain, a read-only root
under a layer in memory, a compositor and a browser that shows the piece and nothing else.

It installs packages into a root file system of its own and needs root for that, in name
spaces that end with it: nothing is installed here, nothing stays mounted.
` + bake.DebianNeeds + `
The work directory keeps the long steps: after an interruption the same command repeats only
the step that was under way. bake prints the folder of the base.`,
		Example: "  isofs bake debian -o bases",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			if o.Trust, err = trustKey(trusted); err != nil {
				return err
			}
			fmt.Fprintf(cmd.ErrOrStderr(), "bake: %s\n", bake.DebianNeeds)
			return runBake(cmd, &o.Progress, func() (*bake.Result, error) { return bake.Debian(cmd.Context(), o) })
		},
	}
	flags := cmd.Flags()
	registerBake(flags, "debian", &o.OutDir, &o.WorkDir, &o.Version, &o.SourceDateEpoch)
	flags.StringVar(&trusted, "trust-key", "", "file with public OpenPGP keys, one of which must have signed the piece on the stick (isofs key public)")
	flags.StringVar(&o.Mirror, "archive", "", "address of Debian's archive (default: the one that apt uses here)")
	return cmd
}

// trustKey reads the keys that a machine is to trust; none without a file.
func trustKey(path string) (bake.TrustKey, error) {
	ring, err := signature.OpenKeyring(path)
	if err != nil || ring == nil {
		return bake.TrustKey{}, err
	}
	armored, err := ring.Armored()
	return bake.TrustKey{Keyring: armored, Name: ring.Owners()}, err
}

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
The work directory keeps the long steps by a hash of recipe and ISO: after an interruption the
same command repeats only the step that was under way. bake prints the folder of the base.`,
		Example: "  isofs bake fedora --live-iso Fedora-Workstation-Live-43-1.6.x86_64.iso --checksum Fedora-Workstation-43-1.6-x86_64-CHECKSUM -o bases",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			fmt.Fprintf(cmd.ErrOrStderr(), "bake: %s\n", bake.FedoraNeeds)
			return runBake(cmd, &o.Progress, func() (*bake.Result, error) { return bake.Fedora(cmd.Context(), o) })
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&o.LiveISO, "live-iso", "", "Fedora Live ISO")
	flags.StringVar(&o.Want.Checksum, "checksum", "", "Fedora's CHECKSUM file, which names the ISO")
	flags.StringVar(&o.Want.SHA256, "sha256", "", "SHA-256 of the ISO, instead of a CHECKSUM file")
	flags.StringVar(&o.Want.Keyring, "keyring", "", "keyring of Fedora's keys: the CHECKSUM file must be signed by one of them (gpgv)")
	flags.BoolVar(&o.NoInstall, "no-install", false, "install nothing: the ISO must have all that the session needs")
	registerBake(flags, "fedora", &o.OutDir, &o.WorkDir, &o.Version, &o.SourceDateEpoch)
	flags.StringVar(&o.Mirror, "archive", "", "address of Debian's archive, for newer erofs-utils where this machine's are old (default: the one that apt uses here)")
	_ = cmd.MarkFlagRequired("live-iso") // it was defined above
	return cmd
}

// registerBake defines the flags of all bakes.
func registerBake(flags *pflag.FlagSet, flavor string, out, work, version *string, epoch *int64) {
	flags.StringVarP(out, "output", "o", "bases", "directory of bases; the result is "+flavor+"/ARCH/VERSION in it")
	flags.StringVar(work, "work", "", "directory of downloaded packages, finished steps and scratch files (default: the user's cache directory)")
	flags.StringVar(version, "base-version", "", "YYYY-MM-DD or YYYY-MM-DD.N (default: the day of --epoch)")
	flags.Int64Var(epoch, "epoch", bake.DefaultEpoch, "time to stamp on everything, in Unix seconds")
}

// runBake bakes, shows the steps on standard error, and prints the folder of the base.
func runBake(cmd *cobra.Command, progress *func(step string, done, total int64), run func() (*bake.Result, error)) error {
	steps := &steps{to: cmd.ErrOrStderr(), what: "bake"}
	*progress = steps.show
	result, err := run()
	steps.end()
	if err != nil {
		return err
	}
	m := result.Manifest
	fmt.Fprintf(cmd.ErrOrStderr(), "bake: %s %s %s, %d MiB, sha256 %s\n", m.Flavor, m.Version, m.Arch, m.TotalSize>>20, m.SHA256)
	fmt.Fprintln(cmd.OutOrStdout(), result.Dir)
	return nil
}

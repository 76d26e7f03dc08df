package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"

	"github.com/spf13/cobra"

	"aesthetic.computer/isofs/bake"
	"aesthetic.computer/isofs/border"
)

func newBake() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "bake",
		Short: "Make bases",
		Args:  onlyCommands,
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
			if err := workIn(&o.WorkDir); err != nil {
				return err
			}
			progress, end := bakeProgress(cmd)
			o.Progress = progress
			result, err := bake.Tiny(cmd.Context(), o)
			end()
			return tellBaked(cmd, result, err)
		},
	}
	flags := cmd.Flags()
	flags.StringVarP(&o.OutDir, "output", "o", "bases", "directory of bases; the result is tiny/ARCH/VERSION in it")
	flags.StringVar(&o.WorkDir, "work", "", "directory of downloaded packages and scratch files (default: the user's cache directory)")
	flags.StringVar(&o.Arch, "arch", "amd64", "architecture")
	flags.StringVar(&o.KernelPackage, "kernel", "", "Debian package of the kernel (default "+bake.DefaultKernelPackage+", which is for virtual machines)")
	flags.StringVar(&o.Version, "base-version", "", "YYYY-MM-DD or YYYY-MM-DD.N (default: the day of --epoch)")
	flags.Int64Var(&o.SourceDateEpoch, "epoch", bake.DefaultEpoch, "time to stamp on everything, in Unix seconds")
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
The long steps are kept in the work directory; a bake that was ended goes on with the step
that it was in. The folder of the base is printed.`,
		Example: "  isofs bake debian -o bases",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			if err := workIn(&o.WorkDir); err != nil {
				return err
			}
			if o.Trust, err = trustKey(trusted); err != nil {
				return err
			}
			fmt.Fprintf(cmd.ErrOrStderr(), "bake: %s\n", bake.DebianNeeds)
			progress, end := bakeProgress(cmd)
			o.Progress = progress
			result, err := bake.Debian(cmd.Context(), o)
			end()
			return tellBaked(cmd, result, err)
		},
	}
	flags := cmd.Flags()
	flags.StringVarP(&o.OutDir, "output", "o", "bases", "directory of bases; the result is debian/ARCH/VERSION in it")
	flags.StringVar(&o.WorkDir, "work", "", "directory of downloaded packages and finished steps (default: the user's cache directory)")
	flags.StringVar(&trusted, "trust-key", "", "file with public OpenPGP keys, one of which must have signed the piece on the stick (isofs key public)")
	flags.StringVar(&o.Mirror, "archive", "", "address of Debian's archive (default: the one that apt uses here)")
	flags.StringVar(&o.Version, "base-version", "", "YYYY-MM-DD or YYYY-MM-DD.N (default: the day of --epoch)")
	flags.Int64Var(&o.SourceDateEpoch, "epoch", bake.DefaultEpoch, "time to stamp on everything, in Unix seconds")
	return cmd
}

// trustKey reads the keys that a machine is to trust; none without a file.
func trustKey(path string) (bake.TrustKey, error) {
	ring, err := openKeyring(path)
	if err != nil || ring == nil {
		return bake.TrustKey{}, err
	}
	armored, err := ring.Armored()
	return bake.TrustKey{Keyring: armored, Name: ring.Owners()}, err
}

// bakeProgress shows the stages of a bake on standard error, until end.
func bakeProgress(cmd *cobra.Command) (progress func(stage string, done, total int64), end func()) {
	stage, last := "", func() {}
	var show func(done, total int64)
	progress = func(now string, done, total int64) {
		if now != stage {
			last()
			fmt.Fprintf(cmd.ErrOrStderr(), "bake: %s\n", now)
			stage = now
			show, last = progressBar(now)
		}
		show(done, total)
	}
	return progress, func() { last() }
}

// tellBaked prints what a bake made.
func tellBaked(cmd *cobra.Command, result *bake.Result, err error) error {
	if err != nil {
		return err
	}
	m := result.Manifest
	fmt.Fprintf(cmd.ErrOrStderr(), "bake: %s %s %s, %d MiB, sha256 %s\n", m.Flavor, m.Version, m.Arch, m.TotalSize>>20, m.SHA256)
	fmt.Fprintln(cmd.OutOrStdout(), result.Dir)
	return nil
}

// workIn fills in the folder to work in, if none is named: in the user's cache
// directory, and never in one that somebody else could have made, as a bake
// takes packages and finished steps from there.
func workIn(dir *string) error {
	if *dir != "" {
		return nil
	}
	const name = "name a folder with --work"
	cache, err := os.UserCacheDir()
	if err == nil && !filepath.IsAbs(cache) {
		err = errors.New("HOME is no whole path")
	}
	if err != nil {
		return usage(fmt.Errorf("there is no folder to work in (%w): %s", err, name))
	}
	work := filepath.Join(cache, "isofs", "bake")
	if os.Geteuid() == 0 {
		err = border.Check(work)
	}
	if err == nil {
		err = owned(work)
	}
	if err != nil {
		return usage(fmt.Errorf("the folder to work in, %s, is not yours alone: %w: %s", work, err, name))
	}
	*dir = work
	return nil
}

// owned reports what is wrong with a folder that is there and is another's.
func owned(dir string) error {
	fi, err := os.Stat(dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if owner := int(fi.Sys().(*syscall.Stat_t).Uid); owner != os.Geteuid() {
		return fmt.Errorf("it belongs to user %d", owner)
	}
	return nil
}

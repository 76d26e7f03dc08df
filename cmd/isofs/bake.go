package main

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"aesthetic.computer/isofs/bake"
)

func newBake() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "bake",
		Short: "Make bases",
		Args:  cobra.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newBakeTiny())
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
			if o.WorkDir == "" {
				o.WorkDir = defaultWork()
			}
			stage, end := "", func() {}
			var show func(done, total int64)
			o.Progress = func(now string, done, total int64) {
				if now != stage {
					end()
					fmt.Fprintf(cmd.ErrOrStderr(), "bake: %s\n", now)
					stage = now
					show, end = progressBar(now)
				}
				show(done, total)
			}
			result, err := bake.Tiny(cmd.Context(), o)
			end()
			if err != nil {
				return err
			}
			m := result.Manifest
			fmt.Fprintf(cmd.ErrOrStderr(), "bake: %s %s %s, %d MiB, sha256 %s\n", m.Flavor, m.Version, m.Arch, m.TotalSize>>20, m.SHA256)
			fmt.Fprintln(cmd.OutOrStdout(), result.Dir)
			return nil
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

func defaultWork() string {
	dir, err := os.UserCacheDir()
	if err != nil {
		dir = os.TempDir()
	}
	return filepath.Join(dir, "isofs", "bake")
}

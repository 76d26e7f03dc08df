package main

import (
	"context"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"aesthetic.computer/isofs/base"
	"aesthetic.computer/isofs/output"
	"aesthetic.computer/isofs/settings"
)

func newBase() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "base",
		Short: "Describe, check and publish bases",
		Args:  settings.OnlyCommands,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newBaseIndex(), newBaseVerify(), newBasePublish(), newBaseList(), newBaseRollback(), newBasePrune(), newBaseSign())
	return cmd
}

func newBaseIndex() *cobra.Command {
	var o base.IndexOptions
	var out string
	blockSize := settings.Size(base.BlockSize)
	cmd := &cobra.Command{
		Use:   "index IMAGE",
		Short: "Write the manifest of a disk image",
		Long: `index reads a GPT disk image that has a FEDAC-PIECE partition as its last, and writes
the manifest by which every byte of it is verified from then on. The image must be
named base.iso to be served from the folder where it lies.`,
		Example: "  isofs base index bases/debian/amd64/2026-11-01/base.iso --flavor debian",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			o.BlockSize = int64(blockSize)
			return baseIndex(cmd, args[0], out, o)
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&o.Version, "base-version", "", "YYYY-MM-DD or YYYY-MM-DD.N (default: the day of the image's modification)")
	flags.StringVar(&o.Flavor, "flavor", "tiny", "fedora, debian, tiny")
	flags.StringVar(&o.Fedora, "fedora", "", "release of Fedora, such as 43-1.6, for that flavor")
	flags.StringVar(&o.Arch, "arch", "amd64", "architecture that the image boots on")
	flags.StringSliceVar(&o.Mirrors, "also-at", nil, "address where the image will be, too (repeatable): written into the manifest as a mirror")
	flags.Var(&blockSize, "block-size", "unit of verification: a power of two, 4KiB to 1MiB")
	flags.StringVarP(&out, "output", "o", "", "manifest to write, - for standard output (default manifest.json beside the image)")
	return cmd
}

func baseIndex(cmd *cobra.Command, path, out string, o base.IndexOptions) error {
	f, size, err := base.OpenFile(path)
	if err != nil {
		return err
	}
	defer f.Close()
	fi, err := f.Stat()
	if err != nil {
		return fmt.Errorf("index %s: %w", path, err)
	}
	made := fi.ModTime().UTC().Truncate(time.Second)
	o.CreatedAt = made.Format(time.RFC3339)
	if o.Version == "" {
		o.Version = made.Format(time.DateOnly)
	}
	if out == "" {
		out = filepath.Join(filepath.Dir(path), base.ManifestName)
	}
	to, err := output.Create(cmd.Context(), out)
	if err != nil {
		return fmt.Errorf("write the manifest: %w", err)
	}
	defer to.Abort()
	m, err := indexInto(cmd.Context(), f, size, o, to)
	if err != nil {
		return fmt.Errorf("index %s: %w", path, err)
	}
	fmt.Fprintf(reportTo(cmd, out == output.Standard), "%s\n  base    %s %s %s, %d bytes\n  sha256  %s\n  slot    %d bytes at %d\n  blocks  %d of %s\n",
		out, m.Flavor, m.Version, m.Arch, m.TotalSize, m.SHA256, m.PiecePartitionSize, m.PiecePartitionOffset, len(m.Blocks), settings.Size(m.BlockSize))
	return nil
}

// indexInto writes the manifest of an image. Servers of every user must be able to read
// it.
func indexInto(ctx context.Context, f io.ReaderAt, size int64, o base.IndexOptions, to *output.File) (*base.Manifest, error) {
	show, end := progressBar("indexing")
	o.Progress = show
	m, err := base.Index(ctx, f, size, o)
	end()
	if err != nil {
		return nil, err
	}
	data, err := m.Marshal()
	if err == nil {
		_, err = to.To.Write(data)
	}
	if err == nil {
		err = to.Share()
	}
	if err != nil {
		return nil, err
	}
	return m, to.Commit()
}

func newBaseVerify() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "verify DIR|IMAGE [MANIFEST]",
		Short: "Compare a disk image with its manifest",
		Long: `verify reads the whole image and compares every block, the whole, the partition
table and the boot files with the manifest. The exit status is 3 if anything differs.
Given a folder, it takes base.iso and manifest.json in it.`,
		Example: "  isofs base verify bases/tiny/amd64/2026-11-01",
		Args:    cobra.RangeArgs(1, 2),
		RunE:    func(cmd *cobra.Command, args []string) error { return baseVerify(cmd, args) },
	}
	return cmd
}

func baseVerify(cmd *cobra.Command, args []string) error {
	b, err := openLocal(args)
	if err != nil {
		return err
	}
	defer b.Image.Close()
	show, end := progressBar("verifying")
	err = b.Verify(cmd.Context(), show)
	end()
	if err != nil {
		return err
	}
	m := b.Manifest
	fmt.Fprintf(cmd.OutOrStdout(), "%s: right, all %d blocks (sha256 %s)\n", b.Image.Name(), len(m.Blocks), m.SHA256)
	return nil
}

// openLocal opens the base that the arguments name: a folder, or an image, and perhaps the
// manifest.
func openLocal(args []string) (*base.Local, error) {
	return base.OpenLocal(args[0], strings.Join(args[1:], ""))
}

package main

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"aesthetic.computer/isofs/base"
	"aesthetic.computer/isofs/extent"
	"aesthetic.computer/isofs/fault"
	"aesthetic.computer/isofs/partition"
	"aesthetic.computer/isofs/piece"
	"aesthetic.computer/isofs/settings"
)

func newInspect() *cobra.Command {
	var o stackFlags
	cmd := &cobra.Command{
		Use:   "inspect FILE|PIECE",
		Short: "Show what an image is made of",
		Long: `inspect shows the partitions of an image and what its piece partition holds. Given a
piece instead of a file it also shows the extents: which bytes come from the base and
which are generated. For a file no flag is of use.`,
		Example: `  isofs inspect notepat-os.iso
  isofs inspect notepat --base bases/tiny/amd64/2026-11-01`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if f, size, err := base.OpenFile(args[0]); err == nil {
				defer f.Close()
				return describe(cmd.OutOrStdout(), f, size)
			} else if strings.ContainsAny(args[0], "/.") && !strings.HasPrefix(args[0], "@") {
				return err // a path, clearly
			}
			if o.base == "" {
				return settings.Usage(fmt.Errorf("there is no file %q here; to inspect it as a piece give --base", args[0]))
			}
			if err := o.validate(); err != nil {
				return err
			}
			if done, err := o.asUser(cmd.Context(), cmd, args); done || err != nil {
				return err
			}
			return inspectPiece(cmd, &o, args[0])
		},
	}
	o.register(cmd)
	flagGroups.Hide(cmd, "refresh", "retain", "sign-key", "sign-passphrase-file")
	return cmd
}

func inspectPiece(cmd *cobra.Command, o *stackFlags, arg string) (err error) {
	name, err := piece.ParseName(arg)
	if err != nil {
		return err
	}
	s, err := o.openStack(cmd.Context(), quietLogger())
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	snap, err := s.Catalog.Current(cmd.Context(), name)
	if err != nil {
		return err
	}
	h, err := snap.Open()
	if err != nil {
		return err
	}
	defer h.Close()
	out := cmd.OutOrStdout()
	fmt.Fprintf(out, "image     %s\nsnapshot  %s of %s\nsha256    %s\nbundle    %s\nbase      %s\n\n",
		snap.FileName(), snap.ID(), snap.Time().Format(time.RFC3339), snap.SHA256(), snap.Bundle(), snap.Base().SHA256)
	table := tabwriter.NewWriter(out, 0, 4, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintf(table, "offset\tbytes\textent\t\n")
	for _, e := range h.Extents(0, h.Size()) {
		fmt.Fprintf(table, "%d\t%d\t%s\t\n", e.Off, e.Len, extentKind(snap.Base(), e))
	}
	table.Flush()
	fmt.Fprintln(out)
	return describe(out, h, h.Size())
}

// extentKind says where an extent's bytes come from.
func extentKind(m *base.Manifest, e extent.Extent) string {
	switch {
	case e.Source == nil:
		return "zeroes"
	case e.Off < m.PiecePartitionOffset:
		return "base"
	case e.Off >= m.SlotEnd():
		return "tail of base"
	}
	if _, ok := e.Source.(extent.Pinner); ok {
		return "bundle"
	}
	return "generated"
}

// describe shows the partitions and the piece partition's piece.json.
func describe(out io.Writer, r io.ReaderAt, total int64) error {
	partitions, err := partition.List(r, total)
	if err != nil {
		return err
	}
	table := tabwriter.NewWriter(out, 0, 4, 2, ' ', 0)
	fmt.Fprintf(table, "partition\tname\toffset\tbytes\tlabel\n")
	for _, p := range partitions {
		if p.IsESP() {
			p.Label = p.FATLabel(r, total)
		}
		fmt.Fprintf(table, "%d\t%s\t%d\t%d\t%s\n", p.Number, p.Name, p.Offset, p.Size, p.Label)
	}
	table.Flush()
	for _, p := range partitions {
		if p.Label != base.SlotLabel {
			continue
		}
		about, err := p.ReadFile(r, total, "piece.json")
		if errors.Is(err, fault.NotFound) {
			fmt.Fprintln(out, "\nno piece.json in FEDAC-PIECE: this is a base without a piece, or another tool wrote it")
			return nil
		}
		if err != nil {
			return err
		}
		fmt.Fprintf(out, "\n%s", about)
		if _, err := p.ReadFile(r, total, "piece.json.asc"); err == nil {
			fmt.Fprintln(out, "\npiece.json is signed (piece.json.asc)")
		}
	}
	return nil
}

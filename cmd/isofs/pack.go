package main

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"

	"github.com/google/renameio/v2"
	"github.com/spf13/cobra"

	"aesthetic.computer/isofs/base"
	"aesthetic.computer/isofs/bundle"
	"aesthetic.computer/isofs/catalog"
	"aesthetic.computer/isofs/fault"
	"aesthetic.computer/isofs/signature"
)

func newPack() *cobra.Command {
	var o stackFlags
	var out string
	cmd := &cobra.Command{
		Use:   "pack PIECE",
		Short: "Write the image of a piece to a file, without a mount",
		Long: `pack writes the same bytes that the mount shows for the piece: block by block from the
base's origin, verified, with the piece in its partition. The file's digest is compared
with the one computed beforehand; if it differs nothing is left behind. With --sign-key its
signature is beside it.

With the --state of a running server the image is that server's current one; the cache
needs a directory of its own then (--cache), since one process uses a cache at a time.`,
		Example: "  isofs pack notepat -o notepat-os.iso --base bases/tiny/amd64/2026-11-01",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := usage(o.validate()); err != nil {
				return err
			}
			return runPack(cmd, &o, args[0], out)
		},
	}
	o.register(cmd)
	cmd.Flags().StringVarP(&out, "output", "o", "", "file to write (default: PIECE-os.iso here)")
	return cmd
}

func runPack(cmd *cobra.Command, o *stackFlags, piece, out string) (err error) {
	name, err := bundle.ParseName(piece)
	if err != nil {
		return err
	}
	s, err := openStack(cmd.Context(), o, quietLogger())
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	snap, err := s.catalog.Current(cmd.Context(), name)
	if err != nil {
		return err
	}
	if out == "" {
		out = snap.FileName()
	}
	if err := writeImage(cmd.Context(), snap, out); err != nil {
		return fmt.Errorf("pack %s: %w", name, err)
	}
	if s.signer != nil {
		sig, err := snap.Sidecar(ascSuffix)
		if err == nil {
			err = renameio.WriteFile(out+signature.Suffix, sig, 0o644)
		}
		if err != nil {
			return fmt.Errorf("pack %s: write its signature: %w", name, err)
		}
	}
	fmt.Fprintf(cmd.OutOrStdout(), "%s  %s\n", snap.SHA256(), out)
	return nil
}

// quietLogger is for commands whose output is read by people: warnings only.
func quietLogger() *slog.Logger {
	return slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
}

// copyBuffer is the unit of writing an image.
const copyBuffer = 1 << 20

// writeImage writes the image to a file that appears only when it is whole
// and right. Runs of zeroes become holes.
func writeImage(ctx context.Context, snap *catalog.Snapshot, out string) error {
	h, err := snap.Open()
	if err != nil {
		return err
	}
	defer h.Close()
	f, err := renameio.NewPendingFile(out, renameio.WithPermissions(0o644))
	if err != nil {
		return fmt.Errorf("write %s: %w", out, err)
	}
	defer f.Cleanup() // does nothing once it was renamed
	sum := sha256.New()
	show, end := progressBar("writing " + out)
	defer end()
	buf := make([]byte, copyBuffer)
	for off := int64(0); off < h.Size(); {
		n, err := h.ReadAtContext(ctx, buf[:min(copyBuffer, h.Size()-off)], off)
		if err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		sum.Write(buf[:n])
		if !isZero(buf[:n]) {
			if _, err := f.WriteAt(buf[:n], off); err != nil {
				return fmt.Errorf("write %s: %w", out, err)
			}
		}
		off += int64(n)
		show(off, h.Size())
	}
	if got := base.Hash(sum.Sum(nil)); got != snap.SHA256() {
		return fmt.Errorf("the bytes have sha256 %s, the image %s: %w", got, snap.SHA256(), fault.Corrupt)
	}
	if err := f.Truncate(h.Size()); err != nil {
		return fmt.Errorf("write %s: %w", out, err)
	}
	if err := os.Chtimes(f.Name(), snap.Time(), snap.Time()); err != nil {
		return fmt.Errorf("write %s: %w", out, err)
	}
	return f.CloseAtomicallyReplace()
}

func isZero(p []byte) bool {
	for _, b := range p {
		if b != 0 {
			return false
		}
	}
	return true
}

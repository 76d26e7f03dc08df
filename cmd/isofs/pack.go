package main

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"aesthetic.computer/isofs/fault"
	"aesthetic.computer/isofs/output"
	"aesthetic.computer/isofs/piece"
	"aesthetic.computer/isofs/server"
	"aesthetic.computer/isofs/settings"
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
signature is beside it. With  -o -  the image goes to standard output, as into a FIFO or a
device such as /dev/null, without a signature. A disk is refused: isofs stick write is for that.

With the --state of a server the image is that server's current one. One process uses a
state and a cache at a time: while the server runs, name others (--state, --cache).`,
		Example: "  isofs pack notepat -o notepat-os.iso --base bases/tiny/amd64/2026-11-01",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := o.validate(); err != nil {
				return err
			}
			name, err := piece.ParseName(args[0])
			if err != nil {
				return err
			}
			if server.IsChild() {
				return packForParent(cmd.Context(), &o, name)
			}
			if out == "" {
				out = name.FileName()
			}
			return runPack(cmd, &o, name, out)
		},
	}
	o.register(cmd)
	cmd.Flags().StringVarP(&out, "output", "o", "", "file to write, - for standard output (default: PIECE-os.iso here)")
	return cmd
}

// runPack writes the image, and its signature, to files that appear only when
// they are whole and right, or into what is not a file (package output). Started
// by root, it makes the files, and the user's process writes to them
// (packForParent).
func runPack(cmd *cobra.Command, o *stackFlags, name piece.Name, out string) error {
	image, err := output.Create(cmd.Context(), out)
	if err != nil {
		return err
	}
	defer image.Abort() // does nothing once it was committed
	if image.IsStream() && term.IsTerminal(int(image.To.Fd())) {
		return settings.Usage(fmt.Errorf("%s is a terminal, and an image is not text: name a file", out))
	}
	sigName := out + signature.Suffix
	if image.IsStream() {
		sigName = os.DevNull // a signature cannot be put beside it
	}
	sig, err := output.Create(cmd.Context(), sigName)
	if err != nil {
		return err
	}
	defer sig.Abort()
	done, err := packByUser(cmd, o, name, image.To, sig.To)
	if done == nil && err == nil {
		done, err = o.pack(cmd.Context(), name, image.To, sig.To)
	}
	if err != nil {
		return err
	}
	return endPack(cmd, done, image, sig, out)
}

// endPack gives the written files their names, and says so.
func endPack(cmd *cobra.Command, done *server.Packed, image, sig *output.File, out string) error {
	if !image.IsStream() {
		if err := os.Chtimes(image.To.Name(), done.Time, done.Time); err != nil {
			return fmt.Errorf("write %s: %w", out, err)
		}
	}
	if err := image.Commit(); err != nil {
		return err
	}
	if done.Signed {
		if err := sig.Commit(); err != nil {
			return err
		}
	}
	fmt.Fprintf(reportTo(cmd, image.IsStandard()), "%s  %s\n", done.SHA256, out)
	if done.Signed && image.IsStream() {
		fmt.Fprintf(cmd.ErrOrStderr(), "pack: the signature was not written, as there is no name beside %s\n", out)
	}
	return nil
}

// packByUser makes the process of --user write the files, if root started this
// one. Otherwise it returns neither a result nor an error.
func packByUser(cmd *cobra.Command, o *stackFlags, name piece.Name, image, sig *os.File) (*server.Packed, error) {
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer r.Close()
	byUser, err := o.asUser(cmd.Context(), cmd, []string{name.String()}, image, sig, w)
	w.Close()
	if err != nil || !byUser {
		return nil, err
	}
	var done server.Packed
	if err := json.NewDecoder(r).Decode(&done); err != nil {
		return nil, fmt.Errorf("pack %s: what the process of --user says: %w: %w", name, fault.Corrupt, err)
	}
	return &done, nil
}

// packForParent writes the image in the process of --user: root's made the files.
func packForParent(ctx context.Context, o *stackFlags, name piece.Name) error {
	image, sig, toParent := os.NewFile(3, "the image"), os.NewFile(4, "its signature"), os.NewFile(5, "parent")
	done, err := o.pack(ctx, name, image, sig)
	if err != nil {
		return err
	}
	return json.NewEncoder(toParent).Encode(done)
}

// pack writes the image of a piece, and its signature if there are keys.
func (o *stackFlags) pack(ctx context.Context, name piece.Name, image, sig *os.File) (*server.Packed, error) {
	config, err := o.readConfig(quietLogger())
	if err != nil {
		return nil, err
	}
	show, end := progressBar("writing " + name.FileName())
	defer end()
	return server.Pack(ctx, config, name, server.Output{Image: image, Signature: sig, Written: show})
}

// quietLogger is for commands whose output people read: warnings only.
func quietLogger() *slog.Logger {
	return slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
}

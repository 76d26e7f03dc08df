package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"aesthetic.computer/isofs/fault"
	"aesthetic.computer/isofs/settings"
	"aesthetic.computer/isofs/signature"
	"aesthetic.computer/isofs/stick"
)

// stickFlags are the flags of the commands that write to a stick.
type stickFlags struct {
	yes, dryRun, force bool
	keyring            string
}

func (f *stickFlags) register(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.BoolVarP(&f.yes, "yes", "y", false, "do not ask")
	flags.BoolVar(&f.dryRun, "dry-run", false, "show what would be done, and do nothing")
	flags.BoolVar(&f.force, "force", false, "write also to what is mounted or not removable, and what is there already")
	flags.StringVar(&f.keyring, "keyring", "", stickKeyringUsage)
}

const stickKeyringUsage = "file with public OpenPGP keys: what none of them signed is refused"

func newStick() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "stick",
		Short: "Give a stick another piece, write one, or verify one",
		Long: `A stick with an image of isofs becomes another piece by writing its piece partition
alone: some 20 MiB instead of the whole image, if the base is the same. These commands
show what they will do and ask before they write; what is written is read back from the
stick and compared. DEVICE is a whole disk, such as /dev/sdb, or a file with an image.`,
		Example: `  lsblk -o NAME,SIZE,MODEL,TRAN,RM,MOUNTPOINTS                           # which disk is it?
  sudo isofs stick update /dev/sdb https://HOST/os:notepat
  sudo isofs stick verify /dev/sdb https://HOST/
  sudo isofs stick write /dev/sdb https://HOST/notepat-os.iso            # all of it
  isofs stick update notepat-os.iso "https://HOST/os?piece=@jeffrey/tone" --dry-run`,
		Args: settings.OnlyCommands,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newStickUpdate(), newStickWrite(), newStickVerify())
	return cmd
}

func newStickUpdate() *cobra.Command {
	var f stickFlags
	var o stick.Options
	cmd := &cobra.Command{
		Use:   "update DEVICE|FILE PIECE-URL",
		Short: "Write another piece to a stick of the same base",
		Long: `update writes the piece partition of a stick, if the rest of it is the base that the
piece's image is made on: the partitions must be the same, and some blocks from all over
them, or with --verify-base all (which also happens where the stick does not say what it
is). Else nothing is written, and the exit status is 5: then the whole image has to be.
If only some blocks of the base were changed, as a desktop or Windows does when it mounts
a stick, --repair fetches these and writes them again, too.

If it is interrupted the stick has no piece, and says so; run it again. A stick that has
the image already is left alone.`,
		Example: `  sudo isofs stick update /dev/sdb https://HOST/os:notepat
  sudo isofs stick update /dev/sdb https://HOST/notepat-os.iso --verify-base --yes`,
		Args: cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			return runStickUpdate(cmd, args[0], args[1], &f, o)
		},
	}
	f.register(cmd)
	cmd.Flags().BoolVar(&o.VerifyBase, "verify-base", false, "compare every block of the base first, which reads the whole stick")
	cmd.Flags().BoolVar(&o.Repair, "repair", false, "compare every block of the base, and write those again that something changed")
	return cmd
}

func runStickUpdate(cmd *cobra.Command, path, address string, f *stickFlags, o stick.Options) (err error) {
	ctx, out := cmd.Context(), cmd.OutOrStdout()
	disk, snap, err := f.open(ctx, out, path, address)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, disk.Close()) }()
	compared, endCompare := progressBar("comparing the base")
	o.Compared = compared
	u, err := stick.Plan(ctx, disk, snap, o)
	endCompare()
	if err != nil {
		return offerWhole(err, path, snap)
	}
	fmt.Fprintf(out, "carries   %s\n", contentsText(u.Has))
	fmt.Fprintf(out, "becomes   %s, snapshot %s, from %s\n", snap.Name, snap.ID, snap.URL())
	for _, note := range u.Notes {
		fmt.Fprintf(out, "note      %s\n", note)
	}
	if u.Same && !f.force {
		fmt.Fprintln(out, "It has this piece already; nothing was written.")
		return nil
	}
	showPlan(out, u)
	if goOn, err := f.confirm(cmd); !goOn {
		return err
	}
	end := func() {}
	err = u.Run(ctx, func(s stick.Step) (show stick.Progress) {
		end()
		show, end = progressBar(string(s))
		return show
	})
	end()
	if err != nil {
		return offerWhole(err, path, snap)
	}
	fmt.Fprintf(out, "Done: %s is %s now. It was read back and is right; it can be pulled out.\n", path, snap.Name)
	return nil
}

// showPlan prints what an update writes.
func showPlan(out io.Writer, u *stick.Update) {
	m := u.Snapshot.Manifest
	slot, repaired := u.Bytes()
	fmt.Fprintf(out, "writes    %d bytes at %d, which is its piece partition", slot, m.PiecePartitionOffset)
	if len(u.Repair) > 0 {
		fmt.Fprintf(out, ", and %d bytes in %d blocks of its base that were changed", repaired, len(u.Repair))
	}
	fmt.Fprintln(out, "; all else stays as it is")
	if u.All {
		fmt.Fprintf(out, "reads     %d bytes before, to compare the base\n", m.TotalSize)
	}
}

func newStickWrite() *cobra.Command {
	var f stickFlags
	cmd := &cobra.Command{
		Use:   "write DEVICE|FILE PIECE-URL",
		Short: "Write a whole image to a stick",
		Long: `write downloads an image to a stick, and continues where a connection broke off. It reads all of it
back and compares its SHA-256. All that was on the stick is lost. A file must be there
already, and large enough.`,
		Example: "  sudo isofs stick write /dev/sdb https://HOST/os:notepat",
		Args:    cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			ctx, out := cmd.Context(), cmd.OutOrStdout()
			disk, snap, err := f.open(ctx, out, args[0], args[1])
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, disk.Close()) }()
			fmt.Fprintf(out, "becomes   %s, snapshot %s, from %s\n", snap.Name, snap.ID, snap.URL())
			fmt.Fprintf(out, "writes    %d bytes at 0: ALL THAT IS ON IT IS LOST\n", snap.Manifest.TotalSize)
			if goOn, err := f.confirm(cmd); !goOn {
				return err
			}
			wrote, endWrite := progressBar("writing")
			readBack, endRead := progressBar("reading back")
			err = stick.WriteImage(ctx, disk, snap, wrote, readBack)
			endWrite()
			endRead()
			if err != nil {
				return err
			}
			disk.Reread()
			fmt.Fprintf(out, "Done: %s is %s now. It was read back and is right; it can be pulled out.\n", args[0], snap.Name)
			return nil
		},
	}
	f.register(cmd)
	return cmd
}

func newStickVerify() *cobra.Command {
	var keyring string
	cmd := &cobra.Command{
		Use:   "verify DEVICE|FILE URL",
		Short: "Compare a stick with what the server has",
		Long: `verify reads the length of the image from a stick and compares its SHA-256 with that of
the snapshot which the stick says that it carries, at the server that URL is of; or, if
URL is that of one snapshot (https://HOST/s/ID/notepat-os.iso), with that one. If they
differ it says where, and the exit status is 3. Nothing is written.`,
		Example: `  sudo isofs stick verify /dev/sdb https://HOST/
  sudo isofs stick verify /dev/sdb https://HOST/ --keyring isofs-key.asc
  sudo isofs stick verify /dev/sdb https://HOST/s/0123456789abcdef0123456789abcdef/notepat-os.iso`,
		Args: cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error { return runStickVerify(cmd, args[0], args[1], keyring) },
	}
	cmd.Flags().StringVar(&keyring, "keyring", "", stickKeyringUsage)
	return cmd
}

func runStickVerify(cmd *cobra.Command, path, address, keyring string) (err error) {
	ctx, out := cmd.Context(), cmd.OutOrStdout()
	device, err := stick.Host{}.Device(path)
	if err != nil {
		return err
	}
	disk, err := device.Open(false)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, disk.Close()) }()
	showTarget(out, device)
	client, err := newStickClient(ctx, keyring)
	if err != nil {
		return err
	}
	snap, err := verifiedAgainst(ctx, out, disk, client, address)
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "compared  with %s, snapshot %s, from %s\n", snap.Name, snap.ID, snap.URL())
	show, end := progressBar("reading the stick")
	v, err := stick.Verify(ctx, disk, snap, show)
	end()
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "sha256    %s on the stick\n          %s on the server\n", v.SHA256, snap.SHA256)
	if v.SignedBy != "" && v.Same {
		fmt.Fprintf(out, "signed    by %s\n", v.SignedBy)
	}
	if err := v.Err(); err != nil {
		return err
	}
	fmt.Fprintln(out, "The stick is what the server has.")
	return nil
}

// verifiedAgainst finds the snapshot to compare a stick with.
func verifiedAgainst(ctx context.Context, out io.Writer, disk *stick.Disk, client *stick.Client, address string) (*stick.Download, error) {
	if strings.Contains(address, "/s/") {
		return client.Resolve(ctx, address)
	}
	has, err := stick.WhatItCarries(disk)
	if err != nil {
		return nil, err
	}
	fmt.Fprintf(out, "carries   %s\n", contentsText(has))
	if has.Unfinished {
		return nil, fmt.Errorf("an update of this stick was not finished, so it has no piece: run isofs stick update again: %w", fault.Corrupt)
	}
	snap, err := client.ByID(ctx, address, has.Snapshot, has.Piece)
	if errors.Is(err, fault.NotFound) {
		return nil, fmt.Errorf("the stick cannot be compared any more: %w; isofs stick update gives it the present one", err)
	}
	return snap, err
}

// newStickClient returns a client of servers. With a keyring it accepts only
// what one of its keys signed.
func newStickClient(ctx context.Context, keyring string) (*stick.Client, error) {
	ring, err := signature.OpenKeyring(keyring)
	if err != nil || ring == nil {
		return &stick.Client{}, err
	}
	return &stick.Client{Verifier: ringVerifier{ctx, ring}}, nil
}

// A ringVerifier is a keyring as package stick wants it.
type ringVerifier struct {
	ctx  context.Context // of the command
	ring *signature.Keyring
}

// Verify implements stick.Verifier.
func (v ringVerifier) Verify(signed io.Reader, sig []byte) (by string, err error) {
	proof, err := v.ring.VerifyReader(v.ctx, signed, sig, time.Now())
	return proof.Fingerprint + " (" + proof.User + ")", err
}

// open opens a stick for writing, if nothing speaks against it. It finds the
// snapshot for the stick, and shows what the stick is.
func (f *stickFlags) open(ctx context.Context, out io.Writer, path, address string) (*stick.Disk, *stick.Download, error) {
	client, err := newStickClient(ctx, f.keyring)
	if err != nil {
		return nil, nil, err
	}
	device, err := stick.Host{}.Device(path)
	if err != nil {
		return nil, nil, err
	}
	if err := device.Check(f.force); err != nil {
		return nil, nil, err
	}
	disk, err := device.Open(!f.dryRun)
	if err != nil {
		return nil, nil, err
	}
	snap, err := client.Resolve(ctx, address)
	if err != nil {
		return nil, nil, errors.Join(err, disk.Close())
	}
	showTarget(out, device)
	return disk, snap, nil
}

func showTarget(out io.Writer, d *stick.Device) {
	what := "a file"
	if !d.File {
		what = strings.TrimSpace(d.Model + " " + d.Bus)
		if what == "" {
			what = "a disk"
		}
	}
	fmt.Fprintf(out, "stick     %s, %s, %d bytes (%.1f GB)\n", d.Path, what, d.Size, float64(d.Size)/1e9)
}

func contentsText(c *stick.Contents) string {
	switch {
	case c == nil:
		return "it does not say what"
	case c.Unfinished:
		return fmt.Sprintf("no piece: an update to %q, snapshot %s, was not finished", c.Piece, c.Snapshot)
	}
	return fmt.Sprintf("%q, snapshot %q, on base %s %s (%.12s)", c.Piece, c.Snapshot, c.BaseFlavor, c.BaseVersion, c.BaseSHA256)
}

// offerWhole says how to write the whole image to a stick that lacks the base.
func offerWhole(err error, path string, snap *stick.Download) error {
	if _, touched := errors.AsType[*stick.TouchedError](err); touched {
		return fmt.Errorf("%w\nnothing was written. To write these blocks again, and the piece:\n  isofs stick update --repair %s %s", err, path, snap.URL())
	}
	if _, other := errors.AsType[*stick.OtherBaseError](err); !other {
		return err
	}
	return fmt.Errorf(`%w
nothing was written. To write all of the image (%d bytes), which loses what is on the stick:
  isofs stick write %s %s
or, without the reading back:
  wget -c %[4]s && dd if=%s of=%[3]s bs=4M oflag=direct conv=fsync status=progress`,
		err, snap.Manifest.TotalSize, path, snap.URL(), snap.Name.FileName())
}

// confirm asks whether to continue. Without a terminal to ask on it needs
// --yes.
func (f *stickFlags) confirm(cmd *cobra.Command) (goOn bool, err error) {
	out := cmd.OutOrStdout()
	switch {
	case f.dryRun:
		fmt.Fprintln(out, "Nothing was written (--dry-run).")
		return false, nil
	case f.yes:
		return true, nil
	case !term.IsTerminal(int(os.Stdin.Fd())):
		return false, settings.Usage(errors.New("there is no terminal to ask on; --yes writes without asking"))
	}
	if _, err := fmt.Fprint(out, "Write it? [y/N] "); err != nil {
		return false, err // a user who does not see the question does not answer it
	}
	answer, _ := bufio.NewReader(cmd.InOrStdin()).ReadString('\n') // the end of input means no
	switch strings.ToLower(strings.TrimSpace(answer)) {
	case "y", "yes":
		return true, nil
	}
	return false, errors.New("nothing was written")
}

package main

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"aesthetic.computer/isofs/output"
	"aesthetic.computer/isofs/settings"
	"aesthetic.computer/isofs/signature"
)

func newKey() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "key",
		Short: "Make a key that signs, and show its public part",
		Args:  settings.OnlyCommands,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newKeyNew(), newKeyPublic())
	return cmd
}

func newKeyNew() *cobra.Command {
	var out, name, email string
	var days int
	cmd := &cobra.Command{
		Use:   "new",
		Short: "Make an OpenPGP key that signs images",
		Long: `new makes an Ed25519 key, as gpg does, without a passphrase, in a file that only its owner can
read. Keep a copy of it where no server is. The address is what people look the key up by; it
should be of the domain that serves the images.`,
		Example: `  isofs key new --name "Aesthetic Computer Images" --email images@aesthetic.computer --out sign.asc
  isofs key public sign.asc > isofs-key.asc`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := checkNewKey(out, name, email, days); err != nil {
				return err
			}
			return keyNew(cmd, out, name, email, days)
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&out, "out", "", "file to write (needed), - for standard output; one that is there is left alone")
	flags.StringVar(&name, "name", "", "name of the key's owner (needed)")
	flags.StringVar(&email, "email", "", "email address of the key's owner (needed)")
	flags.IntVar(&days, "days", 730, "days after which it expires; 0: never")
	return cmd
}

func keyNew(cmd *cobra.Command, out, name, email string, days int) error {
	now := time.Now().UTC().Truncate(time.Second)
	key, err := signature.NewKey(name, email, time.Duration(days)*24*time.Hour, now)
	if err != nil {
		return err
	}
	s, err := signature.NewSigner([]signature.Secret{{Name: out, Data: key}}, func() time.Time { return now })
	if err != nil {
		return err
	}
	if err := output.WriteNew(out, key); err != nil {
		return fmt.Errorf("write the key: %w", err)
	}
	end := "never"
	if !s.Expires().IsZero() {
		end = s.Expires().UTC().Format(time.DateOnly)
	}
	fmt.Fprintf(reportTo(cmd, out == output.Standard), "%s\n  key      %s\n  expires  %s\n", out, s, end)
	return nil
}

// checkNewKey reports all that is wrong with the flags of a new key.
func checkNewKey(out, name, email string, days int) error {
	var wrong []error
	needed := func(flag, value, what string, check func(string) error) {
		if value == "" {
			wrong = append(wrong, settings.Wrong(flag, "is needed: %s", what))
		} else if err := check(value); err != nil {
			wrong = append(wrong, settings.Wrong(flag, "%w", err))
		}
	}
	needed("out", out, "the file to write", func(string) error { return nil })
	needed("name", name, "the name of the key's owner", signature.CheckName)
	needed("email", email, "the address of the key's owner", signature.CheckEmail)
	if days < 0 || days > 36500 {
		wrong = append(wrong, settings.Wrong("days", "%d is not between 0 and 36500", days))
	}
	return settings.Usage(wrong...)
}

func newKeyPublic() *cobra.Command {
	var o signFlags
	cmd := &cobra.Command{
		Use:     "public FILE...",
		Short:   "Print the public part of secret keys, in armor",
		Example: "  isofs key public sign.asc > isofs-key.asc",
		Args:    cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			o.keys = args
			s, err := o.open()
			if err != nil {
				return err
			}
			public, err := s.Keyring().Armored()
			if err != nil {
				return err
			}
			_, err = cmd.OutOrStdout().Write(public)
			return err
		},
	}
	cmd.Flags().StringVar(&o.passphrase, "sign-passphrase-file", "", "file with the passphrase of the keys, if they have one")
	return cmd
}

func newVerify() *cobra.Command {
	var keyring string
	cmd := &cobra.Command{
		Use:   "verify FILE [SIGNATURE]",
		Short: "Check the signature of an image",
		Long: `verify reads a whole file and checks its detached signature, FILE.asc if no other is named. One
good signature by a key of --keyring is enough. The exit status is 3 if there is none. It is
gpg --verify for machines without gpg.`,
		Example: "  isofs verify notepat-os.iso --keyring isofs-key.asc",
		Args:    cobra.RangeArgs(1, 2),
		RunE: func(cmd *cobra.Command, args []string) error {
			if keyring == "" {
				return settings.Usage(settings.Wrong("keyring", "is needed: the public keys that are trusted"))
			}
			return verifyFile(cmd, keyring, append(args, args[0]+signature.Suffix))
		},
	}
	cmd.Flags().StringVar(&keyring, "keyring", "", "file with public OpenPGP keys (needed)")
	return cmd
}

func verifyFile(cmd *cobra.Command, keyring string, args []string) error {
	ring, err := signature.OpenKeyring(keyring)
	if err != nil {
		return err
	}
	proof, err := ring.VerifyFile(cmd.Context(), args[0], args[1], time.Now())
	if err != nil {
		return fmt.Errorf("verify %s: %w", args[0], err)
	}
	fmt.Fprintf(cmd.OutOrStdout(), "%s: good, signed by %s (%s) at %s\n", args[0], proof.Fingerprint, proof.User, proof.Time.Format(time.RFC3339))
	return nil
}

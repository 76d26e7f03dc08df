package main

import (
	"fmt"
	"os"

	"github.com/spf13/pflag"

	"aesthetic.computer/isofs/fault"
	"aesthetic.computer/isofs/signature"
)

// Credentials of systemd that are used if no flag names a file.
const (
	keyCredential        = "isofs-sign-key"
	passphraseCredential = "isofs-sign-passphrase"
)

// signFlags say by which keys to sign.
type signFlags struct {
	keys       []string
	passphrase string
}

func (o *signFlags) register(flags *pflag.FlagSet) {
	flags.StringSliceVar(&o.keys, "sign-key", nil, "file with the secret OpenPGP key that signs, readable by its owner only (isofs key new makes one; repeatable: while one takes the place of another)")
	flags.StringVar(&o.passphrase, "sign-passphrase-file", "", "file with the passphrase of the keys, if they have one")
}

// open reads the keys; without any there is no signer.
func (o *signFlags) open() (*signature.Signer, error) {
	paths := o.keys
	if path, ok := signature.Credential(keyCredential); ok && len(paths) == 0 {
		paths = []string{path}
	}
	if len(paths) == 0 {
		if o.passphrase != "" {
			return nil, usage(wrongFlag("sign-passphrase-file", "is given, and no --sign-key"))
		}
		return nil, nil
	}
	passphrase, err := o.readPassphrase()
	if err != nil {
		return nil, err
	}
	var secrets []signature.Secret
	for _, path := range paths {
		data, err := signature.ReadSecretFile(path)
		if err != nil {
			return nil, blame("sign-key", err)
		}
		secrets = append(secrets, signature.Secret{Name: path, Data: data, Passphrase: passphrase})
	}
	s, err := signature.NewSigner(secrets, nil)
	if err != nil {
		return nil, blame("sign-key", err)
	}
	return s, nil
}

func (o *signFlags) readPassphrase() ([]byte, error) {
	path := o.passphrase
	if path == "" {
		var ok bool
		if path, ok = signature.Credential(passphraseCredential); !ok {
			return nil, nil
		}
	}
	data, err := signature.ReadSecretFile(path)
	if err != nil {
		return nil, blame("sign-passphrase-file", err)
	}
	return signature.TrimPassphrase(data), nil
}

// openKeyring reads --keyring; without one there is none.
func openKeyring(path string) (*signature.Keyring, error) {
	if path == "" {
		return nil, nil
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, blame("keyring", fmt.Errorf("%w: %w", fault.Invalid, err))
	}
	ring, err := signature.ParseKeyring(data)
	if err != nil {
		return nil, wrongFlag("keyring", "%s: %w", path, err)
	}
	return ring, nil
}

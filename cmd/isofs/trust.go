package main

import (
	"github.com/spf13/pflag"

	"aesthetic.computer/isofs/signature"
)

// signFlags name the keys that sign.
type signFlags struct {
	keys       []string
	passphrase string
}

func (o *signFlags) register(flags *pflag.FlagSet) {
	flags.StringSliceVar(&o.keys, "sign-key", nil, "file with the secret OpenPGP key that signs, readable by its owner only (isofs key new makes one; repeatable: while one takes the place of another)")
	flags.StringVar(&o.passphrase, "sign-passphrase-file", "", "file with the passphrase of the keys, if they have one")
}

// open reads the keys; without any it returns nil.
func (o *signFlags) open() (*signature.Signer, error) {
	return signature.OpenSigner(o.keys, o.passphrase)
}

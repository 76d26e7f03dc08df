package main

import (
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"log/slog"
	"os"
	"sync/atomic"
	"time"

	"github.com/spf13/pflag"

	"aesthetic.computer/isofs/api"
	"aesthetic.computer/isofs/catalog"
	"aesthetic.computer/isofs/fault"
	"aesthetic.computer/isofs/image"
	"aesthetic.computer/isofs/signature"
)

// ascSuffix is that of the sidecar with an image's signature.
const ascSuffix = "asc"

// Credentials of systemd that are used if no flag names a file.
const (
	keyCredential        = "isofs-sign-key"
	passphraseCredential = "isofs-sign-passphrase"
)

// expiryWarning is how long before a key ends the log begins to say so.
const expiryWarning = 30 * 24 * time.Hour

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

// signingKeys are the keys of now. A hangup may replace them, but a server that
// began without any signs nothing until it is started again.
type signingKeys struct {
	now atomic.Pointer[signature.Signer]
}

// get returns nil if nothing is signed.
func (k *signingKeys) get() *signature.Signer { return k.now.Load() }

// ascMaker makes the signatures of images.
func ascMaker(keys *signingKeys) catalog.SidecarMaker {
	return catalog.SidecarMaker{
		Suffix: ascSuffix, Early: true,
		Make: func(s *catalog.Snapshot, img *image.Image) ([]byte, error) {
			h, err := s.ImageHash(img)
			if err != nil {
				return nil, err
			}
			return keys.get().Sign(h, s.Time())
		},
		MakeForSlot: func(s *catalog.Snapshot, img *image.Image) ([]byte, error) {
			h := sha256.New()
			if _, err := io.Copy(h, io.NewSectionReader(img.Volume, 0, img.Volume.Size())); err != nil {
				return nil, err
			}
			return keys.get().Sign(h, s.Time())
		},
	}
}

// signing is what signs piece.json now.
func signing(keys *signingKeys) func() (catalog.Signing, error) {
	return func() (catalog.Signing, error) {
		names, sign, err := keys.get().Frozen()
		return catalog.Signing{Keys: names, Sign: sign}, err
	}
}

// trustOf is what the API serves of the keys.
func trustOf(signer *signature.Signer) (*api.Trust, error) {
	if signer == nil {
		return &api.Trust{}, nil
	}
	ring := signer.Keyring()
	public, err := ring.Armored()
	if err != nil {
		return nil, err
	}
	entries, err := ring.Directory()
	if err != nil {
		return nil, err
	}
	t := &api.Trust{PublicKeys: public, Directory: map[string][]byte{}, Sign: signer.SignData}
	for _, e := range entries {
		t.Directory[e.Domain+"/"+e.Hash] = e.Keys
	}
	return t, nil
}

// watchExpiry says day by day that the keys are about to end, until ctx does.
func watchExpiry(ctx context.Context, keys *signingKeys, log *slog.Logger) {
	for {
		if signer := keys.get(); signer != nil && !signer.Expires().IsZero() && time.Until(signer.Expires()) < expiryWarning {
			log.Warn("the signing keys expire; no image can be made then", "keys", signer, "at", signer.Expires().UTC().Format(time.RFC3339))
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(24 * time.Hour):
		}
	}
}

// probeKeys looks whether the keys can sign.
func probeKeys(keys *signingKeys) *probe {
	return &probe{name: "signing", every: time.Minute, look: func(context.Context) (string, error) {
		if _, err := keys.get().Keys(); err != nil {
			return "the keys have expired, and no image can be made", err
		}
		return "the keys are valid", nil
	}}
}

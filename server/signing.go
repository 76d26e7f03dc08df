package server

import (
	"context"
	"crypto/sha256"
	"io"
	"log/slog"
	"sync/atomic"
	"time"

	"aesthetic.computer/isofs/api"
	"aesthetic.computer/isofs/catalog"
	"aesthetic.computer/isofs/image"
	"aesthetic.computer/isofs/signature"
)

// SignatureSuffix is the suffix of the sidecar with an image's signature.
const SignatureSuffix = "asc"

// expiryWarning is how long before a key expires the log begins to warn.
const expiryWarning = 30 * 24 * time.Hour

// signingKeys are the present keys. They can be exchanged. But a server that was
// started without keys signs nothing until a restart.
type signingKeys struct {
	now atomic.Pointer[signature.Signer]
}

// get returns nil if nothing is signed.
func (k *signingKeys) get() *signature.Signer { return k.now.Load() }

// ascMaker makes the signatures of images.
func ascMaker(keys *signingKeys) catalog.SidecarMaker {
	return catalog.SidecarMaker{
		Suffix: SignatureSuffix, Early: true,
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

// signing returns the function that signs piece.json now.
func signing(keys *signingKeys) func() (catalog.Signing, error) {
	return func() (catalog.Signing, error) {
		names, sign, err := keys.get().Frozen()
		return catalog.Signing{Keys: names, Sign: sign}, err
	}
}

// trustOf returns what the API serves of the keys.
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

// watchExpiry logs day by day that the keys are about to expire, until ctx ends.
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

// probeKeys checks that the keys can sign.
func probeKeys(keys *signingKeys) *probe {
	return &probe{name: "signing", every: time.Minute, look: func(context.Context) (string, error) {
		if _, err := keys.get().Keys(); err != nil {
			return "the keys have expired, and no image can be made", err
		}
		return "the keys are valid", nil
	}}
}

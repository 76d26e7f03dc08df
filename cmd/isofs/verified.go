package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"aesthetic.computer/isofs/base"
	"aesthetic.computer/isofs/fault"
	"aesthetic.computer/isofs/origin"
	"aesthetic.computer/isofs/signature"
)

// A gotManifest is one as it was read: verified, if there is a keyring.
type gotManifest struct {
	*base.Manifest
	data, signature []byte
}

// manifestAt reads the manifest of a base published at address. With a
// keyring one that is not signed by it is refused before anything in it is
// looked at.
func (b *bases) manifestAt(ctx context.Context, address string, patience origin.Options) (*gotManifest, error) {
	where, err := manifestOf(address)
	if err != nil {
		return nil, err
	}
	got := &gotManifest{}
	if got.data, err = patience.ReadAll(ctx, where, maxManifest); err != nil {
		return nil, fmt.Errorf("read the manifest of %s: %w", origin.Redact(address), err)
	}
	if b.ring.Load() != nil {
		if got.signature, err = readSignature(ctx, where, patience); err == nil {
			err = b.trust(got.data, got.signature)
		}
		if err != nil {
			return nil, fmt.Errorf("manifest of %s: %w", origin.Redact(address), err)
		}
	}
	if got.Manifest, err = base.Parse(got.data); err != nil {
		return nil, fmt.Errorf("manifest of %s: %w", origin.Redact(address), err)
	}
	return got, nil
}

// readSignature reads the signature beside a manifest.
func readSignature(ctx context.Context, manifest string, patience origin.Options) ([]byte, error) {
	if hasQuery(manifest) {
		return nil, fmt.Errorf("with --keyring its signature is needed, and where that is cannot be told from an address with a query: give the folder's: %w", fault.Invalid)
	}
	return readSignatureAt(ctx, manifest+signature.Suffix, patience)
}

func readSignatureAt(ctx context.Context, where string, patience origin.Options) ([]byte, error) {
	sig, err := patience.ReadAll(ctx, where, base.MaxSignatureSize)
	if errors.Is(err, fault.NotFound) {
		return nil, fmt.Errorf("it is not signed: there is no %s, and --keyring is given; isofs base publish --sign-key signs, and isofs base sign signs what was published: %w", origin.Redact(where), fault.Corrupt)
	}
	if err != nil {
		return nil, fmt.Errorf("read its signature: %w", err)
	}
	return sig, nil
}

// trust checks a signature by the keyring.
func (b *bases) trust(data, sig []byte) error {
	ring := b.ring.Load()
	if ring == nil {
		return nil // it was taken away meanwhile
	}
	_, err := ring.Verify(data, sig, time.Now())
	return err
}

// trustKept checks what is kept of a base by the keyring of now: that may have
// lost a key since. What is refused may be wanted again with another keyring.
func (b *bases) trustKept(sum base.Hash, data []byte) error {
	if b.ring.Load() == nil {
		return nil
	}
	sig, err := os.ReadFile(filepath.Join(b.dir, sum.String(), base.ManifestSignatureName))
	if err != nil {
		return fmt.Errorf("the manifest kept of base %s came without a signature, and --keyring is given: start once while it can be read where it is published: %w", sum, fault.Unavailable)
	}
	if err := b.trust(data, sig); err != nil {
		return fmt.Errorf("the manifest kept of base %s: %w: %v", sum, fault.Unavailable, err)
	}
	return nil
}

// trustChannel checks the signature of a channel, which is named by what it is of.
func (b *bases) trustChannel(ctx context.Context, root string, c *base.Channel, data []byte, patience origin.Options) error {
	if b.ring.Load() == nil {
		return nil
	}
	where, err := join(root, base.ChannelSignaturePath(c, data))
	if err != nil {
		return err
	}
	sig, err := readSignatureAt(ctx, where, patience)
	if err != nil {
		return err
	}
	return b.trust(data, sig)
}

package upstream

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

// maxManifest bounds a manifest, in bytes: a base of 1 TiB has 4 Mi blocks of 67
// bytes each.
const maxManifest = 300 << 20

// A signedManifest is a manifest as it was read. If there was a keyring, the
// signature is there and good.
type signedManifest struct {
	*base.Manifest
	data      []byte // nil: it was not read, but kept here
	signature []byte // nil: there was no keyring
}

// manifestAt reads the manifest of a base published at address. With a keyring,
// it refuses a manifest that none of its keys signed before it parses it.
func (r *Registry) manifestAt(ctx context.Context, address string, options origin.Options) (*signedManifest, error) {
	where, err := manifestOf(address)
	if err != nil {
		return nil, err
	}
	read := &signedManifest{}
	if read.data, err = options.ReadAll(ctx, where, maxManifest); err != nil {
		return nil, fmt.Errorf("read the manifest of %s: %w", origin.Redact(address), err)
	}
	if r.keyring.Load() != nil {
		if read.signature, err = readSignature(ctx, where, options); err == nil {
			err = r.trust(read.data, read.signature)
		}
		if err != nil {
			return nil, fmt.Errorf("manifest of %s: %w", origin.Redact(address), err)
		}
	}
	if read.Manifest, err = base.Parse(read.data); err != nil {
		return nil, fmt.Errorf("manifest of %s: %w", origin.Redact(address), err)
	}
	return read, nil
}

// readSignature reads the signature beside the manifest at an address.
func readSignature(ctx context.Context, manifest string, options origin.Options) ([]byte, error) {
	if hasQuery(manifest) {
		return nil, fmt.Errorf("with --keyring its signature is needed, and an address with a query does not show where that is: give the folder's: %w", fault.Invalid)
	}
	return readSignatureAt(ctx, manifest+signature.Suffix, options)
}

// readSignatureAt reads the signature at an address. A missing one is
// fault.Corrupt.
func readSignatureAt(ctx context.Context, where string, options origin.Options) ([]byte, error) {
	sig, err := options.ReadAll(ctx, where, base.MaxSignatureSize)
	if errors.Is(err, fault.NotFound) {
		return nil, fmt.Errorf("it is not signed: there is no %s, and --keyring is given; isofs base publish --sign-key signs, and isofs base sign signs what was published: %w", origin.Redact(where), fault.Corrupt)
	}
	if err != nil {
		return nil, fmt.Errorf("read its signature: %w", err)
	}
	return sig, nil
}

// trust checks a signature by the keyring. Errors are those of Keyring.Verify.
func (r *Registry) trust(data, sig []byte) error {
	ring := r.keyring.Load()
	if ring == nil {
		return nil // SetKeyring took it away meanwhile
	}
	_, err := ring.Verify(data, sig, time.Now())
	return err
}

// trustKept checks the kept manifest of a base by the present keyring, which may
// have lost a key since. A refused one may be good again with another keyring, so
// the error is fault.Unavailable.
func (r *Registry) trustKept(sum base.Hash, data []byte) error {
	if r.keyring.Load() == nil {
		return nil
	}
	sig, err := os.ReadFile(filepath.Join(r.dirOf(sum), base.ManifestSignatureName))
	if err != nil {
		return fmt.Errorf("the manifest kept of base %s came without a signature, and --keyring is given: start once while it can be read where it is published: %w", sum, fault.Unavailable)
	}
	if err := r.trust(data, sig); err != nil {
		return fmt.Errorf("the manifest kept of base %s: %w: %v", sum, fault.Unavailable, err)
	}
	return nil
}

// trustChannel checks the signature of a channel. The signature's file name has
// the digest of the channel's content.
func (r *Registry) trustChannel(ctx context.Context, root string, c *base.Channel, data []byte, options origin.Options) error {
	if r.keyring.Load() == nil {
		return nil
	}
	where, err := join(root, base.ChannelSignaturePath(c, data))
	if err != nil {
		return err
	}
	sig, err := readSignatureAt(ctx, where, options)
	if err != nil {
		return err
	}
	return r.trust(data, sig)
}

package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"path"
	"time"

	"aesthetic.computer/isofs/base"
	"aesthetic.computer/isofs/fault"
)

// A Signer signs what is published: manifests, and each revision of a channel.
// The same text and time give the same bytes.
type Signer interface {
	SignData(text []byte, at time.Time) ([]byte, error)
	// VerifyOwn returns nil if a signature is of one of its keys.
	VerifyOwn(text, signature []byte) error
}

// keptSignatures is for how many revisions of a channel the signatures stay: a
// client may have an old one from a cache on the way.
const keptSignatures = 16

// A signature lies beside a manifest. The signature of a channel is named by its
// revision and content, and written before it. So a change never leaves a reader
// with two that do not belong together.

// putSignature writes the signature of a text to name, unless it is there.
func (p Place) putSignature(ctx context.Context, name string, text []byte, at string) error {
	if p.Sign == nil {
		return nil
	}
	t, err := time.Parse(time.RFC3339, at)
	if err != nil {
		return fmt.Errorf("sign %s: %w: %w", name, fault.Invalid, err)
	}
	signature, err := p.Sign.SignData(text, t)
	if err != nil {
		return fmt.Errorf("sign %s: %w", name, err)
	}
	there, tag, err := p.Read(ctx, name, base.MaxSignatureSize)
	switch {
	case errors.Is(err, fault.NotFound):
		tag = ""
	case err != nil:
		return err
	case bytes.Equal(there, signature):
		return nil
	}
	return p.Put(ctx, name, signature, tag)
}

func (p Place) signChannel(ctx context.Context, c *base.Channel, data []byte) error {
	return p.putSignature(ctx, base.ChannelSignaturePath(c, data), data, c.UpdatedAt)
}

func (p Place) signManifest(ctx context.Context, m *base.Manifest, data []byte) error {
	name := path.Join(base.VersionPath(m.Flavor, m.Arch, m.Version), base.ManifestSignatureName)
	return p.putSignature(ctx, name, data, m.CreatedAt)
}

// mustSign refuses to continue a signed channel without a key: a server that
// wants a signature would no longer follow it.
func (p Place) mustSign(ctx context.Context, c *base.Channel, data []byte) error {
	if p.Sign != nil || c == nil {
		return nil
	}
	name := base.ChannelSignaturePath(c, data)
	switch _, _, err := p.Read(ctx, name, base.MaxSignatureSize); {
	case err == nil:
		return fmt.Errorf("the channel is signed (%s), and servers that want that would not follow an unsigned one: give --sign-key: %w", name, fault.Invalid)
	case !errors.Is(err, fault.NotFound):
		return err
	}
	return nil
}

// checkSigned reports whether the existing manifest is signed by our key.
func (p Place) checkSigned(ctx context.Context, folder string, data []byte) error {
	if p.Sign == nil {
		return nil
	}
	name := path.Join(folder, base.ManifestSignatureName)
	signature, _, err := p.Read(ctx, name, base.MaxSignatureSize)
	if err == nil {
		err = p.Sign.VerifyOwn(data, signature)
	}
	if err != nil {
		return fmt.Errorf("the manifest in %s is not signed by this key; if you trust what is there, isofs base sign signs it: %w: %w", folder, fault.Invalid, err)
	}
	return nil
}

// SignAll signs what is there: the channel as it is, and the manifests that it
// names. It returns the names of what it signed or found signed. It trusts what
// is there, so the caller must have checked that.
func (p Place) SignAll(ctx context.Context) (signed []string, err error) {
	c, data, _, err := p.readChannel(ctx)
	if err != nil {
		return nil, err
	}
	for _, e := range append([]base.Entry{c.Current}, c.Previous...) {
		m, text, err := readManifest(ctx, p, e.Path)
		if errors.Is(err, fault.NotFound) && e != c.Current {
			continue // it was removed by hand
		}
		if err != nil {
			return signed, err
		}
		if m.Entry() != e {
			return signed, fmt.Errorf("the manifest in %s is of %s, sha256 %s, the channel names sha256 %s: %w", e.Path, m.Entry().Path, m.SHA256, e.SHA256, fault.Corrupt)
		}
		if err := p.signManifest(ctx, m, text); err != nil {
			return signed, err
		}
		signed = append(signed, path.Join(e.Path, base.ManifestName))
	}
	// Last: a reader that finds it signed finds its manifests signed.
	if err := p.signChannel(ctx, c, data); err != nil {
		return signed, err
	}
	return append(signed, base.ChannelPath(p.Flavor, p.Arch)), nil
}

// forgetSignatures removes the signatures of old revisions. The next write
// repeats what fails.
func forgetSignatures(ctx context.Context, s Store, c *base.Channel) {
	files, err := s.List(ctx, base.ChannelDir())
	if err != nil {
		return
	}
	for name := range files {
		if revision, ok := base.SplitChannelSignature(name, c.Flavor, c.Arch); ok && revision <= c.Revision-keptSignatures {
			_ = s.Delete(ctx, name)
		}
	}
}

package upstream

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/google/renameio/v2"

	"aesthetic.computer/isofs/base"
	"aesthetic.computer/isofs/fault"
)

// What is kept of bases in Config.Dir, for starts without a network and for
// images of earlier bases:
//
//	<sha256>/manifest.json      of each base that was opened
//	<sha256>/manifest.json.asc  its signature, if there was a keyring
//	<sha256>/address            its places, one a line
//	last-<digest>               SHA-256 of the base last found at an address
//	channel-<digest>            JSON of what a channel named last (remembered)

// addressFile has the places of a base.
const addressFile = "address"

// dirOf returns the directory of a kept base.
func (r *Registry) dirOf(sum base.Hash) string { return filepath.Join(r.dir, sum.String()) }

// lastPath returns the file with the base that was last found at an address.
func (r *Registry) lastPath(address string) string {
	return filepath.Join(r.dir, "last-"+shortDigest(address))
}

// shortDigest returns the name of an address in file names: 16 hex digits.
func shortDigest(address string) string {
	sum := sha256.Sum256([]byte(address))
	return hex.EncodeToString(sum[:8])
}

// keep writes a manifest, its signature and the places of its base to disk.
// Its error is fault.Unavailable.
func (r *Registry) keep(m *signedManifest, where places) error {
	dir := r.dirOf(m.SHA256)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("keep the manifest: %w: %w", fault.Unavailable, err)
	}
	if m.signature != nil {
		if err := keepFile(filepath.Join(dir, base.ManifestSignatureName), m.signature); err != nil {
			return err
		}
	}
	return errors.Join(
		keepFile(filepath.Join(dir, base.ManifestName), m.data),
		keepFile(filepath.Join(dir, addressFile), where.text()),
	)
}

// keepFile writes a file of Config.Dir. Mostly the file is there already, and then a
// full disk does not matter.
func keepFile(path string, content []byte) error {
	if old, err := os.ReadFile(path); err == nil && bytes.Equal(old, content) {
		return nil
	}
	// An address may have a password or a signature.
	if err := renameio.WriteFile(path, content, 0o600); err != nil {
		return fmt.Errorf("keep the manifest: %w: %w", fault.Unavailable, err)
	}
	return nil
}

// kept reads the kept manifest of a base, and checks it by the present keyring.
func (r *Registry) kept(sum base.Hash) (*base.Manifest, error) {
	data, err := os.ReadFile(filepath.Join(r.dirOf(sum), base.ManifestName))
	if err != nil {
		return nil, fmt.Errorf("base %s is not known here: %w: %w", sum, fault.NotFound, err)
	}
	if err := r.trustKept(sum, data); err != nil {
		return nil, err
	}
	manifest, err := base.Parse(data)
	if err != nil {
		return nil, fmt.Errorf("read the manifest kept of base %s: %w", sum, err)
	}
	if manifest.SHA256 != sum {
		return nil, fmt.Errorf("the manifest kept of base %s is of %s: %w", sum, manifest.SHA256, fault.Corrupt)
	}
	return manifest, nil
}

// keptPlaces reads the kept places of a base.
func (r *Registry) keptPlaces(sum base.Hash) (places, error) {
	text, err := os.ReadFile(filepath.Join(r.dirOf(sum), addressFile))
	if err != nil {
		return nil, fmt.Errorf("base %s is not known here: %w: %w", sum, fault.NotFound, err)
	}
	return readPlaces(text), nil
}

// keepLast records which base an address has.
func (r *Registry) keepLast(address string, sum base.Hash) error {
	return keepFile(r.lastPath(address), []byte(sum.String()+"\n"))
}

// last reads which base was last found at an address. If none was kept the error wraps
// fs.ErrNotExist.
func (r *Registry) last(address string) (base.Hash, error) {
	var sum base.Hash
	text, err := os.ReadFile(r.lastPath(address))
	if err != nil {
		return sum, err
	}
	return sum, sum.UnmarshalText([]byte(strings.TrimSpace(string(text))))
}

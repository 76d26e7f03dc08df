package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/google/renameio/v2"

	"aesthetic.computer/isofs/base"
	"aesthetic.computer/isofs/cache"
	"aesthetic.computer/isofs/fault"
	"aesthetic.computer/isofs/image"
	"aesthetic.computer/isofs/origin"
)

// maxManifest bounds what is read as a manifest: that of a 1 TiB base has
// 4 Mi blocks of 67 bytes each.
const maxManifest = 300 << 20

// knownPatience is how long an address whose base is known here may take to
// answer: a start need not wait for it.
const knownPatience = 5 * time.Second

const (
	manifestName = "manifest.json"
	imageName    = "base.iso"
)

// bases opens bases by address or by digest. What it opened once it knows
// again without a network: <dir>/<sha256>/ has the manifest and the address.
type bases struct {
	dir    string
	store  *cache.Store
	log    *slog.Logger
	origin origin.Options // of the image; a manifest has a patience of its own

	mu   sync.Mutex // guards open
	open map[base.Hash]image.Base
}

func newBases(dir string, store *cache.Store, o origin.Options, log *slog.Logger) *bases {
	return &bases{dir: dir, store: store, log: log, origin: o, open: map[base.Hash]image.Base{}}
}

// byAddress opens the base published at address: the folder or URL that has
// manifest.json and base.iso, or the address of the manifest. If the manifest cannot be had, the one that was
// had from there last is used.
func (b *bases) byAddress(ctx context.Context, address string) (image.Base, error) {
	patience := b.origin
	patience.Timeout = 0 // the usual
	if _, err := os.Stat(b.lastPath(address)); err == nil {
		patience.Timeout = knownPatience
	}
	b.log.Info("reading the base's manifest", "address", origin.Redact(address))
	manifest, data, err := readManifest(ctx, address, patience)
	if err != nil {
		if !errors.Is(err, fault.Unavailable) {
			return image.Base{}, err
		}
		known, knownErr := b.lastFrom(address)
		if knownErr != nil {
			return image.Base{}, err
		}
		b.log.Warn("the base's address does not answer; going on with the base that it had last", "address", origin.Redact(address), "base", known.Manifest.SHA256, "err", err)
		return known, nil
	}
	opened, err := b.openManifest(manifest, address)
	if err != nil {
		return image.Base{}, err
	}
	return opened, b.keep(manifest, data, address)
}

// bySum opens a base that was opened before, in this run or an earlier one.
func (b *bases) bySum(sum base.Hash) (image.Base, error) {
	b.mu.Lock()
	known, ok := b.open[sum]
	b.mu.Unlock()
	if ok {
		return known, nil
	}
	dir := filepath.Join(b.dir, sum.String())
	address, err := os.ReadFile(filepath.Join(dir, "address"))
	if err != nil {
		return image.Base{}, fmt.Errorf("base %s is not known here: %w: %w", sum, fault.NotFound, err)
	}
	data, err := os.ReadFile(filepath.Join(dir, manifestName))
	if err != nil {
		return image.Base{}, fmt.Errorf("base %s is not known here: %w: %w", sum, fault.NotFound, err)
	}
	manifest, err := base.Parse(data)
	if err != nil {
		return image.Base{}, fmt.Errorf("read the manifest kept of base %s: %w", sum, err)
	}
	if manifest.SHA256 != sum {
		return image.Base{}, fmt.Errorf("the manifest kept of base %s is of %s: %w", sum, manifest.SHA256, fault.Corrupt)
	}
	return b.openManifest(manifest, strings.TrimSpace(string(address)))
}

// lastFrom opens the base that an address had last.
func (b *bases) lastFrom(address string) (image.Base, error) {
	text, err := os.ReadFile(b.lastPath(address))
	if err != nil {
		return image.Base{}, err
	}
	var sum base.Hash
	if err := sum.UnmarshalText([]byte(strings.TrimSpace(string(text)))); err != nil {
		return image.Base{}, err
	}
	return b.bySum(sum)
}

func (b *bases) lastPath(address string) string {
	sum := sha256.Sum256([]byte(address))
	return filepath.Join(b.dir, "last-"+hex.EncodeToString(sum[:8]))
}

// keep writes down what was opened, for starts without a network.
func (b *bases) keep(m *base.Manifest, data []byte, address string) error {
	dir := filepath.Join(b.dir, m.SHA256.String())
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("keep the manifest: %w: %w", fault.Unavailable, err)
	}
	for path, content := range map[string][]byte{
		filepath.Join(dir, manifestName): data,
		filepath.Join(dir, "address"):    []byte(address + "\n"),
		b.lastPath(address):              []byte(m.SHA256.String() + "\n"),
	} {
		// Mostly it is there already, and then a disk that is full does not matter.
		if old, err := os.ReadFile(path); err == nil && bytes.Equal(old, content) {
			continue
		}
		// An address may have a password or a signature.
		if err := renameio.WriteFile(path, content, 0o600); err != nil {
			return fmt.Errorf("keep the manifest: %w: %w", fault.Unavailable, err)
		}
	}
	return nil
}

func (b *bases) openManifest(m *base.Manifest, address string) (image.Base, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if known, ok := b.open[m.SHA256]; ok {
		return known, nil
	}
	where, err := imageOf(address)
	if err != nil {
		return image.Base{}, err
	}
	from, err := b.origin.Open(where, m.TotalSize)
	if err != nil {
		return image.Base{}, err
	}
	sums := make([][32]byte, len(m.Blocks))
	for i, h := range m.Blocks {
		sums[i] = h
	}
	file, err := b.store.Blob(cache.Blob{
		ID: m.SHA256.String(), Size: m.TotalSize, BlockSize: m.BlockSize, Sums: sums,
	}, from)
	if err != nil {
		return image.Base{}, err
	}
	opened := image.Base{Manifest: m, Bytes: file}
	b.open[m.SHA256] = opened
	return opened, nil
}

// readManifest reads the manifest of a base published at address.
func readManifest(ctx context.Context, address string, patience origin.Options) (*base.Manifest, []byte, error) {
	where, err := manifestOf(address)
	if err != nil {
		return nil, nil, fmt.Errorf("--base: %w", err)
	}
	data, err := patience.ReadAll(ctx, where, maxManifest)
	if err != nil {
		return nil, nil, fmt.Errorf("read the manifest of --base %s: %w", origin.Redact(address), err)
	}
	m, err := base.Parse(data)
	if err != nil {
		return nil, nil, fmt.Errorf("manifest of --base %s: %w", origin.Redact(address), err)
	}
	return m, data, nil
}

package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/renameio/v2"

	"aesthetic.computer/isofs/base"
	"aesthetic.computer/isofs/cache"
	"aesthetic.computer/isofs/fault"
	"aesthetic.computer/isofs/image"
	"aesthetic.computer/isofs/origin"
	"aesthetic.computer/isofs/signature"
)

// maxManifest bounds what is read as a manifest: that of a 1 TiB base has
// 4 Mi blocks of 67 bytes each.
const maxManifest = 300 << 20

// knownPatience is how long an address whose base is known here may take to
// answer: a start need not wait for it.
const knownPatience = 5 * time.Second

const (
	manifestName = base.ManifestName
	imageName    = base.ImageName
)

// bases opens bases by address or by digest. What it opened once it knows
// again without a network: <dir>/<sha256>/ has the manifest and the address.
type bases struct {
	dir    string
	store  *cache.Store
	log    *slog.Logger
	origin origin.Options // of the image; a manifest has a patience of its own
	hedge  bool
	ring   atomic.Pointer[signature.Keyring] // nil: manifests need no signature

	mu      sync.Mutex // guards what follows
	open    map[base.Hash]openBase
	mirrors []*origin.Mirrors // of those that are open, the oldest first
}

// An openBase is a base and where its bytes come from.
type openBase struct {
	image.Base
	from *origin.Mirrors
}

func newBases(o *stackFlags, store *cache.Store, log *slog.Logger) *bases {
	how := o.origins()
	how.Log = log
	return &bases{dir: filepath.Join(o.state, "bases"), store: store, log: log, origin: how, hedge: o.mirrors.hedge, open: map[base.Hash]openBase{}}
}

// Close lets go of the origins. Nothing is fetched any more.
func (b *bases) Close() error {
	var errs []error
	for _, m := range b.origins() {
		errs = append(errs, m.Close())
	}
	return errors.Join(errs...)
}

// origins are those of all bases that are open.
func (b *bases) origins() []*origin.Mirrors {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.mirrors)
}

// originOf is where the bytes of a base that is open come from.
func (b *bases) originOf(sum base.Hash) *origin.Mirrors {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.open[sum].from
}

// byAddress opens the base published at the first place: the folder or URL that
// has manifest.json and base.iso, or the address of the manifest. If the
// manifest cannot be had there or from a mirror, the one that was had last is
// used.
func (b *bases) byAddress(ctx context.Context, where places) (image.Base, error) {
	got, err := b.read(ctx, where)
	if err = blame("base", err); err != nil {
		if !errors.Is(err, fault.Unavailable) {
			return image.Base{}, err
		}
		known, knownErr := b.lastFrom(where)
		if errors.Is(knownErr, fs.ErrNotExist) {
			return image.Base{}, err
		}
		if knownErr != nil {
			return image.Base{}, errors.Join(err, knownErr)
		}
		b.log.Warn("the base's address does not answer; going on with the base that it had last", "address", origin.Redact(where.first()), "base", known.Manifest.SHA256, "err", err)
		return known, nil
	}
	opened, err := b.openManifest(got.Manifest, where)
	if err != nil {
		return image.Base{}, err
	}
	if err := b.keep(got, where); err != nil {
		return image.Base{}, err
	}
	return opened, keepFile(b.lastPath(where.first()), []byte(got.SHA256.String()+"\n"))
}

// read reads the manifest from the first place, or from a mirror if that one
// does not answer.
func (b *bases) read(ctx context.Context, where places) (*gotManifest, error) {
	folders := where.folders()
	patience := b.origin
	patience.Timeout = 0 // the usual
	if _, err := os.Stat(b.lastPath(where.first())); err == nil || len(folders) > 1 {
		patience.Timeout = knownPatience
	}
	b.log.Info("reading the base's manifest", "address", origin.Redact(where.first()))
	got, err := b.manifestAt(ctx, folders.first(), patience)
	if err == nil || !errors.Is(err, fault.Unavailable) {
		return got, err
	}
	for _, mirror := range folders[1:] {
		b.log.Warn("the manifest is read from a mirror", "mirror", origin.Redact(mirror), "err", err)
		got, mirrorErr := b.manifestAt(ctx, mirror, patience)
		if mirrorErr == nil {
			return got, nil
		}
		err = fmt.Errorf("%w; %v", err, mirrorErr)
	}
	return nil, err
}

// bySum opens a base that was opened before, in this run or an earlier one.
func (b *bases) bySum(sum base.Hash) (image.Base, error) {
	b.mu.Lock()
	known, ok := b.open[sum]
	b.mu.Unlock()
	if ok {
		return known.Base, nil
	}
	manifest, err := b.kept(sum)
	if err != nil {
		return image.Base{}, err
	}
	where, err := os.ReadFile(filepath.Join(b.dir, sum.String(), "address"))
	if err != nil {
		return image.Base{}, fmt.Errorf("base %s is not known here: %w: %w", sum, fault.NotFound, err)
	}
	return b.openManifest(manifest, readPlaces(where))
}

// kept reads the manifest that was kept of a base.
func (b *bases) kept(sum base.Hash) (*base.Manifest, error) {
	data, err := os.ReadFile(filepath.Join(b.dir, sum.String(), manifestName))
	if err != nil {
		return nil, fmt.Errorf("base %s is not known here: %w: %w", sum, fault.NotFound, err)
	}
	if err := b.trustKept(sum, data); err != nil {
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

// lastFrom opens the base that the first place had last, with the mirrors of now.
func (b *bases) lastFrom(where places) (image.Base, error) {
	text, err := os.ReadFile(b.lastPath(where.first()))
	if err != nil {
		return image.Base{}, err
	}
	var sum base.Hash
	if err := sum.UnmarshalText([]byte(strings.TrimSpace(string(text)))); err != nil {
		return image.Base{}, err
	}
	manifest, err := b.kept(sum)
	if err != nil {
		return image.Base{}, err
	}
	return b.openManifest(manifest, where)
}

func (b *bases) lastPath(address string) string {
	sum := sha256.Sum256([]byte(address))
	return filepath.Join(b.dir, "last-"+hex.EncodeToString(sum[:8]))
}

// named opens the base that a channel names as its current one, published at
// address, after a look at its first block.
func (b *bases) named(ctx context.Context, address string, c *base.Channel) (image.Base, error) {
	want := c.Current
	how := b.origin
	how.Timeout = knownPatience
	got, err := b.manifestAt(ctx, address, how)
	if errors.Is(err, fault.Unavailable) {
		// It may be known from before; its bytes are looked at all the same.
		if known, knownErr := b.kept(want.SHA256); knownErr == nil {
			got, err = &gotManifest{Manifest: known}, nil
		}
	}
	if err != nil {
		return image.Base{}, err
	}
	manifest := got.Manifest
	if manifest.Entry() != want || manifest.Flavor != c.Flavor || manifest.Arch != c.Arch {
		return image.Base{}, fmt.Errorf("the manifest there is of %s, sha256 %s; the channel wants %s, sha256 %s: %w",
			manifest.Entry().Path, manifest.SHA256, want.Path, want.SHA256, fault.Corrupt)
	}
	opened, err := b.openManifest(manifest, places{address})
	if err != nil {
		return image.Base{}, err
	}
	var one [1]byte
	if _, err := opened.Bytes.ReadAt(one[:], 0); err != nil {
		return image.Base{}, fmt.Errorf("read its first block: %w", err)
	}
	if got.data == nil {
		return opened, nil
	}
	return opened, b.keep(got, places{address})
}

// keep writes down what was opened, for starts without a network and for
// images of earlier bases.
func (b *bases) keep(m *gotManifest, where places) error {
	dir := filepath.Join(b.dir, m.SHA256.String())
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("keep the manifest: %w: %w", fault.Unavailable, err)
	}
	if m.signature != nil {
		if err := keepFile(filepath.Join(dir, base.ManifestSignatureName), m.signature); err != nil {
			return err
		}
	}
	return errors.Join(
		keepFile(filepath.Join(dir, manifestName), m.data),
		keepFile(filepath.Join(dir, "address"), where.text()),
	)
}

// keepFile writes a file of the state. Mostly it is there already, and then a
// disk that is full does not matter.
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

func (b *bases) openManifest(m *base.Manifest, where places) (image.Base, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if known, ok := b.open[m.SHA256]; ok {
		return known.Base, nil
	}
	addresses, err := where.images(m, b.usable)
	if err != nil {
		return image.Base{}, err
	}
	from, err := origin.OpenMirrors(origin.MirrorOptions{Options: b.origin, NoHedge: !b.hedge, Log: b.log}, m.TotalSize, addresses...)
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
		return image.Base{}, errors.Join(err, from.Close())
	}
	b.mirrors = append(b.mirrors, from)
	opened := image.Base{Manifest: m, Bytes: file}
	b.open[m.SHA256] = openBase{opened, from}
	return opened, nil
}

// usable reports whether a mirror that the manifest names can be opened. A
// place that nobody asked for does not keep isofs from starting.
func (b *bases) usable(address string) bool {
	opened, err := b.origin.Open(address, 1) // asks nobody
	if err != nil {
		b.log.Warn("a mirror that the manifest names is left out", "mirror", origin.Redact(address), "err", err)
		return false
	}
	return opened.Close() == nil
}

// Package bake builds bases: packages of a distribution become a disk image
// that boots, with an empty slot as its last partition, and a manifest.
//
// The same packages and the same recipe give the same bytes. Nothing is
// installed on the machine that bakes, no loop device or mount is used, and a
// bake that is killed leaves nothing but files in its work directory. The
// package leaves out publishing, and the images that are made of a base
// (package image).
package bake

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/google/renameio/v2"

	"aesthetic.computer/isofs/base"
	"aesthetic.computer/isofs/fault"
)

// MiB is the alignment of partitions, in bytes.
const MiB = 1 << 20

// SlotSize is the size of FEDAC-PIECE in bytes.
const SlotSize = 20 * MiB

// DefaultEpoch is the time that everything in a base is stamped with unless
// the caller says otherwise, and the day of its version. It is moved by hand
// when the recipe changes, so that no two recipes share a version.
var DefaultEpoch = time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)

// Options of a bake.
type Options struct {
	// OutDir is where bases are: the result is OutDir/<flavor>/<arch>/<version>.
	OutDir string
	// WorkDir keeps downloaded packages for the next bake, and scratch files.
	WorkDir string
	// Arch is Debian's name of the architecture; "" is amd64.
	Arch string
	// Version is YYYY-MM-DD or YYYY-MM-DD.N; "" is the day of Epoch.
	Version string
	// Epoch is stamped on all files; zero is DefaultEpoch.
	Epoch time.Time
	// Stage is told what is being done; it may be nil.
	Stage func(what string)
	Log   *slog.Logger
}

// A Result is a finished base.
type Result struct {
	// Dir has base.iso and manifest.json.
	Dir      string
	Manifest *base.Manifest
}

func (o Options) complete() (Options, error) {
	if o.Epoch.IsZero() {
		o.Epoch = DefaultEpoch
	}
	o.Epoch = o.Epoch.UTC().Truncate(time.Second)
	if o.Version == "" {
		o.Version = o.Epoch.Format(time.DateOnly)
	}
	if o.Arch == "" {
		o.Arch = "amd64"
	}
	if o.Stage == nil {
		o.Stage = func(string) {}
	}
	if o.Log == nil {
		o.Log = slog.Default()
	}
	if o.Arch != "amd64" {
		return o, fmt.Errorf("bake for %s: only amd64 can be baked so far: %w", o.Arch, fault.Invalid)
	}
	if o.OutDir == "" || o.WorkDir == "" {
		return o, fmt.Errorf("bake: it needs a directory to write to and one to work in: %w", fault.Invalid)
	}
	if err := base.CheckVersion(o.Version); err != nil {
		return o, err
	}
	for _, dir := range []*string{&o.OutDir, &o.WorkDir} {
		abs, err := filepath.Abs(*dir)
		if err != nil {
			return o, fmt.Errorf("bake: %w: %w", fault.Invalid, err)
		}
		if err := os.MkdirAll(abs, 0o755); err != nil {
			return o, fmt.Errorf("bake: make %s: %w: %w", abs, fault.Unavailable, err)
		}
		*dir = abs
	}
	return o, nil
}

// finish indexes the image and puts it where bases are: the image first, the
// manifest last, so that a folder with a manifest is whole.
func finish(ctx context.Context, o Options, flavor, image string) (*Result, error) {
	o.Stage("index")
	f, err := os.Open(image)
	if err != nil {
		return nil, fmt.Errorf("index the base: %w: %w", fault.Unavailable, err)
	}
	defer f.Close()
	fi, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("index the base: %w: %w", fault.Unavailable, err)
	}
	m, err := base.Index(ctx, f, fi.Size(), base.IndexOptions{
		Version: o.Version, Flavor: flavor, Arch: o.Arch, CreatedAt: o.Epoch.Format(time.RFC3339),
	})
	if err != nil {
		return nil, fmt.Errorf("index the base: %w", err)
	}
	data, err := m.Marshal()
	if err != nil {
		return nil, err
	}
	dir := filepath.Join(o.OutDir, flavor, o.Arch, o.Version)
	manifest := filepath.Join(dir, "manifest.json")
	err = errors.Join(
		os.MkdirAll(dir, 0o755),
		removeIfThere(manifest),
		os.Chmod(image, 0o644),
		os.Rename(image, filepath.Join(dir, "base.iso")),
		renameio.WriteFile(manifest, data, 0o644),
	)
	if err != nil {
		return nil, fmt.Errorf("put the base into %s: %w: %w", dir, fault.Unavailable, err)
	}
	return &Result{Dir: dir, Manifest: m}, nil
}

func removeIfThere(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

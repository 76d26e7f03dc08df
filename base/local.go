package base

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
)

// A Local is a base in the file system.
type Local struct {
	Image    *os.File
	Size     int64
	Manifest *Manifest

	manifestPath string
}

// OpenLocal opens a base: a folder with ImageName in it, or the image. The
// manifest is ManifestName beside it, unless the caller names one. The caller
// closes Image.
func OpenLocal(path, manifest string) (*Local, error) {
	fi, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("open the base: %w", err)
	}
	if fi.IsDir() {
		path = filepath.Join(path, ImageName)
	}
	b := &Local{manifestPath: manifest}
	if manifest == "" {
		b.manifestPath = filepath.Join(filepath.Dir(path), ManifestName)
	}
	data, err := os.ReadFile(b.manifestPath)
	if err != nil {
		return nil, fmt.Errorf("read the manifest: %w", err)
	}
	if b.Manifest, err = Parse(data); err != nil {
		return nil, fmt.Errorf("%s: %w", b.manifestPath, err)
	}
	b.Image, b.Size, err = OpenFile(path)
	return b, err
}

// Verify compares the whole image with the manifest (Manifest.Verify).
func (b *Local) Verify(ctx context.Context, progress func(done, total int64)) error {
	if err := b.Manifest.Verify(ctx, b.Image, b.Size, progress); err != nil {
		return fmt.Errorf("%s does not match %s: %w", b.Image.Name(), b.manifestPath, err)
	}
	return nil
}

// OpenFile opens an image, which must be a regular file, and returns its size.
func OpenFile(path string) (*os.File, int64, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, 0, fmt.Errorf("open the image: %w", err)
	}
	fi, err := f.Stat()
	if err == nil && !fi.Mode().IsRegular() {
		err = fmt.Errorf("it is not a regular file")
	}
	if err != nil {
		f.Close()
		return nil, 0, fmt.Errorf("open the image %s: %w", path, err)
	}
	return f, fi.Size(), nil
}

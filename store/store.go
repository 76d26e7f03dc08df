// Package store writes bases to where they are published, a folder or an S3
// bucket, and moves the channels there.
//
// A channel is written last, on condition that no other publisher wrote it meanwhile. So
// a reader of the channel finds whole bases only, and one of two concurrent publishers
// gets ErrConflict. The next publisher continues what a killed one left.
//
// The package does not define manifests and channels (package base) and does not read
// bases to serve them (package origin, which also reads them back here).
package store

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"aesthetic.computer/isofs/fault"
	"aesthetic.computer/isofs/origin"
)

// ErrConflict means that another publisher wrote, or made, the same thing meanwhile.
// Nothing of the other's was changed. It comes with fault.Unavailable, as the next
// attempt begins with what is there then.
var ErrConflict = errors.New("somebody else was first")

// A Store is a folder or bucket where bases are published. Names in it are relative paths
// with slashes. Errors wrap a kind of package fault.
type Store interface {
	// Read returns a small object and its tag, which differs for other content.
	Read(ctx context.Context, name string, limit int64) (data []byte, tag string, err error)
	// Put writes a small object, if what is there has the tag: "" if nothing is there.
	// Otherwise ErrConflict. It appears whole or not at all.
	Put(ctx context.Context, name string, data []byte, tag string) error
	// Upload writes a large object that does not exist; else ErrConflict. It appears
	// whole or not at all. It compares what an earlier interrupted Upload left with the
	// bytes of from, and uses it.
	Upload(ctx context.Context, name string, from io.ReaderAt, size int64, done func(n int64)) error
	// List returns the objects below a folder, by name.
	List(ctx context.Context, folder string) (map[string]int64, error)
	// Remove removes all below a folder, the object called first before others.
	Remove(ctx context.Context, folder, first string) error
	// Delete removes one object, if it exists.
	Delete(ctx context.Context, name string) error
	// Open opens an object of that size for reading, by ranges.
	Open(name string, size int64) (origin.Origin, error)
	// String is the address of the place, without secrets.
	String() string
}

// At opens the place at an address: a path, file:///path or s3://bucket/prefix. It sends
// no request.
func At(address string, how origin.Options) (Store, error) {
	path, isFile, err := origin.FilePath(address)
	if err != nil {
		return nil, fmt.Errorf("publish at %w", err)
	}
	if isFile {
		return newFolder(path)
	}
	if scheme, rest, _ := strings.Cut(address, "://"); scheme == "s3" {
		return newBucket(rest, how)
	}
	return nil, fmt.Errorf("publish at %s: %w: bases are published in a folder, or at s3://bucket/prefix; a web server is written to by its folder or bucket",
		origin.Redact(address), fault.Invalid)
}

// conflict is the error of a condition that did not hold.
func conflict(name string) error {
	return fmt.Errorf("write %s: %w: %w", name, fault.Unavailable, ErrConflict)
}

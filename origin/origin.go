// Package origin ... (contract; to be implemented)
package origin

import "context"

// An Origin has the bytes of one object.
type Origin interface {
	// Fetch fills p with the object's bytes from off on, wholly or with an error
	// wrapping fault.Unavailable, fault.NotFound or fault.Corrupt (the object changed).
	Fetch(ctx context.Context, p []byte, off int64) error
	// String is the origin's address without credentials, for messages.
	String() string
	Close() error
}

// Open opens the object at address: a path, file://, http:// or https://. It
// does not touch the network: the first Fetch pins size and ETag.
func Open(address string, size int64) (Origin, error) { panic("contract") }

// ReadAll reads a small object (a manifest) whole: at most limit bytes.
func ReadAll(ctx context.Context, address string, limit int64) ([]byte, error) { panic("contract") }

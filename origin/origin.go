// Package origin reads the bytes of a base from where they are kept: a web
// server, an S3 bucket or a local file.
//
// It holds a server to its word: the range asked for and no other, of an
// object that stays the same one while it is read. What fails in passing is
// asked for again, within one deadline; what is final is said at once.
//
// Several origins of one object are used as one by Mirrors, which know who is
// in order, and ask twice for what is late.
//
// It leaves out whether the bytes are the right ones (package cache compares
// each block with its hash, and says who gave wrong ones) and keeping them.
package origin

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"strings"
	"time"

	"aesthetic.computer/isofs/fault"
)

// An Origin has the bytes of one object. Its methods are safe for concurrent
// use.
type Origin interface {
	// Fetch fills p with the object's bytes from off on, wholly or with an
	// error; after an error the content of p means nothing. The error wraps
	//   - fault.NotFound: there is no such object; final.
	//   - fault.Corrupt: the object changed since it was first read or is not
	//     of the size it should be, or the answer is of other bytes; final for
	//     this Fetch. The next one begins anew with the object that is there.
	//   - fault.Unavailable: refused, or retried in vain until the deadline,
	//     or ctx ended (then it also wraps ctx.Err()).
	//   - fault.Invalid: the range does not lie in the object.
	Fetch(ctx context.Context, p []byte, off int64) error
	// FetchStream is Fetch that says how far it is: it calls got from the
	// goroutine that called it, with n growing, and p[:n] is not written to
	// again. The bytes that were told of are the object's also if an error
	// comes behind them, as far as the server is to be believed.
	FetchStream(ctx context.Context, p []byte, off int64, got func(n int)) error
	// String is the origin's address without credentials, for messages.
	String() string
	// Close lets go of connections and files. Fetch fails after it.
	Close() error
}

// step is how much is read before it is told of: small beside a block, so that
// its last bytes do not wait for those behind it.
const step = 64 << 10

// ignore is what Fetch tells.
func ignore(int) {}

// Options say how patient an origin is. A zero field means its default.
type Options struct {
	Timeout     time.Duration // of one Fetch or ReadAll with all its attempts; 30 s
	Connect     time.Duration // of making a connection; 2 s
	Stall       time.Duration // without a byte, after which an attempt is given up; 5 s
	Backoff     time.Duration // the most to pause after a first failure, doubled with each further one; 50 ms
	MaxBackoff  time.Duration // the most to pause at all, unless the server says Retry-After; 2 s
	Connections int           // idle connections kept for the next Fetch; 16
	TLS         *tls.Config   // nil: the system's roots
	S3          S3            // how buckets are reached
	Log         *slog.Logger  // told at once when an attempt failed that is made again; nil: nobody is
	// Redirects are the hosts, as "cdn.example" or "cdn.example:8443", that a server
	// may redirect to besides its own. Others are not asked: they could be a
	// service that only this machine reaches.
	Redirects []string

	// sleep waits for d or until ctx ends. Tests put a clock of their own here.
	sleep func(ctx context.Context, d time.Duration) error
	// once makes the first failure the last: there is another origin to ask.
	once bool
}

// Open opens the object of size bytes at address: a path, file://, http://,
// https:// or s3://bucket/key. It does not touch the object: the first Fetch
// does, and pins it (its ETag, or its inode and time). A wrong address or size
// is fault.Invalid.
func Open(address string, size int64) (Origin, error) { return Options{}.Open(address, size) }

// ReadAll reads a small object (a manifest) whole. One of more than limit
// bytes is fault.Corrupt; other errors are those of Fetch.
func ReadAll(ctx context.Context, address string, limit int64) ([]byte, error) {
	return Options{}.ReadAll(ctx, address, limit)
}

// Open is the function Open with options.
func (o Options) Open(address string, size int64) (Origin, error) {
	if size < 0 {
		return nil, fmt.Errorf("open origin %s: %w: size %d", Redact(address), fault.Invalid, size)
	}
	path, g, err := o.parse(address)
	if err != nil {
		return nil, err
	}
	if g == nil {
		return &file{path: path, size: size}, nil
	}
	return &remote{getter: g, o: o.withDefaults(), size: size}, nil
}

// ReadAll is the function ReadAll with options.
func (o Options) ReadAll(ctx context.Context, address string, limit int64) ([]byte, error) {
	path, g, err := o.parse(address)
	if err != nil {
		return nil, err
	}
	if g == nil {
		return readFile(ctx, path, limit)
	}
	defer g.close()
	return readAll(ctx, g, o, limit)
}

func (o Options) withDefaults() Options {
	o.Timeout = or(o.Timeout, 30*time.Second)
	o.Connect = or(o.Connect, 2*time.Second)
	o.Stall = or(o.Stall, 5*time.Second)
	o.Backoff = or(o.Backoff, 50*time.Millisecond)
	o.MaxBackoff = or(o.MaxBackoff, 2*time.Second)
	o.Connections = or(o.Connections, 16)
	if o.sleep == nil {
		o.sleep = sleep
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return o
}

func or[T int | time.Duration](v, otherwise T) T {
	if v <= 0 {
		return otherwise
	}
	return v
}

// parse returns the path of a file, or what asks a server for the object.
func (o Options) parse(address string) (path string, g getter, err error) {
	path, isFile, err := FilePath(address)
	if err != nil {
		return "", nil, fmt.Errorf("open origin: %w", err)
	}
	if isFile {
		return path, nil, nil
	}
	if scheme, rest, _ := strings.Cut(address, "://"); scheme == "s3" {
		g, err := newObject(rest, o)
		if err != nil {
			return "", nil, fmt.Errorf("open origin %s: %w", Redact(address), err)
		}
		return "", g, nil
	}
	u, err := url.Parse(address)
	if err != nil {
		// The text of a url.Error repeats the address with its password.
		if e, ok := errors.AsType[*url.Error](err); ok {
			err = e.Err
		}
		return "", nil, fmt.Errorf("open origin: %w: not a URL: %w", fault.Invalid, err)
	}
	u.Fragment, u.RawFragment = "", ""
	if u.Scheme == "http" || u.Scheme == "https" {
		if u.Hostname() == "" {
			return "", nil, fmt.Errorf("open origin %s: %w: no host", Redact(address), fault.Invalid)
		}
		return "", newClient(u, o), nil
	}
	return "", nil, fmt.Errorf("open origin: %w: scheme %q: use http, https, s3, file or a path", fault.Invalid, u.Scheme)
}

// Redact returns address without what may be secret: user, password, and the
// query, where presigned URLs have their signature.
func Redact(address string) string {
	scheme, rest, ok := strings.Cut(address, "://")
	if !ok {
		return address
	}
	if bucket, key, ok := strings.Cut(rest, "/"); ok && scheme == "s3" && bucketName.MatchString(bucket) {
		return "s3://" + bucket + "/" + key // as it is: any character may be in a key
	}
	u, err := url.Parse(address)
	if err != nil {
		return "(unreadable address)"
	}
	u.User, u.Fragment, u.RawFragment = nil, "", ""
	if u.RawQuery != "" {
		u.RawQuery = "..."
	}
	return u.String()
}

// checkRange checks a Fetch of n bytes from off on against the object's size.
func checkRange(name string, off, n, size int64) error {
	if off < 0 || off > size || n > size-off {
		return fmt.Errorf("fetch %d bytes from %d of %s: %w: it has %d bytes", n, off, name, fault.Invalid, size)
	}
	return nil
}

// canceled is the error of a Fetch whose caller gave up.
func canceled(ctx context.Context) error {
	return fmt.Errorf("%w: %w", fault.Unavailable, ctx.Err())
}

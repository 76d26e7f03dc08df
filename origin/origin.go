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
	"errors"
	"fmt"
	"net/url"
	"strings"

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

var _ Origin = (*Mirrors)(nil)

// Open opens the object of size bytes at address: a path, file://, http://,
// https:// or s3://bucket/key. It does not touch the object: the first Fetch
// does, and pins it (its ETag, or its inode and time). A wrong address or size
// is fault.Invalid.
func Open(address string, size int64) (Origin, error) { return Options{}.Open(address, size) }

// Open is the function Open with options.
func (o Options) Open(address string, size int64) (Origin, error) {
	m, err := OpenMirrors(MirrorOptions{Options: o, NoHedge: true}, size, address)
	if err != nil {
		return nil, err
	}
	return m, nil
}

// OpenMirrors opens the object of size bytes at each of the addresses, of which
// there is at least one, in order of preference. Errors are those of Open.
func OpenMirrors(o MirrorOptions, size int64, addresses ...string) (*Mirrors, error) {
	if len(addresses) == 0 {
		return nil, fmt.Errorf("open origin: %w: no address", fault.Invalid)
	}
	m := newMirrors(o, size)
	for _, address := range addresses {
		if err := m.open(address); err != nil {
			return nil, errors.Join(err, m.Close())
		}
	}
	return m, nil
}

// open adds the origin that has this address.
func (m *Mirrors) open(address string) error {
	if m.size < 0 {
		return fmt.Errorf("open origin %s: %w: size %d", Redact(address), fault.Invalid, m.size)
	}
	path, g, err := m.o.parse(address)
	switch {
	case err != nil:
		return err
	case g != nil:
		m.add(&remote{getter: g, size: m.size}, false)
	default:
		m.add(&file{path: path, size: m.size}, true)
	}
	return nil
}

// ReadAll reads a small object (a manifest) whole. One of more than limit
// bytes is fault.Corrupt; other errors are those of Fetch.
func ReadAll(ctx context.Context, address string, limit int64) ([]byte, error) {
	return Options{}.ReadAll(ctx, address, limit)
}

// ReadAll is the function ReadAll with options.
func (o Options) ReadAll(ctx context.Context, address string, limit int64) ([]byte, error) {
	o = o.withDefaults()
	path, g, err := o.parse(address)
	if err != nil {
		return nil, err
	}
	if g == nil {
		return readFile(ctx, path, limit)
	}
	defer g.close()
	var all []byte
	l := loop{o: o, sources: []outcome{{name: g}}}
	err = l.run(ctx, func(ctx context.Context) (bool, error) {
		all, err = readWhole(ctx, g, limit)
		if err != nil {
			l.note(ctx, 0, err)
		}
		return false, err
	}, func(err error) { o.tellFailing(g, err) })
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", g, err)
	}
	return all, nil
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
		bucket, key, err := splitBucket(rest)
		if err == nil {
			g, err = newObject(bucket, key, o)
		}
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
		return "", newClient(u, Redact(u.String()), o), nil
	}
	return "", nil, fmt.Errorf("open origin: %w: scheme %q: use http, https, s3, file or a path", fault.Invalid, u.Scheme)
}

// Package origin reads the bytes of a base from where they are kept: a web
// server, an S3 bucket or a local file.
//
// A server must answer with exactly the requested range, of an object that does
// not change during the read. A failure that may pass leads to another attempt,
// within one deadline. A final one is returned at once.
//
// Mirrors use several origins of one object as one. They record which of them
// work, and make a second request when an answer is late.
//
// The package does not check whether the bytes are right, and does not keep them.
// Package cache compares each block with its hash, and reports wrong ones.
//
// # How it is arranged
//
// A file uses only files of the lines below it:
//
//	origin                     opens an address, and reads small objects whole
//	fetch                      one Fetch: rounds over the mirrors
//	hedge                      a request, and a second one if it is late
//	mirrors                    all mirrors, and which of them to ask
//	buffer                     what a Fetch fills
//	health, pace, provenance   the record of each mirror
//	loop                       attempts: rounds, pauses, the deadline
//	remote, file               one attempt at a server, or at a local file
//	s3                         one request to a bucket
//	client                     one request by HTTP
//	answer                     whether an answer fits the request
//	attempt                    what an attempt is, and how it fails
//	options, address           settings; what addresses mean
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
	// Fetch fills p with the object's bytes from off on. It fills all of it, or
	// returns an error; then the content of p means nothing. The error wraps
	//   - fault.NotFound: there is no such object; final.
	//   - fault.Corrupt: the object changed since it was first read or has
	//     another size than it should, or the answer is of other bytes; final for
	//     this Fetch. The next one reads the object that is there then.
	//   - fault.Unavailable: the server refused, or all attempts until the
	//     deadline failed, or ctx ended (then it also wraps ctx.Err()).
	//   - fault.Invalid: the range does not lie in the object.
	Fetch(ctx context.Context, p []byte, off int64) error
	// FetchStream is Fetch that reports its progress: it calls got in the
	// caller's goroutine, with n growing, and p[:n] is not written to again. These
	// bytes are the object's also if an error follows, as far as the server can be
	// trusted.
	FetchStream(ctx context.Context, p []byte, off int64, got func(n int)) error
	// String is the origin's address without credentials, for messages.
	String() string
	// Close closes connections and files. Fetch fails after it.
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

// OpenMirrors opens the object of size bytes at each of the addresses, in order of
// preference. At least one address is needed. Errors are those of Open.
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

// ReadAll reads a small object (a manifest) whole. More than limit bytes are
// fault.Corrupt; other errors are those of Fetch.
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
	}, func(err error) { o.logFailing(g, err) })
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", g, err)
	}
	return all, nil
}

// parse returns the path of a file, or the getter that requests the object from a
// server.
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

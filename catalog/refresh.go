package catalog

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"aesthetic.computer/isofs/base"
	"aesthetic.computer/isofs/bundle"
	"aesthetic.computer/isofs/extent"
	"aesthetic.computer/isofs/fault"
	"aesthetic.computer/isofs/image"
)

// A BusyError says that too many pieces are being fetched. It wraps
// fault.Unavailable.
type BusyError struct {
	// RetryAfter is when to come again.
	RetryAfter time.Duration
}

func (e *BusyError) Error() string {
	return fmt.Sprintf("too many pieces are being fetched; try again in %s", e.RetryAfter)
}

// Unwrap gives the kind.
func (e *BusyError) Unwrap() error { return fault.Unavailable }

// busyRetry is how long a client that met a full house is asked to wait.
const busyRetry = 5 * time.Second

// CurrentFile is Current by the name of an image: "notepat-os.iso".
func (c *Catalog) CurrentFile(ctx context.Context, fileName string) (*Snapshot, error) {
	name, err := bundle.ParseFileName(fileName)
	if err != nil {
		return nil, err
	}
	return c.Current(ctx, name)
}

// Current returns the snapshot that a piece has now, fetching its bundle if it
// is not known or may have changed. Callers of one piece share one fetch, which
// goes on when they leave. When the source fails, a piece that is known keeps
// the snapshot that it has.
func (c *Catalog) Current(ctx context.Context, name bundle.Name) (*Snapshot, error) {
	s, gone := c.shown.newest(name)
	known := s != nil && !gone
	if known && !c.stale(ctx, s) {
		s.touch()
		return s, nil
	}
	if err, ok := c.missing.Get(name); ok {
		return nil, err
	}
	if err, ok := c.refused.Get(name); ok {
		if known {
			return s, nil
		}
		return nil, err
	}
	flight := c.flights.DoChan(name.String(), func() (any, error) { return c.refresh(name) })
	if !known {
		select {
		case r := <-flight:
			return asSnapshot(r.Val, r.Err)
		case <-ctx.Done():
			return nil, fmt.Errorf("wait for the bundle of %s: %w: %w", name, fault.Unavailable, context.Cause(ctx))
		}
	}
	wait := time.NewTimer(c.cfg.Limits.RefreshWait)
	defer wait.Stop()
	select {
	case r := <-flight:
		if r.Err != nil && !errors.Is(r.Err, fault.NotFound) {
			return s, nil // it was logged by the flight
		}
		return asSnapshot(r.Val, r.Err)
	case <-wait.C:
		return s, nil
	case <-ctx.Done():
		return s, nil
	}
}

func asSnapshot(v any, err error) (*Snapshot, error) {
	if err != nil {
		return nil, err
	}
	return v.(*Snapshot), nil
}

// stale reports whether the piece may have another image by now.
func (c *Catalog) stale(ctx context.Context, s *Snapshot) bool {
	return s.record.Base != c.cfg.Base.Manifest.SHA256 ||
		c.cfg.Source.Changed(ctx, s.piece, s.info(), s.age())
}

// refresh is the body of one flight. It has no caller's context: those who
// wait may leave, and the bundle is wanted all the same.
func (c *Catalog) refresh(name bundle.Name) (*Snapshot, error) {
	select {
	case c.slots <- struct{}{}:
		defer func() { <-c.slots }()
	default:
		return nil, fmt.Errorf("fetch %s: %w", name, &BusyError{busyRetry})
	}
	ctx, cancel := context.WithTimeout(context.Background(), c.cfg.Limits.FetchTime)
	defer cancel()
	start := c.cfg.Now()
	s, err := c.fetch(ctx, name)
	// Between the store and the record a bundle can be swept away, if another
	// piece had the same one and was just forgotten: A stores X, B forgets the
	// last record of X and sweeps, A finds X gone. Then it is fetched once more.
	if errors.Is(err, errSwept) {
		s, err = c.fetch(ctx, name)
	}
	if err != nil {
		err = fmt.Errorf("fetch %s: %w", name, err)
		if errors.Is(err, fault.NotFound) {
			c.shown.setGone(name)
			c.missing.Add(name, err)
			return nil, err
		}
		c.cfg.Log.Warn("piece not refreshed", "piece", name, "err", err)
		c.refused.Add(name, err)
		return nil, err
	}
	c.missing.Remove(name)
	c.cfg.Log.Info("piece fetched", "piece", name, "snapshot", s.ID(), "bytes", s.record.BundleSize, "took", c.cfg.Now().Sub(start))
	c.Prune()
	return s, nil
}

// errSwept says that a bundle went between its store and its record.
var errSwept = fmt.Errorf("the bundle was removed meanwhile: %w", fault.Unavailable)

// fetch gets the bundle and makes the snapshot of it.
func (c *Catalog) fetch(ctx context.Context, name bundle.Name) (*Snapshot, error) {
	info, err := c.bundles.Put(func(w io.Writer) (bundle.Info, error) {
		return c.cfg.Source.Fetch(ctx, name, w, image.MaxBundle(c.cfg.Base.Manifest))
	})
	if err != nil {
		return nil, err
	}
	c.removal.RLock()
	defer c.removal.RUnlock()
	return c.settle(name, info)
}

// settle makes the snapshot of a fetched bundle, or confirms the one that the
// piece has. It runs in the piece's flight, so never twice at once for a piece.
func (c *Catalog) settle(name bundle.Name, info bundle.Info) (*Snapshot, error) {
	prev, gone := c.shown.newest(name)
	if prev != nil && prev.record.Bundle == base.Hash(info.SHA256) && prev.record.Base == c.cfg.Base.Manifest.SHA256 &&
		prev.record.Title == info.Title {
		if gone || !prev.record.SourceTime.Equal(info.ModTime) {
			return c.renew(prev, info)
		}
		prev.confirm()
		return prev, nil
	}
	s, err := c.make(name, info, prev)
	if err != nil {
		return nil, err
	}
	if err := c.records.write(s.record); err != nil {
		return nil, err
	}
	c.shown.add(s)
	return s, nil
}

// renew gives a snapshot whose bundle's source has another time for the same
// bytes that source time, so that it is not fetched again and again.
func (c *Catalog) renew(prev *Snapshot, info bundle.Info) (*Snapshot, error) {
	r := prev.record
	r.SourceTime = info.ModTime
	if err := c.records.write(r); err != nil {
		return nil, err
	}
	s := &Snapshot{catalog: c, record: r, piece: prev.piece, base: prev.base, checked: c.cfg.Now(), used: prev.lastUsed()}
	c.shown.remove(prev)
	c.shown.add(s)
	return s, nil
}

// make composes the snapshot and computes its digest.
//
// Its time is the later of the bundle's and the base's, which are the same on
// every node; and later than that of the snapshot before, since nginx's ETag
// is time and size, and the size is the base's.
func (c *Catalog) make(name bundle.Name, info bundle.Info, prev *Snapshot) (*Snapshot, error) {
	b := c.cfg.Base
	t := info.ModTime.UTC().Truncate(time.Second)
	if made, err := time.Parse(time.RFC3339, b.Manifest.CreatedAt); err == nil && made.After(t) {
		t = made.UTC().Truncate(time.Second)
	}
	if prev != nil && !t.After(prev.record.Time) {
		t = prev.record.Time.Add(time.Second)
	}
	r := record{
		Piece: name.String(), Title: info.Title, Base: b.Manifest.SHA256,
		Bundle: info.SHA256, BundleSize: info.Size,
		Time: t, SourceTime: info.ModTime, Made: c.cfg.Now().UTC(),
	}
	r.ID = image.ID(b.Manifest, r.inputs())
	f, size, err := c.bundles.Open(info.SHA256)
	if errors.Is(err, fault.NotFound) {
		return nil, errSwept
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	img, err := image.Compose(b, r.inputs(), extent.File(f, 0, size))
	if err != nil {
		return nil, err
	}
	if r.SHA256, err = img.SHA256(); err != nil {
		return nil, fmt.Errorf("digest of %s: %w", name, err)
	}
	return &Snapshot{catalog: c, record: r, piece: name, base: b, checked: r.Made, used: r.Made}, nil
}

// Refresh fetches the bundle of a piece now, whatever is known of it.
func (c *Catalog) Refresh(ctx context.Context, name bundle.Name) (*Snapshot, error) {
	c.missing.Remove(name)
	c.refused.Remove(name)
	select {
	case r := <-c.flights.DoChan(name.String(), func() (any, error) { return c.refresh(name) }):
		return asSnapshot(r.Val, r.Err)
	case <-ctx.Done():
		return nil, fmt.Errorf("wait for the bundle of %s: %w", name, errors.Join(fault.Unavailable, context.Cause(ctx)))
	}
}

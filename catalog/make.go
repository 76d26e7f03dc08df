package catalog

import (
	"context"
	"fmt"
	"io"
	"time"

	"aesthetic.computer/isofs/base"
	"aesthetic.computer/isofs/bundle"
	"aesthetic.computer/isofs/image"
	"aesthetic.computer/isofs/piece"
)

// fetch gets the bundle and makes its snapshot.
func (c *Catalog) fetch(ctx context.Context, name piece.Name) (*Snapshot, error) {
	// One base from beginning to end, whatever SetBase does in the meantime.
	b := *c.bases.current.Load()
	info, release, err := c.disk.put(func(w io.Writer) (bundle.Info, error) {
		return c.cfg.Source.Fetch(ctx, name, w, image.MaxBundle(b.Manifest))
	})
	if err != nil {
		return nil, err
	}
	defer release()
	if info.Note != "" {
		c.cfg.Log.Warn("no splash, or only a part of it", "piece", name, "note", info.Note)
	}
	return c.settle(name, info, b)
}

// settle makes the snapshot of a stored bundle, or confirms the piece's present
// one. It runs in the piece's build, so never twice at once for a piece.
func (c *Catalog) settle(name piece.Name, info bundle.Info, b image.Base) (*Snapshot, error) {
	prev, _ := c.shown.newest(name)
	signing, signErr := c.signing()
	// While the keys fail, the present snapshot stays in use.
	if prev != nil && prev.sameAs(info, b.Manifest) && (signErr != nil || prev.record.Signers == signing.Keys) {
		if confirmed, err := c.confirm(prev, info); confirmed || err != nil {
			return prev, err
		}
	}
	if signErr != nil {
		return nil, signErr
	}
	s, err := c.make(name, info, prev, b, signing)
	if err != nil {
		return nil, err
	}
	c.disk.mu.Lock()
	defer c.disk.mu.Unlock()
	if err := c.disk.records.write(s.record); err != nil {
		return nil, err
	}
	if err := c.disk.marks.unset(s.record); err != nil {
		c.cfg.Log.Warn("unneeded mark not removed", "piece", name, "err", err)
	}
	c.shown.add(s)
	return s, nil
}

// confirm notes that the source still has the bundle of a snapshot. If the
// source has a new time for the same bytes, confirm stores that time, so that
// the catalog does not fetch them again. It returns false if the snapshot was
// forgotten in the meantime.
func (c *Catalog) confirm(s *Snapshot, info bundle.Info) (bool, error) {
	c.disk.mu.Lock()
	defer c.disk.mu.Unlock()
	if c.shown.find(s.record.ID) != s {
		return false, nil
	}
	if known := s.info(); !known.ModTime.Equal(info.ModTime) || known.Beside != info.Beside {
		r := s.record
		r.SourceTime, r.SourceBeside = info.ModTime, info.Beside
		if err := c.disk.records.write(r); err != nil {
			return false, err
		}
	}
	s.confirm(info)
	c.shown.unsetMissing(s.piece)
	return true, nil
}

// make composes the snapshot, computes its digest and signs it.
func (c *Catalog) make(name piece.Name, info bundle.Info, prev *Snapshot, b image.Base, signing Signing) (*Snapshot, error) {
	r := date(record{
		Piece: name.String(), Density: name.Density(), Title: info.Title, Base: b.Manifest.SHA256,
		Bundle: info.SHA256, BundleSize: info.Size, Splash: splashOf(info, b.Manifest),
		SourceTime: info.ModTime, SourceBeside: info.Beside, Made: c.cfg.Now().UTC(), Signers: signing.Keys,
	}, c.disk.markOf(name), prev, b.Manifest)
	c.builds.progress.enter(name, StageVolume)
	r, err := signing.sign(r, b.Manifest)
	if err != nil {
		return nil, err
	}
	open, err := c.compose(r, b)
	if err != nil {
		return nil, err
	}
	defer open.close()
	c.builds.progress.enter(name, StageDigest)
	h, err := open.image.Hash()
	if err == nil {
		r.SHA256 = base.Hash(h.Sum(nil))
		r.HashState, err = b.Manifest.ImageState(h)
	}
	if err != nil {
		return nil, fmt.Errorf("digest of %s: %w", name, err)
	}
	s := newSnapshot(c, r, name, b)
	if c.sidecars.signs() {
		c.builds.progress.enter(name, StageSignature)
		if err := c.sidecars.sign(s, open.image); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// date gives a record its time and its id.
//
// The time is the later of the bundle's and the base's. These are the same on
// every node. It is also later than the time of the piece's snapshot before,
// retained or not: nginx's ETag is time and size, and all images of a base have
// the same size. A forgotten snapshot that is made again from the same inputs
// gets the same time again.
func date(r record, last mark, prev *Snapshot, m *base.Manifest) record {
	at := func(t time.Time) record {
		r.Time = t
		r.ID = image.ID(m, r.inputs())
		return r
	}
	t := r.SourceTime.UTC().Truncate(time.Second)
	if made, err := time.Parse(time.RFC3339, m.CreatedAt); err == nil && made.After(t) {
		t = made.UTC().Truncate(time.Second)
	}
	if prev != nil && !last.Time.After(prev.record.Time) {
		last = mark{Time: prev.record.Time}
	}
	if last.Time.IsZero() || t.After(last.Time) {
		return at(t)
	}
	if again := at(last.Time); again.ID == last.ID {
		return again
	}
	return at(last.Time.Add(time.Second))
}

// sameAs reports whether a bundle on a base would give the image of s.
func (s *Snapshot) sameAs(info bundle.Info, m *base.Manifest) bool {
	return s.record.Base == m.SHA256 && s.record.Bundle == base.Hash(info.SHA256) && s.record.Title == info.Title &&
		s.record.Splash == splashOf(info, m)
}

// splashOf is the part of a bundle's splash that an image on m can show.
func splashOf(info bundle.Info, m *base.Manifest) image.Splash {
	s := info.Splash
	return image.Splash{
		Top: s.Top, Bottom: s.Bottom, Dots: s.Dots, Picture: s.Picture, PictureSize: s.PictureSize,
	}.Fitting(m, info.Size)
}

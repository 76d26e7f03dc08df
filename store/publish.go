package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"time"

	"aesthetic.computer/isofs/base"
	"aesthetic.computer/isofs/fault"
)

// A Publication is one base that is to be published.
type Publication struct {
	Manifest *base.Manifest
	Image    io.ReaderAt
	Keep     int                                  // versions that the channel keeps
	Progress func(step string, done, total int64) // may be nil
	Now      func() time.Time                     // nil: time.Now
	Sign     Signer                               // nil: nothing is signed
}

// The steps of a publication, as Progress names them.
const (
	StepUpload = "uploading"
	StepVerify = "reading back"
)

// A Result is what a publication did.
type Result struct {
	Channel *base.Channel
	Removed []string // versions
	Already bool     // the channel had this version as its current one before
}

// A Plan is what a publication would do.
type Plan struct {
	Image    bool     // base.iso is not there yet
	Manifest bool     // nor is its manifest
	Channel  bool     // the channel has another version, or is not there
	From     string   // the version that the channel has; "" if none
	Remove   []string // versions
}

// A publisher is one publication under way.
type publisher struct {
	Publication
	place   Place
	path    string // of the version's folder
	channel *base.Channel
	data    []byte // the channel's
	tag     string // the channel's, as it was read; "": there is none
	whole   bool   // the manifest is there,
	// and has these bytes, which may be another publisher's of the same base.
	manifest []byte
	image    bool // base.iso is there
}

// Preview returns what Publish would do now. It writes nothing.
func Preview(ctx context.Context, s Store, p Publication) (Plan, error) {
	w, err := begin(ctx, s, p)
	if err != nil {
		return Plan{}, w.failed(err)
	}
	plan := Plan{Image: !w.image, Manifest: !w.whole, Channel: !w.isCurrent()}
	if w.channel != nil {
		plan.From = w.channel.Current.Version
	}
	next, err := w.next(ctx, true)
	if err != nil {
		return Plan{}, w.failed(err)
	}
	plan.Remove = next.Removing
	return plan, nil
}

// Publish uploads a base, reads it back and compares every block. Then it makes
// it the channel's current one, and removes surplus versions. Another Publish of
// the same base continues an interrupted one.
//
// A version that exists with other bytes, is older than the current one, or was
// removed, is fault.Invalid. What reads back wrong is fault.Corrupt. If another
// publisher moved the channel meanwhile, the error is ErrConflict: the base is
// there then, and not named.
func Publish(ctx context.Context, s Store, p Publication) (Result, error) {
	w, err := begin(ctx, s, p)
	if err != nil {
		return Result{}, w.failed(err)
	}
	if err := w.bring(ctx); err != nil {
		return Result{}, w.failed(err)
	}
	r := Result{Already: w.isCurrent()}
	next, err := w.next(ctx, false)
	if err != nil {
		return Result{}, w.failed(err)
	}
	if r.Already && len(next.Removing) == 0 {
		r.Channel = w.channel
		if err := w.place.signChannel(ctx, w.channel, w.data); err != nil {
			return Result{}, w.failed(err)
		}
		return r, nil
	}
	if err := w.place.putChannel(ctx, next, w.tag); err != nil {
		return Result{}, w.failed(err)
	}
	r.Channel = next
	r.Removed, err = w.place.remove(ctx, next)
	return r, err
}

// failed returns an error that says what could not be done.
func (w *publisher) failed(err error) error {
	m := w.Manifest
	return fmt.Errorf("publish %s %s %s at %s: %w", m.Flavor, m.Arch, m.Version, w.place.Store, err)
}

// begin looks at what is there and refuses what must not be done.
func begin(ctx context.Context, s Store, p Publication) (*publisher, error) {
	if p.Progress == nil {
		p.Progress = func(string, int64, int64) {}
	}
	m := p.Manifest
	place := Place{Store: s, Flavor: m.Flavor, Arch: m.Arch, Sign: p.Sign, Now: p.Now}
	w := &publisher{Publication: p, place: place, path: base.VersionPath(m.Flavor, m.Arch, m.Version)}
	if p.Keep < 1 || p.Keep > base.MaxKeep {
		return w, fmt.Errorf("keep %d is not between 1 and %d: %w", p.Keep, base.MaxKeep, fault.Invalid)
	}
	var err error
	w.channel, w.data, w.tag, err = place.readChannel(ctx)
	if err != nil && !errors.Is(err, fault.NotFound) {
		return w, err
	}
	if err := place.mustSign(ctx, w.channel, w.data); err != nil {
		return w, err
	}
	if err := w.admit(); err != nil {
		return w, err
	}
	return w, w.look(ctx)
}

// admit compares the version with what the channel says.
func (w *publisher) admit() error {
	if w.channel == nil || w.isCurrent() {
		return nil
	}
	v, now := w.Manifest.Version, w.channel.Current
	switch {
	case v == now.Version:
		return fmt.Errorf("this version is there, with sha256 %s and not %s: give the new base a version of its own: %w", now.SHA256, w.Manifest.SHA256, fault.Invalid)
	case w.channel.IsRemoving(v):
		return fmt.Errorf("this version was removed: give the base a version of its own: %w", fault.Invalid)
	case base.CompareVersions(v, now.Version) < 0:
		return fmt.Errorf("the channel has %s, which is newer: isofs base rollback goes back, and a new base needs a later version: %w", now.Version, fault.Invalid)
	}
	return nil
}

func (w *publisher) isCurrent() bool {
	return w.channel != nil && w.channel.Current == w.Manifest.Entry()
}

// look finds out which files of the version are there.
func (w *publisher) look(ctx context.Context) error {
	there, data, err := readManifest(ctx, w.place, w.path)
	switch {
	case err == nil && there.SHA256 != w.Manifest.SHA256:
		return fmt.Errorf("this version is there, with sha256 %s and not %s: give the new base a version of its own: %w", there.SHA256, w.Manifest.SHA256, fault.Invalid)
	case err == nil:
		w.whole, w.manifest = true, data
	case !errors.Is(err, fault.NotFound):
		return err
	}
	files, err := w.place.List(ctx, w.path)
	if err != nil {
		return err
	}
	_, w.image = files[path.Join(w.path, base.ImageName)]
	return nil
}

// bring makes sure that image and manifest are there, in this order, and both
// right.
func (w *publisher) bring(ctx context.Context) error {
	image := path.Join(w.path, base.ImageName)
	if !w.image {
		sent, total := int64(0), w.Manifest.TotalSize
		err := w.place.Upload(ctx, image, w.Image, total, func(n int64) {
			sent += n
			w.Progress(StepUpload, sent, total)
		})
		if errors.Is(err, ErrConflict) {
			// If it is the same base, it is fine.
			if lookErr := w.look(ctx); lookErr != nil || !w.image {
				return errors.Join(err, lookErr)
			}
		} else if err != nil {
			return err
		}
	}
	if err := w.readBack(ctx, image); err != nil {
		return err
	}
	data, err := w.Manifest.Marshal()
	if err != nil {
		return err
	}
	if w.whole {
		return w.signThere(ctx, data)
	}
	// Before the manifest: a reader that finds the manifest finds its signature.
	if err := w.place.signManifest(ctx, w.Manifest, data); err != nil {
		return err
	}
	name := path.Join(w.path, base.ManifestName)
	if err := w.place.Put(ctx, name, data, ""); err != nil && !errors.Is(err, ErrConflict) {
		return err
	}
	w.manifest, _, err = w.place.Read(ctx, name, base.MaxManifestSize)
	if err == nil && !bytes.Equal(w.manifest, data) {
		// It is another publisher's of the same base, if it is right.
		if err := w.look(ctx); err != nil {
			return err
		}
		return w.signThere(ctx, data)
	}
	if err != nil {
		return err
	}
	return w.signThere(ctx, data)
}

// signThere signs the existing manifest, if it is ours to the byte. Another
// manifest of the same base may say other things about its blocks.
func (w *publisher) signThere(ctx context.Context, ours []byte) error {
	if bytes.Equal(w.manifest, ours) {
		return w.place.signManifest(ctx, w.Manifest, ours)
	}
	return w.place.checkSigned(ctx, w.path, w.manifest)
}

// next returns the channel that names the base, and the surplus versions by
// then.
func (w *publisher) next(ctx context.Context, soon bool) (*base.Channel, error) {
	n := base.NewChannel(w.Manifest, w.place.now())
	if w.channel != nil {
		n = w.channel.Next(w.place.now())
		n.Move(w.Manifest.Entry())
	}
	there, err := w.place.removable(ctx, n)
	if err != nil {
		return nil, err
	}
	if soon && !w.whole {
		there = append(there, w.Manifest.Version)
	}
	n.Keep(w.Keep, there)
	return n, nil
}

package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"
	"time"

	"aesthetic.computer/isofs/base"
	"aesthetic.computer/isofs/fault"
)

// A Place is where the bases of one flavor and architecture are published, and
// how their channel is written.
type Place struct {
	Store
	Flavor, Arch string
	Sign         Signer           // nil: nothing is signed
	Now          func() time.Time // nil: time.Now
}

func (p Place) now() time.Time {
	if p.Now == nil {
		return time.Now()
	}
	return p.Now()
}

// A Version is one at the place, whether a channel names it or not.
type Version struct {
	Name  string
	Size  int64 // of base.iso; 0 if that is not there
	Whole bool  // it has its manifest, which is written last
}

// Channels returns the flavors and architectures that have a channel.
func Channels(ctx context.Context, s Store) ([]*base.Channel, error) {
	files, err := s.List(ctx, base.ChannelDir())
	if err != nil {
		return nil, err
	}
	var all []*base.Channel
	for _, name := range slices.Sorted(maps.Keys(files)) {
		_, flavor, arch, err := base.SplitChannelPath(name)
		if err != nil {
			continue // a signature, or something else
		}
		c, _, _, err := Place{Store: s, Flavor: flavor, Arch: arch}.readChannel(ctx)
		if err != nil {
			return nil, err
		}
		all = append(all, c)
	}
	return all, nil
}

// Versions lists the versions at the place, the newest first.
func (p Place) Versions(ctx context.Context) ([]Version, error) {
	folder := base.KindPath(p.Flavor, p.Arch)
	files, err := p.List(ctx, folder)
	if err != nil {
		return nil, err
	}
	found := map[string]Version{}
	for name, size := range files {
		version, file, _ := strings.Cut(strings.TrimPrefix(name, folder+"/"), "/")
		if base.CheckVersion(version) != nil {
			continue
		}
		v := found[version]
		v.Name = version
		switch file {
		case base.ImageName:
			v.Size = size
		case base.ManifestName:
			v.Whole = true
		}
		found[version] = v
	}
	return slices.SortedFunc(maps.Values(found), func(a, b Version) int { return base.CompareVersions(b.Name, a.Name) }), nil
}

// Rollback makes another version the channel's current one: the previous one, if
// version is "". With a signer the new channel is signed, and the version must
// already be.
func (p Place) Rollback(ctx context.Context, version string) (*base.Channel, error) {
	c, data, tag, err := p.readChannel(ctx)
	if err != nil {
		return nil, err
	}
	if err := p.mustSign(ctx, c, data); err != nil {
		return nil, err
	}
	if version == "" {
		if len(c.Previous) == 0 {
			return nil, fmt.Errorf("the channel has no version before %s: name one: %w", c.Current.Version, fault.Invalid)
		}
		version = c.Previous[0].Version
	}
	if version == c.Current.Version {
		return c, nil
	}
	if c.IsRemoving(version) {
		return nil, fmt.Errorf("version %s was removed: %w", version, fault.NotFound)
	}
	folder := base.VersionPath(p.Flavor, p.Arch, version)
	m, text, err := readManifest(ctx, p, folder)
	if err != nil {
		return nil, err
	}
	if m.Version != version || m.Flavor != p.Flavor || m.Arch != p.Arch {
		return nil, fmt.Errorf("the manifest in %s is of %s: %w", folder, m.Entry().Path, fault.Corrupt)
	}
	if err := p.checkSigned(ctx, folder, text); err != nil {
		return nil, err
	}
	next := c.Next(p.now())
	next.Move(m.Entry())
	return next, p.putChannel(ctx, next, tag)
}

// Prune shortens the channel to keep versions. Then it removes the versions that
// the channel does not name and that are not among the keep newest. A dry run
// only returns what would be removed.
func (p Place) Prune(ctx context.Context, keep int, dry bool) (removed []string, err error) {
	if keep < 1 || keep > base.MaxKeep {
		return nil, fmt.Errorf("keep %d is not between 1 and %d: %w", keep, base.MaxKeep, fault.Invalid)
	}
	c, data, tag, err := p.readChannel(ctx)
	if err != nil {
		return nil, err
	}
	if err := p.mustSign(ctx, c, data); err != nil {
		return nil, err
	}
	there, err := p.removable(ctx, c)
	if err != nil {
		return nil, err
	}
	next := c.Next(p.now())
	next.Keep(keep, there)
	if dry || len(next.Removing) == 0 && len(next.Previous) == len(c.Previous) {
		return next.Removing, nil
	}
	if err := p.putChannel(ctx, next, tag); err != nil {
		return nil, err
	}
	return p.remove(ctx, next)
}

// removable returns the versions that are whole, and those whose removal began. A
// version that is not whole may belong to a publisher at work.
func (p Place) removable(ctx context.Context, c *base.Channel) ([]string, error) {
	all, err := p.Versions(ctx)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, v := range all {
		if v.Whole || c.IsRemoving(v.Name) {
			names = append(names, v.Name)
		}
	}
	return names, nil
}

// remove deletes the versions that the written channel lists for removal.
func (p Place) remove(ctx context.Context, c *base.Channel) (removed []string, err error) {
	for _, version := range c.Removing {
		// Without its manifest it is not a version any more.
		if err := p.Remove(ctx, base.VersionPath(c.Flavor, c.Arch, version), base.ManifestName); err != nil {
			return removed, fmt.Errorf("remove version %s: %w: isofs base prune finishes it", version, err)
		}
		removed = append(removed, version)
	}
	return removed, nil
}

// readChannel returns the channel, its bytes, and their tag.
func (p Place) readChannel(ctx context.Context) (c *base.Channel, data []byte, tag string, err error) {
	name := base.ChannelPath(p.Flavor, p.Arch)
	data, tag, err = p.Read(ctx, name, base.MaxChannelSize)
	if err != nil {
		return nil, nil, "", err
	}
	c, err = base.ParseChannel(data)
	if err != nil {
		return nil, nil, "", fmt.Errorf("%s: %w", name, err)
	}
	if c.Flavor != p.Flavor || c.Arch != p.Arch {
		return nil, nil, "", fmt.Errorf("%s is of %s and %s: %w", name, c.Flavor, c.Arch, fault.Corrupt)
	}
	return c, data, tag, nil
}

// putChannel writes the channel over the one that had the tag, and reads it
// again: that is then ours, or another publisher's.
func (p Place) putChannel(ctx context.Context, c *base.Channel, tag string) error {
	data, err := c.Marshal()
	if err != nil {
		return err
	}
	if err := p.signChannel(ctx, c, data); err != nil {
		return err
	}
	if p.Sign != nil {
		defer forgetSignatures(ctx, p, c)
	}
	name := base.ChannelPath(c.Flavor, c.Arch)
	// The answer to a successful request may have been lost, and the next one
	// refused. Therefore the check is made also after a conflict.
	err = p.Put(ctx, name, data, tag)
	if err != nil && !errors.Is(err, ErrConflict) {
		return err
	}
	now, _, readErr := p.Read(ctx, name, base.MaxChannelSize)
	if readErr != nil {
		return errors.Join(err, readErr)
	}
	if bytes.Equal(now, data) {
		return nil
	}
	has := "something else"
	if other, parseErr := base.ParseChannel(now); parseErr == nil {
		if err == nil && other.Revision > c.Revision {
			return nil // it was written, and another publisher has written since
		}
		has = fmt.Sprintf("version %s (revision %d)", other.Current.Version, other.Revision)
	}
	return fmt.Errorf("the channel was changed meanwhile and has %s now; look at it, then do this again: %w", has, conflict(name))
}

// readManifest returns a manifest and its bytes.
func readManifest(ctx context.Context, s Store, folder string) (*base.Manifest, []byte, error) {
	name := path.Join(folder, base.ManifestName)
	data, _, err := s.Read(ctx, name, base.MaxManifestSize)
	if err != nil {
		return nil, nil, err
	}
	m, err := base.Parse(data)
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w", name, err)
	}
	return m, data, nil
}

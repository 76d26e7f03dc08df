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

// A Version is one that is there, whether a channel names it or not.
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
		c, err := readChannel(ctx, s, flavor, arch)
		if err != nil {
			return nil, err
		}
		all = append(all, c)
	}
	return all, nil
}

// Versions lists those of a flavor and architecture, the newest first.
func Versions(ctx context.Context, s Store, flavor, arch string) ([]Version, error) {
	folder := base.KindPath(flavor, arch)
	files, err := s.List(ctx, folder)
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

// Rollback makes another version the channel's current one: the previous one,
// if version is "". With a signer the new channel is signed, and the version
// must be.
func Rollback(ctx context.Context, s Store, flavor, arch, version string, sign Signer, now time.Time) (*base.Channel, error) {
	c, data, tag, err := readChannelData(ctx, s, flavor, arch)
	if err != nil {
		return nil, err
	}
	if err := mustSign(ctx, s, sign, c, data); err != nil {
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
	folder := base.VersionPath(flavor, arch, version)
	m, text, err := readManifest(ctx, s, folder)
	if err != nil {
		return nil, err
	}
	if m.Version != version || m.Flavor != flavor || m.Arch != arch {
		return nil, fmt.Errorf("the manifest in %s is of %s: %w", folder, m.Entry().Path, fault.Corrupt)
	}
	if err := checkSigned(ctx, s, sign, folder, text); err != nil {
		return nil, err
	}
	next := c.Next(now)
	next.Move(m.Entry())
	return next, putChannel(ctx, s, sign, next, tag)
}

// Prune removes what is not among the keep newest versions, nor named by the
// channel, which is shortened to keep versions first.
func Prune(ctx context.Context, s Store, flavor, arch string, keep int, sign Signer, now time.Time, dry bool) (removed []string, err error) {
	if keep < 1 || keep > base.MaxKeep {
		return nil, fmt.Errorf("keep %d is not between 1 and %d: %w", keep, base.MaxKeep, fault.Invalid)
	}
	c, data, tag, err := readChannelData(ctx, s, flavor, arch)
	if err != nil {
		return nil, err
	}
	if err := mustSign(ctx, s, sign, c, data); err != nil {
		return nil, err
	}
	there, err := removable(ctx, s, c)
	if err != nil {
		return nil, err
	}
	next := c.Next(now)
	next.Keep(keep, there)
	if dry || len(next.Removing) == 0 && len(next.Previous) == len(c.Previous) {
		return next.Removing, nil
	}
	if err := putChannel(ctx, s, sign, next, tag); err != nil {
		return nil, err
	}
	return remove(ctx, s, next)
}

// removable are the versions that are whole, and those that somebody began to
// remove. One that is not whole may be somebody's who publishes it now.
func removable(ctx context.Context, s Store, c *base.Channel) ([]string, error) {
	all, err := Versions(ctx, s, c.Flavor, c.Arch)
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

// remove deletes what the channel, as it was written, says is to be removed.
func remove(ctx context.Context, s Store, c *base.Channel) (removed []string, err error) {
	for _, version := range c.Removing {
		// Without its manifest it is no version any more.
		if err := s.Remove(ctx, base.VersionPath(c.Flavor, c.Arch, version), base.ManifestName); err != nil {
			return removed, fmt.Errorf("remove version %s: %w: isofs base prune goes on with it", version, err)
		}
		removed = append(removed, version)
	}
	return removed, nil
}

func readChannel(ctx context.Context, s Store, flavor, arch string) (*base.Channel, error) {
	c, _, _, err := readChannelData(ctx, s, flavor, arch)
	return c, err
}

// readChannelData returns a channel, the bytes that it was read of, and their tag.
func readChannelData(ctx context.Context, s Store, flavor, arch string) (*base.Channel, []byte, string, error) {
	name := base.ChannelPath(flavor, arch)
	data, tag, err := s.Read(ctx, name, base.MaxChannelSize)
	if err != nil {
		return nil, nil, "", err
	}
	c, err := base.ParseChannel(data)
	if err != nil {
		return nil, nil, "", fmt.Errorf("%s: %w", name, err)
	}
	if c.Flavor != flavor || c.Arch != arch {
		return nil, nil, "", fmt.Errorf("%s is of %s and %s: %w", name, c.Flavor, c.Arch, fault.Corrupt)
	}
	return c, data, tag, nil
}

// putChannel writes the channel over the one that had the tag, and reads it
// again: what is there then is what was written, or somebody else's.
func putChannel(ctx context.Context, s Store, sign Signer, c *base.Channel, tag string) error {
	data, err := c.Marshal()
	if err != nil {
		return err
	}
	if err := signChannel(ctx, s, sign, c, data); err != nil {
		return err
	}
	if sign != nil {
		defer forgetSignatures(ctx, s, c)
	}
	name := base.ChannelPath(c.Flavor, c.Arch)
	// The answer to a request that was done may have been lost, and the next one
	// refused: therefore it is looked at also after a conflict.
	err = s.Put(ctx, name, data, tag)
	if err != nil && !errors.Is(err, ErrConflict) {
		return err
	}
	now, _, readErr := s.Read(ctx, name, base.MaxChannelSize)
	if readErr != nil {
		return errors.Join(err, readErr)
	}
	if bytes.Equal(now, data) {
		return nil
	}
	has := "something else"
	if other, parseErr := base.ParseChannel(now); parseErr == nil {
		if err == nil && other.Revision > c.Revision {
			return nil // it was written, and somebody has gone on from it since
		}
		has = fmt.Sprintf("version %s (revision %d)", other.Current.Version, other.Revision)
	}
	return fmt.Errorf("the channel was changed meanwhile and has %s now; look at it, then do this again: %w", has, conflict(name))
}

// readManifest returns a manifest, and the bytes that it was read of.
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

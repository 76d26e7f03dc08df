package base

import (
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"aesthetic.computer/isofs/fault"
)

// Limits of a channel.
const (
	MaxChannelSize = 256 << 10
	maxPrevious    = 100
	maxRemoving    = 1000
)

// DefaultKeep is how many versions a channel keeps unless --keep says
// otherwise.
const DefaultKeep = 3

// MaxKeep is the most versions that a channel can keep.
const MaxKeep = maxPrevious + 1

// An Entry is a version that a channel names.
type Entry struct {
	Version string `json:"version"`
	SHA256  Hash   `json:"sha256"` // of base.iso
	Path    string `json:"path"`   // of its folder, below the root; VersionPath
}

// A Channel names the present base of a flavor and architecture, and the ones
// before it. Each write raises the revision. So no two channels are alike, and
// the later one can be recognized.
type Channel struct {
	Flavor    string  `json:"flavor"`
	Arch      string  `json:"arch"`
	Revision  int64   `json:"revision"`
	UpdatedAt string  `json:"updatedAt"` // RFC 3339, UTC
	Current   Entry   `json:"current"`
	Previous  []Entry `json:"previous"` // the last one first
	// Removing are versions that a prune deletes, or deleted. The channel must
	// not name them again, whether their files still exist or not.
	Removing []string `json:"removing,omitempty"`
}

var channelFields = folded("flavor", "arch", "revision", "updatedAt", "current", "previous", "removing")

// ParseChannel reads and validates a channel. It is as strict as Parse, and its
// errors have the same kinds.
func ParseChannel(data []byte) (*Channel, error) {
	if len(data) > MaxChannelSize {
		return nil, fmt.Errorf("parse a channel: %d bytes, at most %d are allowed: %w", len(data), MaxChannelSize, fault.Invalid)
	}
	if err := checkShape(data, channelFields); err != nil {
		return nil, fmt.Errorf("parse a channel: %w", err)
	}
	var c Channel
	if err := json.Unmarshal(data, &c); err != nil {
		return nil, fmt.Errorf("parse a channel: %w", classify(err, fault.Corrupt))
	}
	if err := c.Validate(); err != nil {
		return nil, fmt.Errorf("parse a channel: %w", err)
	}
	return &c, nil
}

// Marshal writes the channel as indented JSON ending in a newline. It refuses a
// channel that Validate refuses.
func (c *Channel) Marshal() ([]byte, error) {
	if err := c.Validate(); err != nil {
		return nil, fmt.Errorf("write a channel: %w", err)
	}
	data, err := json.MarshalIndent(c, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("write a channel: %w: %w", fault.Invalid, err)
	}
	return append(data, '\n'), nil
}

// Validate checks the channel against itself, as Manifest.Validate does.
func (c *Channel) Validate() error {
	if err := checkKind(c.Flavor, c.Arch); err != nil {
		return err
	}
	if c.Revision < 1 {
		return fmt.Errorf("revision %d is not 1 or more: %w", c.Revision, fault.Invalid)
	}
	if _, err := time.Parse(time.RFC3339, c.UpdatedAt); err != nil || c.UpdatedAt[len(c.UpdatedAt)-1] != 'Z' {
		return fmt.Errorf("updatedAt %.40q is not an RFC 3339 time in UTC: %w", c.UpdatedAt, fault.Invalid)
	}
	if len(c.Previous) > maxPrevious || len(c.Removing) > maxRemoving {
		return fmt.Errorf("previous has %d entries and removing %d, at most %d and %d are allowed: %w",
			len(c.Previous), len(c.Removing), maxPrevious, maxRemoving, fault.Invalid)
	}
	seen := map[string]bool{}
	for _, e := range c.entries() {
		if err := c.validateEntry(e); err != nil {
			return err
		}
		if seen[e.Version] {
			return fmt.Errorf("version %s is there twice: %w", e.Version, fault.Corrupt)
		}
		seen[e.Version] = true
	}
	for _, v := range c.Removing {
		if err := CheckVersion(v); err != nil {
			return fmt.Errorf("removing: %w", err)
		}
		if seen[v] {
			return fmt.Errorf("version %s is named and being removed: %w", v, fault.Corrupt)
		}
	}
	return nil
}

func (c *Channel) validateEntry(e Entry) error {
	if err := CheckVersion(e.Version); err != nil {
		return err
	}
	if e.SHA256 == (Hash{}) {
		return fmt.Errorf("sha256 of version %s is missing: %w", e.Version, fault.Invalid)
	}
	if want := VersionPath(c.Flavor, c.Arch, e.Version); e.Path != want {
		return fmt.Errorf("path %.80q of version %s is not %s: %w", e.Path, e.Version, want, fault.Corrupt)
	}
	return nil
}

// entries are the current one and the previous ones.
func (c *Channel) entries() []Entry { return append([]Entry{c.Current}, c.Previous...) }

// Names reports whether the channel names a version.
func (c *Channel) Names(version string) bool {
	return slices.ContainsFunc(c.entries(), func(e Entry) bool { return e.Version == version })
}

// Entry is a channel's entry for the manifest's base.
func (m *Manifest) Entry() Entry {
	return Entry{m.Version, m.SHA256, VersionPath(m.Flavor, m.Arch, m.Version)}
}

// NewChannel returns the first revision of a channel.
func NewChannel(m *Manifest, at time.Time) *Channel {
	return (&Channel{Flavor: m.Flavor, Arch: m.Arch, Current: m.Entry()}).Next(at)
}

// Next returns a copy with the following revision, for the caller to change.
func (c *Channel) Next(at time.Time) *Channel {
	n := *c
	n.Revision++
	n.UpdatedAt = at.UTC().Truncate(time.Second).Format(time.RFC3339)
	n.Previous = append([]Entry{}, c.Previous...)
	n.Removing = slices.Clone(c.Removing)
	return &n
}

// Move makes another version the current one. If it is a previous one, the
// versions after it are no longer named: going back twice goes back two
// versions. Otherwise the present one becomes the latest previous one.
func (c *Channel) Move(to Entry) {
	was := slices.IndexFunc(c.Previous, func(e Entry) bool { return e.Version == to.Version })
	switch {
	case to.Version == c.Current.Version:
	case was >= 0:
		c.Previous = c.Previous[was+1:]
	default:
		c.Previous = append([]Entry{c.Current}, c.Previous...)
		c.Previous = c.Previous[:min(len(c.Previous), maxPrevious)]
	}
	c.Current = to
}

// Keep shortens the channel to keep versions. Of the existing versions,
// Removing gets those that are neither named nor among the keep newest, and
// those that it had before. A removed version must not be named again, and its
// files can be deleted.
func (c *Channel) Keep(keep int, there []string) {
	c.Previous = c.Previous[:min(len(c.Previous), max(keep, 1)-1)]
	newest := slices.SortedFunc(slices.Values(there), func(a, b string) int { return CompareVersions(b, a) })
	started := c.Removing
	c.Removing = nil
	for i, v := range newest {
		if !c.Names(v) && (slices.Contains(started, v) || i >= keep) && len(c.Removing) < maxRemoving {
			c.Removing = append(c.Removing, v)
		}
	}
}

// IsRemoving reports whether a version was, or is being, removed.
func (c *Channel) IsRemoving(version string) bool { return slices.Contains(c.Removing, version) }

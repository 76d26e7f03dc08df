package catalog

import (
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/hashicorp/golang-lru/v2/simplelru"
	"golang.org/x/sync/singleflight"

	"aesthetic.computer/isofs/base"
	"aesthetic.computer/isofs/fault"
	"aesthetic.computer/isofs/image"
)

// A SidecarMaker makes one kind of small file beside the images.
type SidecarMaker struct {
	// Suffix is that of its name: "zsync" for notepat-os.iso.zsync.
	Suffix string
	// Has reports whether the images of a base can have one; nil: all can.
	Has func(m *base.Manifest) bool
	// Make returns the sidecar of an image that is open meanwhile. It reads
	// nothing of the base (invariant 4), may be called by many at once, and
	// gives the same bytes for the same snapshot.
	Make func(s *Snapshot, img *image.Image) ([]byte, error)
	// MakeForSlot does the same for what is in the slot as a file of its own
	// (PieceImage); nil if that has no sidecar of this kind.
	MakeForSlot func(s *Snapshot, img *image.Image) ([]byte, error)
	// Early makers are those of signatures: theirs are made with the snapshot,
	// in StageSignature, so that there is no image that cannot be signed.
	Early bool
}

// sha256Suffix is that of the sidecar which every image has.
const sha256Suffix = "sha256"

// keptSidecars is how many bytes of sidecars are kept in memory: each is asked
// for at least twice, when its name is looked up and when it is opened.
const keptSidecars = 16 << 20

// Suffixes lists the sidecars that the image has, in alphabetical order.
// The caller must not change the list.
func (s *Snapshot) Suffixes() []string { return s.suffixes }

// Listed lists those that were made with the image, or cost nothing.
func (s *Snapshot) Listed() []string {
	return slices.DeleteFunc(slices.Clone(s.suffixes), func(suffix string) bool {
		return suffix != sha256Suffix && !s.catalog.sidecars.makers[suffix].Early
	})
}

// Sidecar returns the small file FileName()+"."+suffix; fault.NotFound if there
// is none of that kind. The caller must not change it.
func (s *Snapshot) Sidecar(suffix string) ([]byte, error) {
	if suffix == sha256Suffix {
		// The form of sha256sum(1), text mode.
		return fmt.Appendf(nil, "%s  %s\n", s.record.SHA256, s.FileName()), nil
	}
	if !slices.Contains(s.suffixes, suffix) {
		return nil, fmt.Errorf("%s has no sidecar .%s: %w", s.FileName(), suffix, fault.NotFound)
	}
	return s.makeSidecar(s.FileName()+"."+suffix, s.catalog.sidecars.makers[suffix].Make)
}

// sidecarKey is under what a file of a snapshot is kept.
func sidecarKey(id, name string) string { return id + "/" + name }

// makeSidecar returns the file of that name, which is kept, or made by maker.
func (s *Snapshot) makeSidecar(name string, maker func(*Snapshot, *image.Image) ([]byte, error)) ([]byte, error) {
	return s.catalog.sidecars.get(sidecarKey(s.record.ID, name), func() ([]byte, error) {
		h, err := s.Open()
		if err != nil {
			return nil, err
		}
		defer h.Close()
		content, err := maker(s, h.img.image)
		if err != nil {
			return nil, fmt.Errorf("make %s of snapshot %s: %w", name, s.record.ID, err)
		}
		return content, nil
	})
}

// Signs reports whether a signature is made with each image.
func (c *Catalog) Signs() bool { return c.sidecars.signs() }

// sidecars makes sidecars and keeps the ones that were asked for last.
type sidecars struct {
	makers   map[string]SidecarMaker
	suffixes []string // of images
	ofSlots  []string

	making singleflight.Group // by key and forgotten

	mu        sync.Mutex // guards all below
	kept      *simplelru.LRU[string, []byte]
	size      int
	forgotten int // how often some were forgotten: what was begun before is not kept
}

func newSidecars(makers []SidecarMaker) (*sidecars, error) {
	s := &sidecars{makers: map[string]SidecarMaker{}, suffixes: []string{sha256Suffix}, ofSlots: []string{sha256Suffix}}
	for _, m := range makers {
		if m.Suffix == "" || m.Make == nil || slices.Contains(s.suffixes, m.Suffix) {
			return nil, fmt.Errorf("open the catalog: the sidecar %q is there twice, or lacks its name or its maker: %w", m.Suffix, fault.Invalid)
		}
		s.makers[m.Suffix] = m
		s.suffixes = append(s.suffixes, m.Suffix)
		if m.MakeForSlot != nil {
			s.ofSlots = append(s.ofSlots, m.Suffix)
		}
	}
	slices.Sort(s.suffixes)
	slices.Sort(s.ofSlots)
	// The bound is in bytes, so that of the number is out of reach.
	kept, err := simplelru.NewLRU(keptSidecars, func(_ string, content []byte) { s.size -= len(content) })
	if err != nil {
		return nil, fmt.Errorf("open the catalog: %w: %w", fault.Invalid, err)
	}
	s.kept = kept
	return s, nil
}

// signs reports whether some are made with the snapshot.
func (s *sidecars) signs() bool {
	for _, m := range s.makers {
		if m.Early {
			return true
		}
	}
	return false
}

// sign makes those of a new snapshot.
func (s *sidecars) sign(snap *Snapshot, img *image.Image) error {
	for suffix, m := range s.makers {
		if !m.Early {
			continue
		}
		_, err := s.get(sidecarKey(snap.record.ID, snap.FileName()+"."+suffix), func() ([]byte, error) { return m.Make(snap, img) })
		if err != nil {
			return fmt.Errorf("make %s.%s of snapshot %s: %w", snap.FileName(), suffix, snap.record.ID, err)
		}
	}
	return nil
}

// of lists the suffixes of the sidecars that images of a base have.
func (s *sidecars) of(b *base.Manifest) []string {
	return slices.DeleteFunc(slices.Clone(s.suffixes), func(suffix string) bool {
		has := s.makers[suffix].Has
		return has != nil && !has(b)
	})
}

// ForgetSidecars has the sidecars of a suffix made once more when they are asked
// for next, as when the keys that sign have changed.
func (c *Catalog) ForgetSidecars(suffix string) {
	s := c.sidecars
	s.mu.Lock()
	defer s.mu.Unlock()
	s.forgotten++
	for _, key := range s.kept.Keys() {
		if strings.HasSuffix(key, "."+suffix) {
			s.kept.Remove(key)
		}
	}
}

// get returns what is kept under key, or else what makes it and keeps that. All
// who want the same one meanwhile wait for it.
func (s *sidecars) get(key string, makes func() ([]byte, error)) ([]byte, error) {
	s.mu.Lock()
	content, ok := s.kept.Get(key)
	forgotten := s.forgotten
	s.mu.Unlock()
	if ok {
		return content, nil
	}
	made, err, _ := s.making.Do(fmt.Sprint(forgotten, " ", key), func() (any, error) {
		content, err := makes()
		if err == nil {
			s.keep(key, content, forgotten)
		}
		return content, err
	})
	content, _ = made.([]byte)
	return content, err
}

// keep puts aside what was made when sidecars had been forgotten so often.
func (s *sidecars) keep(key string, content []byte, forgotten int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(content) > keptSidecars || forgotten != s.forgotten {
		return
	}
	s.kept.Remove(key) // of another who made it a moment before
	s.kept.Add(key, content)
	s.size += len(content)
	for s.size > keptSidecars {
		s.kept.RemoveOldest()
	}
}

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
	// Suffix ends the file's name: "zsync" for notepat-os.iso.zsync.
	Suffix string
	// Has reports whether the images of a base can have one; nil: all can.
	Has func(m *base.Manifest) bool
	// Make returns the sidecar of an image that stays open during the call. It
	// reads nothing of the base (invariant 4), may be called concurrently, and
	// gives the same bytes for the same snapshot.
	Make func(s *Snapshot, img *image.Image) ([]byte, error)
	// MakeForSlot does the same for the slot's file (PieceImage). nil: that
	// file has no sidecar of this kind.
	MakeForSlot func(s *Snapshot, img *image.Image) ([]byte, error)
	// Early is true for signatures. They are made with the snapshot, in
	// StageSignature, so that no image lacks its signature.
	Early bool
}

// sha256Suffix is the suffix of the sidecar that every image has.
const sha256Suffix = "sha256"

// keptSidecars is the number of bytes of sidecars in memory. Each is used at
// least twice: a lookup of its name, and an open.
const keptSidecars = 16 << 20

// Suffixes lists the sidecars of the image, in alphabetical order. The caller
// must not change the list.
func (s *Snapshot) Suffixes() []string { return s.suffixes }

// Listed lists the sidecars that were made with the image, or cost nothing.
func (s *Snapshot) Listed() []string {
	return slices.DeleteFunc(slices.Clone(s.suffixes), func(suffix string) bool {
		return suffix != sha256Suffix && !s.catalog.sidecars.makers[suffix].Early
	})
}

// Sidecar returns the small file FileName()+"."+suffix, or fault.NotFound if
// the image has no such sidecar. The caller must not change the bytes.
func (s *Snapshot) Sidecar(suffix string) ([]byte, error) {
	if suffix == sha256Suffix {
		// The format of sha256sum(1), text mode.
		return fmt.Appendf(nil, "%s  %s\n", s.record.SHA256, s.FileName()), nil
	}
	if !slices.Contains(s.suffixes, suffix) {
		return nil, fmt.Errorf("%s has no sidecar .%s: %w", s.FileName(), suffix, fault.NotFound)
	}
	return s.makeSidecar(s.FileName()+"."+suffix, s.catalog.sidecars.makers[suffix].Make)
}

// sidecarKey is the key of a snapshot's file in memory.
func sidecarKey(id, name string) string { return id + "/" + name }

// makeSidecar returns the file of that name from memory, or makes it.
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

// Signs reports whether each image gets a signature.
func (c *Catalog) Signs() bool { return c.sidecars.signs() }

// sidecars makes sidecars and keeps those of the latest requests.
type sidecars struct {
	makers   map[string]SidecarMaker
	suffixes []string // of images
	ofSlots  []string

	making singleflight.Group // by key and forgotten

	mu        sync.Mutex // guards all below
	kept      *simplelru.LRU[string, []byte]
	size      int
	forgotten int // how often some were forgotten; a result from before that is not kept
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
	// The bound is in bytes, so the number must never reach its own.
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

// sign makes the signatures of a new snapshot.
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

// of lists the suffixes of the sidecars for images of a base.
func (s *sidecars) of(b *base.Manifest) []string {
	return slices.DeleteFunc(slices.Clone(s.suffixes), func(suffix string) bool {
		has := s.makers[suffix].Has
		return has != nil && !has(b)
	})
}

// ForgetSidecars makes the next request for a sidecar of this suffix make it
// again, as when the signing keys have changed.
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

// get returns the content in memory under key, or calls makes and keeps the
// result. Concurrent callers for the same key wait for one call.
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

// keep keeps content, unless sidecars were forgotten since it was begun.
func (s *sidecars) keep(key string, content []byte, forgotten int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(content) > keptSidecars || forgotten != s.forgotten {
		return
	}
	s.kept.Remove(key) // another call may have added it just before
	s.kept.Add(key, content)
	s.size += len(content)
	for s.size > keptSidecars {
		s.kept.RemoveOldest()
	}
}

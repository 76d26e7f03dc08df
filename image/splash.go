package image

import (
	"fmt"

	"aesthetic.computer/isofs/base"
	"aesthetic.computer/isofs/ext4gen"
	"aesthetic.computer/isofs/extent"
	"aesthetic.computer/isofs/fault"
)

// PictureFile is the name of a splash's picture beside piece.html.
const PictureFile = "splash.png"

// A Splash is what a machine shows until the piece appears, in the form of
// piece.json. The zero Splash means the base's own. The order of the fields is
// part of the layout.
type Splash struct {
	// The colours of the background's top and bottom and of the moving dots:
	// "#rrggbb". Either all three are set or none.
	Top    string `json:"top,omitempty"`
	Bottom string `json:"bottom,omitempty"`
	Dots   string `json:"dots,omitempty"`
	// Picture is the SHA-256 of PictureFile and PictureSize its length in
	// bytes. Both are zero without a picture.
	Picture     base.Hash `json:"picture,omitzero"`
	PictureSize int64     `json:"pictureSize,omitempty"`
}

// HasPicture reports whether there is a picture.
func (s Splash) HasPicture() bool { return s.PictureSize != 0 }

// Fitting returns the splash that fits an image on m beside the bundle. Without
// room it has no picture. Only the sizes count, so the result is the same
// everywhere.
func (s Splash) Fitting(m *base.Manifest, bundleSize int64) Splash {
	blocks := func(n int64) int64 { return (n + ext4gen.BlockSize - 1) / ext4gen.BlockSize * ext4gen.BlockSize }
	if s.HasPicture() && blocks(bundleSize)+blocks(s.PictureSize) > MaxBundle(m) {
		s.Picture, s.PictureSize = base.Hash{}, 0
	}
	return s
}

// check compares the number and size of the pictures with s.
func (s Splash) check(picture []extent.Source) error {
	want := 0
	if s.HasPicture() {
		want = 1
	}
	if len(picture) != want {
		return fmt.Errorf("there are %d pictures where %d should be: %w", len(picture), want, fault.Invalid)
	}
	if want == 1 && picture[0].Size() != s.PictureSize {
		return fmt.Errorf("the picture has %d bytes, not %d: %w", picture[0].Size(), s.PictureSize, fault.Corrupt)
	}
	return nil
}

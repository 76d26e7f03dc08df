package bake

import (
	"bytes"
	"image"
	"image/color"
	"image/png"
	"math"
)

// splashDot draws the dot of the boot splash, of which the theme in
// kiosk/root makes a wave: a disc with a soft edge that is brighter at its top.
// Drawn and not kept, as it is smaller so.
func splashDot() ([]byte, error) {
	const size, radius = 24, 10.5
	img := image.NewNRGBA(image.Rect(0, 0, size, size))
	for y := range size {
		for x := range size {
			dx, dy := float64(x)-(size-1)/2.0, float64(y)-(size-1)/2.0
			cover := min(max(radius-math.Hypot(dx, dy), 0), 1)
			img.SetNRGBA(x, y, color.NRGBA{R: 255, G: uint8(170 - 4*y), B: uint8(220 - 2*y), A: uint8(math.Round(255 * cover))})
		}
	}
	var out bytes.Buffer
	err := png.Encode(&out, img)
	return out.Bytes(), err
}

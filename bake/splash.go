package bake

import (
	"bytes"
	"image"
	"image/color"
	"image/png"
	"math"
)

const dotSize = 24

// dotCover is how much of a pixel the dot covers.
func dotCover(x, y int) float64 {
	const radius = 10.5
	dx, dy := float64(x)-(dotSize-1)/2.0, float64(y)-(dotSize-1)/2.0
	return min(max(radius-math.Hypot(dx, dy), 0), 1)
}

// splashDot draws the dot of the boot splash: a disc with a soft edge, brighter
// at its top. The theme in kiosk/root makes a wave of dots. The code that draws
// it is smaller than the picture.
func splashDot() ([]byte, error) {
	img := image.NewNRGBA(image.Rect(0, 0, dotSize, dotSize))
	for y := range dotSize {
		for x := range dotSize {
			img.SetNRGBA(x, y, color.NRGBA{R: 255, G: uint8(170 - 4*y), B: uint8(220 - 2*y), A: uint8(math.Round(255 * dotCover(x, y)))})
		}
	}
	var out bytes.Buffer
	err := png.Encode(&out, img)
	return out.Bytes(), err
}

// splashDotTemplate is the dot for a piece with its own colours: a PNG without
// its palette, which /usr/lib/isofs/splash writes between the two parts. Its 16
// colours differ only in their opacity, which is in the second part.
func splashDotTemplate() (head, tail []byte, err error) {
	palette := make(color.Palette, 16)
	for i := range palette {
		palette[i] = color.NRGBA{A: uint8(17 * i)}
	}
	img := image.NewPaletted(image.Rect(0, 0, dotSize, dotSize), palette)
	for y := range dotSize {
		for x := range dotSize {
			img.SetColorIndex(x, y, uint8(math.Round(15*dotCover(x, y))))
		}
	}
	var out bytes.Buffer
	if err := png.Encode(&out, img); err != nil {
		return nil, nil, err
	}
	const headLength, paletteLength = 8 + 12 + 13, 12 + 16*3 // the signature and IHDR; PLTE
	return out.Bytes()[:headLength], out.Bytes()[headLength+paletteLength:], nil
}

package boottest

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"image"
	"image/color"
	"image/png"
	"io"

	"aesthetic.computer/isofs/output"
)

// A screen is a picture of the machine's screen: three bytes a pixel.
type screen struct {
	width, height int
	pixels        []byte
}

// maxPixels bounds the size of a picture: 8K.
const maxPixels = 8192 * 4320

// parsePPM reads QEMU's format: "P6", width, height, 255, pixels.
func parsePPM(data []byte) (*screen, error) {
	var s screen
	var depth int
	r := bufio.NewReader(bytes.NewReader(data))
	if _, err := fmt.Fscanf(r, "P6\n%d %d\n%d\n", &s.width, &s.height, &depth); err != nil || depth != 255 {
		return nil, fmt.Errorf("a screenshot that is not a PPM of 8 bits (%v)", err)
	}
	if s.width <= 0 || s.height <= 0 || s.width > maxPixels/s.height {
		return nil, fmt.Errorf("a screenshot of %d x %d pixels", s.width, s.height)
	}
	s.pixels = make([]byte, 3*s.width*s.height)
	if _, err := io.ReadFull(r, s.pixels); err != nil {
		return nil, fmt.Errorf("a screenshot of %d x %d pixels is cut off: %w", s.width, s.height, err)
	}
	return &s, nil
}

// tolerance is the greatest difference in each part of a color: scaling and
// color management change the last bits.
const tolerance = 8

// fraction returns how much of the screen has a color.
func (s *screen) fraction(c color.RGBA) float64 {
	return s.count(func(r, g, b byte) bool {
		return near(r, c.R) && near(g, c.G) && near(b, c.B)
	})
}

// lit returns how much of the screen is not black.
func (s *screen) lit() float64 {
	return s.count(func(r, g, b byte) bool { return !near(r, 0) || !near(g, 0) || !near(b, 0) })
}

func (s *screen) count(is func(r, g, b byte) bool) float64 {
	n := 0
	for p := s.pixels; len(p) >= 3; p = p[3:] {
		if is(p[0], p[1], p[2]) {
			n++
		}
	}
	return float64(n) / float64(s.width*s.height)
}

func near(a, b byte) bool { return max(a, b)-min(a, b) <= tolerance }

// text reports whether the screen has the size of the PC's text modes. BIOS,
// its boot loader and a kernel without a driver write in these.
func (s *screen) text() bool { return s.height == 400 && (s.width == 720 || s.width == 640) }

// middle is the screen without its edges.
func (s *screen) middle() *screen {
	m := &screen{width: s.width / 2, height: s.height / 2}
	for y := s.height / 4; y < s.height/4+m.height; y++ {
		at := 3 * (y*s.width + s.width/4)
		m.pixels = append(m.pixels, s.pixels[at:at+3*m.width]...)
	}
	return m
}

// shows reports whether there is a picture other than the firmware's, whose
// last screen is given. Text of the loader and the firmware does not count: it
// is only a few lines at the top.
func (s *screen) shows(firmware *screen) bool {
	if s.text() || s.lit() < splashLit {
		return false
	}
	if firmware == nil {
		return true
	}
	logo := firmware.middle()
	return logo.lit() == 0 || !s.middle().equal(logo)
}

// splashLit is the least share of a splash that is not black. The one line of
// GRUB before the kernel starts is a tenth of it.
const splashLit = 0.005

func (s *screen) equal(o *screen) bool {
	return o != nil && s.width == o.width && s.height == o.height && bytes.Equal(s.pixels, o.pixels)
}

// savePNG writes the screen to a file.
func (s *screen) savePNG(path string) error {
	img := image.NewNRGBA(image.Rect(0, 0, s.width, s.height))
	for i := range s.width * s.height {
		copy(img.Pix[4*i:], s.pixels[3*i:][:3])
		img.Pix[4*i+3] = 255
	}
	var data bytes.Buffer
	if err := png.Encode(&data, img); err != nil {
		return err
	}
	return output.WriteFile(context.Background(), path, data.Bytes())
}

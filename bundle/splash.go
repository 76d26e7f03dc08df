package bundle

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
)

// The names of a splash in the head of a bundle.
const (
	themeColor  = "theme-color"
	splashMeta  = "isofs-splash"
	splashLink  = "isofs-splash"
	pngData     = "data:image/png;base64,"
	splashInDir = ".splash.png" // in place of ".html", in a directory
)

// splashRegion is the length of a bundle's beginning that is searched. A
// picture's tag begins in the first titleRegion bytes, and ends within this
// region.
const splashRegion = titleRegion + maxPicture*4/3 + 4<<10

// A Splash is what a booted machine shows until the piece is on the screen.
// With the zero Splash, the base shows its own.
type Splash struct {
	// The colours of the background's top and bottom and of the moving dots,
	// "#rrggbb". Either all three are set or none.
	Top, Bottom, Dots string
	// Picture is the SHA-256 of a PNG file and PictureSize its length in bytes,
	// or 0 without one.
	Picture     [32]byte
	PictureSize int64
}

// A finding is the splash in a bundle and in the file beside it.
type finding struct {
	splash Splash
	png    string
	notes  []string // the parts left out, and why
}

func (f *finding) note(what string, err error) {
	f.notes = append(f.notes, fmt.Sprintf("%s left out: %v", what, err))
}

// colors sets the colours in text, unless they are set already.
func (f *finding) colors(what, text string) {
	if text == "" || f.splash.Top != "" {
		return
	}
	top, bottom, dots, err := readColors(text)
	if err != nil {
		f.note(what, err)
		return
	}
	f.splash.Top, f.splash.Bottom, f.splash.Dots = top, bottom, dots
}

// picture replaces the picture.
func (f *finding) picture(what string, data []byte) {
	p, err := readPicture(data)
	if err != nil {
		f.note(what, err)
		return
	}
	f.png, f.splash.Picture, f.splash.PictureSize = string(p.data), p.sum, int64(len(p.data))
}

// findSplash looks for a splash in the head of a bundle. A bad part is left out
// and noted.
func findSplash(head []byte) (f finding) {
	var theme, colors, picture string // the first of each
	whole := tags(head, titleRegion, func(name string, attribute map[string]string) {
		first := func(have *string, value string) {
			if *have == "" {
				*have = value
			}
		}
		switch {
		case name == "meta" && is(attribute["name"], themeColor) && attribute["media"] == "":
			first(&theme, attribute["content"])
		case name == "meta" && is(attribute["name"], splashMeta):
			first(&colors, attribute["content"])
		case name == "link" && is(attribute["rel"], splashLink):
			first(&picture, attribute["href"])
		}
	})
	if !whole {
		f.note("a <meta> or <link>", fmt.Errorf("it does not end in the first %d bytes", len(head)))
	}
	f.colors(splashMeta, colors)
	f.colors(themeColor, theme)
	if picture != "" {
		if data, err := dataURL(picture); err != nil {
			f.note("picture", err)
		} else {
			f.picture("picture", data)
		}
	}
	return f
}

func is(value, name string) bool { return strings.EqualFold(strings.TrimSpace(value), name) }

// dataURL returns the bytes of the data: URL of a PNG. They may be slightly
// more than a picture's limit.
func dataURL(url string) ([]byte, error) {
	if len(url) < len(pngData) || !strings.EqualFold(url[:len(pngData)], pngData) {
		return nil, errors.New("it is no " + pngData + "…")
	}
	url = strings.TrimRight(url[len(pngData):], " \t\r\n\f=")
	if len(url) > maxPicture*4/3+2 {
		return nil, errPictureSize
	}
	data, err := base64.RawStdEncoding.DecodeString(url) // which skips line breaks
	if err != nil {
		return nil, err
	}
	return bytes.Clone(data), nil
}

// take copies the finding into the Info.
func (i *Info) take(f finding) {
	i.Splash, i.PNG, i.Note = f.splash, f.png, strings.Join(f.notes, "; ")
}

package image_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"maps"
	"testing"

	"aesthetic.computer/isofs/base"
	"aesthetic.computer/isofs/ext4gen"
	"aesthetic.computer/isofs/extent"
	"aesthetic.computer/isofs/fault"
	"aesthetic.computer/isofs/image"
	"aesthetic.computer/isofs/integration/testkit"
)

// The image of TestGolden with a splash, at LayoutVersion 1.
const (
	goldenSplashID     = "3df73f3790383f4079daf4d69fd4078d"
	goldenSplashSHA256 = "1d566351c304a555863e36e690e9666ffd50a2ba614943c60a4dd18a66ff2fbd"
)

func splash(picture []byte) image.Splash {
	return image.Splash{Top: "#12071f", Bottom: "#090311", Dots: "#cfcdd2", Picture: sha256.Sum256(picture), PictureSize: int64(len(picture))}
}

func TestSplash(t *testing.T) {
	b, data, picture := smallBase(t, 1), page(100_000), page(5000)
	in := inputs(data)
	in.Splash = splash(picture)
	img, err := image.Compose(b, in, extent.Bytes(data), extent.Bytes(picture))
	if err != nil {
		t.Fatal(err)
	}
	if got := image.ID(b.Manifest, in); got != goldenSplashID {
		t.Errorf("id %s, want %s", got, goldenSplashID)
	}
	if sum, err := img.SHA256(); err != nil || sum.String() != goldenSplashSHA256 {
		t.Errorf("SHA-256 %s (%v), want %s", sum, err, goldenSplashSHA256)
	}
	wantClean(t, img.Volume)
	volume := save(t, img.Volume)
	if got := debugfs(t, volume, "cat /piece.html"); !bytes.Equal(got, data) {
		t.Error("piece.html is not the bundle")
	}
	if got := debugfs(t, volume, "cat /splash.png"); !bytes.Equal(got, picture) {
		t.Error("splash.png is not the picture")
	}
	var about struct{ Splash map[string]any }
	if err := json.Unmarshal(debugfs(t, volume, "cat /piece.json"), &about); err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(picture)
	want := map[string]any{
		"top": "#12071f", "bottom": "#090311", "dots": "#cfcdd2",
		"picture": hex.EncodeToString(sum[:]), "pictureSize": 5000.0,
	}
	if !maps.Equal(about.Splash, want) {
		t.Errorf("piece.json has %v, want %v", about.Splash, want)
	}
}

func TestEveryColorChangesTheID(t *testing.T) {
	b, data := smallBase(t, 1), page(100)
	seen := map[string]string{image.ID(b.Manifest, inputs(data)): "none"}
	for what, change := range map[string]func(*image.Splash){
		"nothing":      func(*image.Splash) {},
		"top":          func(s *image.Splash) { s.Top = "#12071e" },
		"bottom":       func(s *image.Splash) { s.Bottom = "#12071e" },
		"dots":         func(s *image.Splash) { s.Dots = "#12071e" },
		"picture":      func(s *image.Splash) { s.Picture[0]++ },
		"size":         func(s *image.Splash) { s.PictureSize++ },
		"no picture":   func(s *image.Splash) { s.Picture, s.PictureSize = base.Hash{}, 0 },
		"only picture": func(s *image.Splash) { s.Top, s.Bottom, s.Dots = "", "", "" },
	} {
		in := inputs(data)
		in.Splash = splash(page(50))
		change(&in.Splash)
		id := image.ID(b.Manifest, in)
		if before, twice := seen[id]; twice {
			t.Errorf("the id with another %s is that with another %s", what, before)
		}
		seen[id] = what
	}
}

// A picture that does not fit is left out. The colours and the piece stay.
func TestSplashFits(t *testing.T) {
	b := smallBase(t, 1)
	s := splash(page(5000)) // two blocks
	room := image.MaxBundle(b.Manifest)
	for size, fits := range map[int64]bool{0: true, room - 2*ext4gen.BlockSize: true, room - 2*ext4gen.BlockSize + 1: false, room: false} {
		in := inputs(nil)
		in.BundleSize, in.Splash = size, s.Fitting(b.Manifest, size)
		var picture []extent.Source
		if in.Splash.HasPicture() {
			picture = append(picture, testkit.Zeroes(in.Splash.PictureSize))
		}
		if in.Splash.HasPicture() != fits || in.Splash.Top != s.Top {
			t.Errorf("a bundle of %d bytes: %+v", size, in.Splash)
		}
		if _, err := image.Compose(b, in, testkit.Zeroes(size), picture...); err != nil {
			t.Errorf("a bundle of %d bytes: %v", size, err)
		}
		if _, err := image.Compose(b, image.Inputs{Piece: "x", BundleSize: size, Splash: s}, testkit.Zeroes(size), testkit.Zeroes(5000)); (err == nil) != fits {
			t.Errorf("a bundle of %d bytes, picture and all: %v", size, err)
		}
	}
}

func TestSplashRefused(t *testing.T) {
	b, data := smallBase(t, 1), page(100)
	in := inputs(data)
	compose := func(s image.Splash, picture ...extent.Source) error {
		in.Splash = s
		_, err := image.Compose(b, in, extent.Bytes(data), picture...)
		return err
	}
	if err := compose(splash(page(50))); !errors.Is(err, fault.Invalid) {
		t.Errorf("no picture: %v", err)
	}
	if err := compose(image.Splash{}, testkit.Zeroes(50)); !errors.Is(err, fault.Invalid) {
		t.Errorf("a picture that is not named: %v", err)
	}
	if err := compose(splash(page(50)), testkit.Zeroes(51)); !errors.Is(err, fault.Corrupt) {
		t.Errorf("a picture of another size: %v", err)
	}
}

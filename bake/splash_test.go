package bake

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"image"
	"image/color"
	"image/png"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"aesthetic.computer/isofs/base"
	isofsimage "aesthetic.computer/isofs/image"
)

// A splashed is the result of the script that checks the splash of a slot.
type splashed struct {
	commands, serial string // to plymouth; on the serial port
	css              string
	dot              []byte
	picture          []byte
}

// kioskSplash runs that script with a plymouth that notes its arguments.
func kioskSplash(t *testing.T, slot map[string]string) (s splashed) {
	t.Helper()
	root, _ := layOut(t)
	dir := t.TempDir()
	piece, bin, run := filepath.Join(dir, "piece"), filepath.Join(dir, "bin"), filepath.Join(dir, "run")
	for _, d := range []string{piece, bin} {
		if err := os.Mkdir(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for name, text := range slot {
		if err := os.WriteFile(filepath.Join(piece, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	plymouth := "#!/bin/sh\nprintf '%s|' \"$@\" >>" + dir + "/told\nexit 1\n" // as if plymouth had ended
	if err := os.WriteFile(filepath.Join(bin, "plymouth"), []byte(plymouth), 0o755); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("sh", filepath.Join(root, "usr/lib/isofs/splash"))
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "ISOFS_PIECE="+piece, "ISOFS_RUN="+run, "ISOFS_SERIAL="+dir+"/serial",
		"ISOFS_SHARE="+filepath.Join(root, "usr/lib/isofs"), "PATH="+bin+":"+os.Getenv("PATH"))
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	read := func(name string) []byte {
		data, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil && !os.IsNotExist(err) {
			t.Fatal(err)
		}
		return data
	}
	s = splashed{
		commands: string(read("told")), serial: string(read("serial")), css: string(read("run/splash/splash.css")),
		dot: read("run/splash/dot.png"), picture: read("run/splash/picture.png"),
	}
	left, _ := filepath.Glob(filepath.Join(dir, "*"))
	for _, path := range left {
		switch filepath.Base(path) {
		case "piece", "bin", "run", "told", "serial":
		default:
			t.Errorf("%s is left", path)
		}
	}
	return s
}

func drawnPNG(t *testing.T, width, height int) string {
	t.Helper()
	var out bytes.Buffer
	if err := png.Encode(&out, image.NewGray(image.Rect(0, 0, width, height))); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

// splashJSON is a piece.json as isofs writes it, with the splash of a picture.
func splashJSON(t *testing.T, s isofsimage.Splash, picture string) string {
	t.Helper()
	if picture != "" {
		s.Picture, s.PictureSize = sha256.Sum256([]byte(picture)), int64(len(picture))
	}
	about, err := json.MarshalIndent(struct {
		Piece  string            `json:"piece"`
		Title  string            `json:"title"`
		Splash isofsimage.Splash `json:"splash,omitzero"`
	}{"notepat", `}"splash": {"top": "#000000"}`, s}, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	return string(about)
}

var ownColors = isofsimage.Splash{Top: "#12071f", Bottom: "#090311", Dots: "#cf80d2"}

func TestKioskSplash(t *testing.T) {
	picture := drawnPNG(t, 1920, 1080)
	sum := fmt.Sprintf("%x", sha256.Sum256([]byte(picture)))
	colored := "update|--status=isofs-splash 12071f 090311 d"
	for name, c := range map[string]struct {
		slot             map[string]string
		commands, serial string
		picture          string
	}{
		"colours":          {map[string]string{"piece.json": splashJSON(t, ownColors, "")}, colored + "-|", "12071f 090311 cf80d2 picture=-", ""},
		"and a picture":    {map[string]string{"piece.json": splashJSON(t, ownColors, picture), "splash.png": picture}, colored + "p|", "12071f 090311 cf80d2 picture=" + sum, picture},
		"only a picture":   {map[string]string{"piece.json": splashJSON(t, isofsimage.Splash{}, picture), "splash.png": picture}, "update|--status=isofs-splash 40176b 1f0a3d -p|", "40176b 1f0a3d - picture=" + sum, picture},
		"no piece.json":    {map[string]string{"splash.png": picture}, "", "", ""},
		"no splash":        {map[string]string{"piece.json": splashJSON(t, isofsimage.Splash{}, ""), "splash.png": picture}, "", "", ""},
		"nothing":          {nil, "", "", ""},
		"another picture":  {map[string]string{"piece.json": splashJSON(t, ownColors, picture), "splash.png": drawnPNG(t, 2, 2)}, colored + "-|", "12071f 090311 cf80d2 picture=-", ""},
		"no such picture":  {map[string]string{"piece.json": splashJSON(t, ownColors, picture)}, colored + "-|", "12071f 090311 cf80d2 picture=-", ""},
		"one colour less":  {map[string]string{"piece.json": splashJSON(t, isofsimage.Splash{Top: "#12071f", Bottom: "#090311"}, "")}, "", "", ""},
		"a shell in it":    {map[string]string{"piece.json": splashJSON(t, isofsimage.Splash{Top: "#$(touch x)", Bottom: "#`touch x`", Dots: "#;touch x"}, "")}, "", "", ""},
		"a sed in it":      {map[string]string{"piece.json": splashJSON(t, isofsimage.Splash{Top: "#12071f/e", Bottom: "#090311", Dots: "#cf80d2"}, "")}, "", "", ""},
		"CSS in it":        {map[string]string{"piece.json": splashJSON(t, isofsimage.Splash{Top: "#12071f}", Bottom: "#090311", Dots: "#cf80d2"}, "")}, "", "", ""},
		"digits no digits": {map[string]string{"piece.json": splashJSON(t, isofsimage.Splash{Top: "#12071G", Bottom: "#09031é", Dots: "#cf80d2"}, "")}, "", "", ""},
		"one line":         {map[string]string{"piece.json": `{"splash":{"top":"#12071f","bottom":"#090311","dots":"#cf80d2"}}`}, colored + "-|", "12071f 090311 cf80d2 picture=-", ""},
		"garbage":          {map[string]string{"piece.json": "\x00\xff{\"splash\":{\x00\"top\":\"\x00\xff\"}}", "splash.png": "\x00"}, "", "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			s := kioskSplash(t, c.slot)
			if c.serial != "" {
				c.serial = "ISOFS-SPLASH " + c.serial + "\r\n"
			}
			if s.commands != c.commands || s.serial != c.serial || string(s.picture) != c.picture {
				t.Errorf("commands %q, output %q, a picture of %d bytes; want %q, %q, %d", s.commands, s.serial, len(s.picture), c.commands, c.serial, len(c.picture))
			}
			if strings.Contains(s.css, "picture.png") != (c.picture != "") || (s.css != "") != (c.commands != "") {
				t.Errorf("the page has:\n%s", s.css)
			}
			if (len(s.dot) > 0) != strings.Contains(c.commands, " d") {
				t.Errorf("a dot of %d bytes", len(s.dot))
			}
		})
	}
}

// Pictures that isofs refuses, written to the slot by another program.
func TestKioskSplashHostile(t *testing.T) {
	header := func(width, height string) string {
		return "\x89PNG\r\n\x1a\n\x00\x00\x00\x0dIHDR" + width + height + "\x08\x06\x00\x00\x00"
	}
	for name, picture := range map[string]string{
		"a bomb":         header("\x7f\xff\xff\xff", "\x7f\xff\xff\xff"),
		"another":        header("\x00\x00\xff\xff", "\x00\x00\xff\xff"),
		"too wide":       header("\x00\x00\x07\x81", "\x00\x00\x00\x01"),
		"too many":       header("\x00\x00\x07\x80", "\x00\x00\x07\x80"),
		"negative":       header("\xff\xff\xff\xff", "\x00\x00\x00\x01"),
		"nothing":        header("\x00\x00\x00\x00", "\x00\x00\x00\x01"),
		"no PNG":         "GIF89a" + strings.Repeat("x", 100),
		"no header":      "\x89PNG\r\n\x1a\n\x00\x00\x00\x0dIDAT\x00\x00\x00\x01\x00\x00\x00\x01",
		"short":          "\x89PNG",
		"too many bytes": drawnPNG(t, 10, 10) + strings.Repeat("x", 256<<10),
	} {
		s := kioskSplash(t, map[string]string{"piece.json": splashJSON(t, ownColors, picture), "splash.png": picture})
		if len(s.picture) > 0 || !strings.HasSuffix(s.commands, "d-|") {
			t.Errorf("%s: commands %q, a picture of %d bytes", name, s.commands, len(s.picture))
		}
	}
	good := drawnPNG(t, 1080, 1920)
	if s := kioskSplash(t, map[string]string{"piece.json": splashJSON(t, ownColors, good), "splash.png": good}); string(s.picture) != good {
		t.Errorf("a good one: commands %q", s.commands)
	}
}

// The dot of the script is a PNG in the piece's colour.
func TestKioskDot(t *testing.T) {
	for _, c := range []color.NRGBA{{0xcf, 0x80, 0xd2, 255}, {0, 0, 0, 255}, {255, 255, 255, 255}, {0x0a, 0xff, 0x01, 255}} {
		s := ownColors
		s.Dots = fmt.Sprintf("#%02x%02x%02x", c.R, c.G, c.B)
		dot, err := png.Decode(bytes.NewReader(kioskSplash(t, map[string]string{"piece.json": splashJSON(t, s, "")}).dot))
		if err != nil {
			t.Fatalf("%v: %v", c, err)
		}
		if got := color.NRGBAModel.Convert(dot.At(12, 12)); got != c {
			t.Errorf("the middle is %v, want %v", got, c)
		}
		if _, _, _, a := dot.At(0, 0).RGBA(); a != 0 {
			t.Error("the dot has corners")
		}
	}
}

// isofs writes the files that the script looks for.
func TestKioskSplashNames(t *testing.T) {
	if isofsimage.PictureFile != "splash.png" {
		t.Errorf("the picture is called %s", isofsimage.PictureFile)
	}
	var members map[string]any
	s := ownColors
	s.Picture, s.PictureSize = base.Hash{1}, 1
	data, err := json.Marshal(s)
	if err == nil {
		err = json.Unmarshal(data, &members)
	}
	if err != nil {
		t.Fatal(err)
	}
	script, err := kioskFiles.ReadFile("kiosk/root/usr/lib/isofs/splash")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"top", "bottom", "dots", "picture"} {
		if _, ok := members[name]; !ok || !strings.Contains(string(script), " "+name+")") {
			t.Errorf("piece.json's or the script's splash has no %s", name)
		}
	}
}

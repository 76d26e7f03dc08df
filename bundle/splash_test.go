package bundle

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"hash/crc32"
	"image"
	"image/color"
	"image/png"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// drawn is a PNG of one colour.
func drawn(t testing.TB, width, height int) []byte {
	t.Helper()
	img := image.NewPaletted(image.Rect(0, 0, width, height), color.Palette{color.NRGBA{R: 200, A: 255}})
	var out bytes.Buffer
	if err := png.Encode(&out, img); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// noisy is a PNG that cannot be compressed.
func noisy(t testing.TB, width, height int) []byte {
	t.Helper()
	img := image.NewNRGBA(image.Rect(0, 0, width, height))
	_, _ = rand.NewChaCha8([32]byte{3}).Read(img.Pix)
	var out bytes.Buffer
	if err := (&png.Encoder{CompressionLevel: png.NoCompression}).Encode(&out, img); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// chunk is a chunk of a PNG.
func chunk(kind, data string) string {
	out := binary.BigEndian.AppendUint32(nil, uint32(len(data)))
	out = append(out, kind+data...)
	return string(binary.BigEndian.AppendUint32(out, crc32.ChecksumIEEE(out[4:])))
}

// claiming is a PNG whose header has that size, without pixels.
func claiming(width, height uint32) string {
	header := binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(nil, width), height)
	return pngSignature + chunk("IHDR", string(header)+"\x08\x06\x00\x00\x00") + chunk("IDAT", "x") + chunk("IEND", "")
}

func linked(data []byte) string {
	return `<link rel="isofs-splash" href="data:image/png;base64,` + base64.StdEncoding.EncodeToString(data) + `">`
}

func TestSplashColors(t *testing.T) {
	for html, want := range map[string][3]string{
		`<meta name="theme-color" content="#12071f">`:                                                                {"#12071f", "#090311", "#cfcdd2"},
		`<META CONTENT='#FFF' NAME=Theme-Color>`:                                                                     {"#ffffff", "#8c8c8c", "#3f3f3f"},
		`<meta name=theme-color content=rebeccapurple />`:                                                            {"#663399", "#381c54", "#e0d6ea"},
		`<meta name="theme-color" content=" Teal ">`:                                                                 {"#008080", "#004646", "#cce5e5"},
		`<meta name="theme-color" content="rgb(1, 2,3)">`:                                                            {"#010203", "#000101", "#cccccc"},
		`<meta name="isofs-splash" content="rgb(0 100% 50%) black #f0f">`:                                            {"#00ff7f", "#000000", "#ff00ff"},
		`<meta name="isofs-splash" content="red blue"><meta name="theme-color" content="lime">`:                      {"#ff0000", "#0000ff", "#ffcccc"},
		`<meta name="theme-color" content="lime"><meta name="isofs-splash" content="no colour">`:                     {"#00ff00", "#008c00", "#003f00"},
		`<meta name="theme-color" media="(prefers-color-scheme: dark)" content="red">`:                               {},
		`<meta name="theme-color" content="red"><meta name="theme-color" content="blue">`:                            {"#ff0000", "#8c0000", "#ffcccc"},
		`<meta name="theme-color" content="&#35;0f0">`:                                                               {"#00ff00", "#008c00", "#003f00"},
		`<!-- <meta name="theme-color" content="red"> --><script>'<meta name="theme-color" content="red">'</script>`: {},
		`<title><meta name="theme-color" content="red"></title>`:                                                     {},
		`<body><meta name="theme-color" content="red">`:                                                              {},
		`<meta name="theme-color" content="red`:                                                                      {},
		`<meta name="theme-color" content="$(reboot)">`:                                                              {},
		"<meta name=theme-color content='#12345`'>":                                                                  {},
		`<meta name="theme-color" content="#+12345">`:                                                                {},
		`<meta name="theme-color" content="rgb(256,0,0)">`:                                                           {},
		`<meta name="theme-color" content="rgb(1,2,3,4)">`:                                                           {},
		`<meta name="isofs-splash" content="red red red red">`:                                                       {},
		`<meta name="isofs-splash" content="">`:                                                                      {},
		strings.Repeat(" ", titleRegion) + `<meta name="theme-color" content="red">`:                                 {},
	} {
		f := findSplash([]byte(html))
		if got := [3]string{f.splash.Top, f.splash.Bottom, f.splash.Dots}; got != want {
			t.Errorf("%.120s: %q, want %q (%q)", strings.TrimSpace(html), got, want, f.notes)
		}
		if f.png != "" || f.splash.PictureSize != 0 {
			t.Errorf("%.120s: there is a picture", html)
		}
	}
	if f := findSplash([]byte(`<meta name="theme-color" content="var(--x)">`)); len(f.notes) != 1 || !strings.Contains(f.notes[0], "theme-color left out") {
		t.Errorf("notes %q", f.notes)
	}
}

func TestSplashPicture(t *testing.T) {
	small, upright := drawn(t, 30, 20), drawn(t, 1080, 1920)
	large := noisy(t, 250, 250) // 250 KB; its tag ends far behind its beginning
	if len(large) < 240<<10 || len(large) > maxPicture {
		t.Fatalf("the test's picture has %d bytes", len(large))
	}
	cut := len(pngSignature) + 25
	chatty := string(small[:cut]) + chunk("tEXt", "Comment\x00$(reboot)") + chunk("iCCP", "x") + string(small[cut:]) + "behind the end"
	for what, c := range map[string]struct {
		html string
		want []byte
		note string
	}{
		"a picture":            {linked(small), small, ""},
		"upright":              {linked(upright), upright, ""},
		"a large one":          {strings.Repeat(" ", titleRegion-10) + linked(large), large, ""},
		"with texts":           {linked([]byte(chatty)), small, ""},
		"the first of two":     {linked(small) + linked(large), small, ""},
		"no padding":           {strings.Replace(linked(small), "=", "", 2), nil, "left out"}, // the "=" after rel
		"too wide":             {linked(drawn(t, 1921, 1)), nil, "1921 x 1 pixels"},
		"too many pixels":      {linked([]byte(claiming(1900, 1100))), nil, "1900 x 1100 pixels"},
		"a bomb":               {linked([]byte(claiming(1<<31-1, 1<<31-1))), nil, "dimension overflow"},
		"another bomb":         {linked([]byte(claiming(60000, 60000))), nil, "60000 x 60000 pixels"},
		"nothing in it":        {linked([]byte(claiming(100, 100))), nil, "left out"},
		"none of its pixels":   {linked([]byte(claiming(0, 0))), nil, "left out"},
		"too many bytes":       {linked(noisy(t, 257, 257)), nil, "more than 262144 bytes"},
		"far too many bytes":   {linked(noisy(t, 300, 300)), nil, "does not end"},
		"cut off":              {linked(small[:len(small)-1]), nil, "cut off"},
		"a bit changed":        {linked(bytes.Replace(small, []byte("IDAT"), []byte("IDAU"), 1)), nil, "left out"},
		"no PNG":               {linked([]byte("GIF89a")), nil, "not a PNG"},
		"no base64":            {`<link rel=isofs-splash href="data:image/png;base64,$(reboot)">`, nil, "left out"},
		"an address":           {`<link rel=isofs-splash href="https://example.com/x.png">`, nil, "data:image/png"},
		"another kind":         {`<link rel=isofs-splash href="data:image/svg+xml;base64,AAAA">`, nil, "data:image/png"},
		"begun too far behind": {strings.Repeat(" ", titleRegion) + linked(small), nil, ""},
	} {
		if what == "no padding" {
			c.html, c.want, c.note = strings.ReplaceAll(linked(small), `=">`, `">`), small, ""
		}
		to := newSink(new(bytes.Buffer), mustName(t, "notepat"), 1<<20)
		if _, err := to.Write([]byte(c.html)); err != nil {
			t.Fatal(err)
		}
		info := to.info(time.Unix(0, 0))
		if info.PNG != string(c.want) || !strings.Contains(info.Note, c.note) || c.note == "" && info.Note != "" {
			t.Errorf("%s: a picture of %d bytes, want %d; note %q, want %q", what, len(info.PNG), len(c.want), info.Note, c.note)
		}
		if c.want != nil && (info.Splash.Picture != sha256.Sum256(c.want) || info.Splash.PictureSize != int64(len(c.want))) {
			t.Errorf("%s: digest or size are not those of the picture", what)
		}
	}
}

// A picture in a directory is beside the bundle. A change of the picture is a
// change of the piece.
func TestDirSplash(t *testing.T) {
	one, two := drawn(t, 40, 30), drawn(t, 50, 30)
	d := dir(t, map[string]string{"notepat.html": linked(two) + page})
	name := mustName(t, "notepat")
	path := filepath.Join(d.path, "notepat.splash.png")
	fetch := func() Info {
		t.Helper()
		info, err := d.Fetch(t.Context(), name, new(bytes.Buffer), 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		if d.Changed(t.Context(), name, info, 0) {
			t.Errorf("changed since just now: %+v", info)
		}
		return info
	}
	step := func(what string, before Info, change func() error, want []byte, note string) Info {
		t.Helper()
		if err := change(); err != nil {
			t.Fatal(err)
		}
		if !d.Changed(t.Context(), name, before, 0) {
			t.Errorf("%s: it counts as unchanged", what)
		}
		info := fetch()
		if info.PNG != string(want) || !strings.Contains(info.Note, note) || info.SHA256 != before.SHA256 {
			t.Errorf("%s: a picture of %d bytes, want %d, note %q", what, len(info.PNG), len(want), info.Note)
		}
		return info
	}
	write := func(data []byte) func() error {
		return func() error { put(t, path, string(data)); return nil }
	}
	info := fetch()
	if info.PNG != string(two) {
		t.Error("the bundle's own picture is not there")
	}
	info = step("laid beside", info, write(one), one, "")
	later := noon().Add(-time.Minute)
	info = step("touched", info, func() error { return os.Chtimes(path, later, later) }, one, "")
	if !info.ModTime.Equal(later.Truncate(time.Second)) {
		t.Errorf("time %v, want that of the picture, %v", info.ModTime, later)
	}
	info = step("no picture", info, write([]byte("no PNG")), two, "notepat.splash.png left out: it is not a PNG")
	info = step("too large", info, write(noisy(t, 300, 300)), two, "larger than it may be")
	info = step("another", info, write(drawn(t, 41, 30)), drawn(t, 41, 30), "")
	step("gone", info, func() error { return os.Remove(path) }, two, "")
	out := filepath.Join(t.TempDir(), "x.png")
	put(t, out, string(one))
	if err := os.Symlink(out, path); err != nil {
		t.Fatal(err)
	}
	if info := fetch(); info.PNG != string(two) {
		t.Error("a link out of the directory is followed")
	}
}

func FuzzSplash(f *testing.F) {
	for _, s := range []string{
		`<meta name="theme-color" content="#12071f">`, `<meta content='rgb(1,2,3) red' name=isofs-splash/>`,
		linked(drawn(f, 3, 2)), `<link rel = isofs-splash href="data:image/png;base64,iVBO" <`, "<meta =a='b\"c' d", "<link", "\u0130<meta name=theme-color content=red>",
	} {
		f.Add([]byte(s))
	}
	color := regexp.MustCompile("^#[0-9a-f]{6}$")
	f.Fuzz(func(t *testing.T, head []byte) {
		found := findSplash(head)
		s := found.splash
		for _, c := range []string{s.Top, s.Bottom, s.Dots} {
			if s.Top == "" && c != "" || s.Top != "" && !color.MatchString(c) {
				t.Fatalf("colours %+v", s)
			}
		}
		if int64(len(found.png)) != s.PictureSize || s.PictureSize > maxPicture || (s.Picture != [32]byte{}) != (found.png != "") {
			t.Fatalf("a picture of %d bytes: %v", len(found.png), s)
		}
		if found.png != "" {
			if again, err := readPicture([]byte(found.png)); err != nil || again.sum != s.Picture {
				t.Fatalf("the picture is none, or another: %v", err)
			}
		}
	})
}

// The example in the documentation works.
func TestSplashInTheDocs(t *testing.T) {
	docs, err := os.ReadFile("../docs/bases.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(docs), "\n### A splash of its own\n")
	_, example, _ := strings.Cut(section, "\n```html\n")
	example, _, ok := strings.Cut(example, "\n```\n")
	if !ok {
		t.Fatal("there is no example")
	}
	f := findSplash([]byte(example))
	if s := f.splash; s.Top != "#003300" || s.Bottom != "#007828" || s.Dots != "#ffd700" || s.PictureSize == 0 || len(f.notes) > 0 {
		t.Errorf("the example gives %+v, %q", s, f.notes)
	}
	for _, limit := range []string{"first 64 KiB", "at most 256 KiB", "1920 pixels a side", "1920x1080 in all"} {
		if !strings.Contains(section, limit) {
			t.Errorf("no %q is spoken of", limit)
		}
	}
}

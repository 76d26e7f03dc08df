package catalog

import (
	"bytes"
	"fmt"
	"image"
	"image/png"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"aesthetic.computer/isofs/bundle"
	isofsimage "aesthetic.computer/isofs/image"
)

// splashRig is a rig whose pieces lie in a directory.
func splashRig(t *testing.T, l Limits) (r *rig, dir string) {
	t.Helper()
	r, dir = newRig(t, l), t.TempDir()
	r.stop()
	source, err := bundle.NewDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	r.config.Source = source
	r.open()
	return r, dir
}

// lay writes a file with an old time, so that a test does not depend on when it
// runs.
func lay(t *testing.T, path, content string) {
	t.Helper()
	write(t, path, content)
	if err := os.Chtimes(path, epoch, epoch); err != nil {
		t.Fatal(err)
	}
}

func drawn(t *testing.T, width int) []byte {
	t.Helper()
	var out bytes.Buffer
	if err := png.Encode(&out, image.NewGray(image.Rect(0, 0, width, 10))); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func (r *rig) wantPictures(n int) {
	r.t.Helper()
	if stored, err := r.disk.pictures.List(); err != nil || len(stored) != n {
		r.t.Errorf("%d pictures on disk (%v), want %d", len(stored), err, n)
	}
}

const red = `<meta name="theme-color" content="red"><title>x</title>`

func TestSplash(t *testing.T) {
	r, dir := splashRig(t, Limits{})
	page, picture := filepath.Join(dir, "notepat.html"), filepath.Join(dir, "notepat.splash.png")
	lay(t, page, red)
	plain := r.current("notepat")
	if s := plain.Splash(); s.Top != "#ff0000" || s.HasPicture() {
		t.Errorf("the splash is %+v", s)
	}
	r.wantPictures(0)
	lay(t, picture, string(drawn(t, 20)))
	s := r.current("notepat")
	if !s.Splash().HasPicture() || s.ID() == plain.ID() || !s.Time().After(plain.Time()) {
		t.Errorf("with a picture: %+v, %s at %v; without: %s at %v", s.Splash(), s.ID(), s.Time(), plain.ID(), plain.Time())
	}
	wantOpen(t, s, string(drawn(t, 20)))
	r.wantPictures(1)
	if again := r.current("notepat"); again != s {
		t.Error("the picture is fetched again and again")
	}
	r.restart()
	after := r.current("notepat")
	if after.ID() != s.ID() || after.Splash() != s.Splash() || after.SHA256() != s.SHA256() {
		t.Errorf("after a restart it is %s with %+v", after.ID(), after.Splash())
	}
	wantOpen(t, after, string(drawn(t, 20)))

	// Another node, which never saw the first. Its time differs, as it has no
	// snapshot before; everything else is alike.
	other, _ := splashRig(t, Limits{})
	other.config.Source = r.config.Source
	other.restart()
	if got := other.current("notepat"); got.Splash() != s.Splash() {
		t.Errorf("another node has %+v", got.Splash())
	}

	if err := os.Remove(picture); err != nil {
		t.Fatal(err)
	}
	if s := r.current("notepat"); s.Splash().HasPicture() {
		t.Error("the picture is lost, and no error says so")
	}
}

// Pictures go with their snapshots, and count towards the limit.
func TestPicturesAreBounded(t *testing.T) {
	r, dir := splashRig(t, Limits{Superseded: 1})
	lay(t, filepath.Join(dir, "notepat.html"), red)
	for i := range 4 {
		lay(t, filepath.Join(dir, "notepat.splash.png"), string(drawn(t, 20<<i)))
		r.current("notepat")
		r.clock.add(justUsed * 2)
	}
	r.Prune()
	r.wantPictures(2)
	r.wantStored(1)
}

// A snapshot whose picture is lost or damaged is forgotten, and the next
// request fetches it again.
func TestPictureLost(t *testing.T) {
	for what, damage := range map[string]func(string) error{
		"lost":    os.Remove,
		"changed": func(path string) error { os.Chmod(path, 0o644); return os.WriteFile(path, drawn(t, 9), 0o644) },
	} {
		r, dir := splashRig(t, Limits{})
		lay(t, filepath.Join(dir, "notepat.html"), red)
		lay(t, filepath.Join(dir, "notepat.splash.png"), string(drawn(t, 20)))
		s := r.current("notepat")
		r.stop()
		if err := damage(filepath.Join(r.config.Dir, "splashes", fmt.Sprintf("%s.png", s.Splash().Picture))); err != nil {
			t.Fatal(err)
		}
		r.open()
		if kept := r.Known(s.Piece()); kept != nil {
			if h, err := kept.Open(); err == nil {
				h.Close()
				t.Errorf("%s: the image opens", what)
			}
		}
		wantOpen(t, r.current("notepat"), string(drawn(t, 20)))
	}
}

// If piece and picture do not fit together, the piece has only its colours.
func TestPictureThatDoesNotFit(t *testing.T) {
	r, dir := splashRig(t, Limits{})
	room := isofsimage.MaxBundle(r.Base())
	html := red + strings.Repeat(" ", int(room)-len(red))
	lay(t, filepath.Join(dir, "notepat.html"), html)
	lay(t, filepath.Join(dir, "notepat.splash.png"), string(drawn(t, 20)))
	s := r.current("notepat")
	if s.Splash().HasPicture() || s.Splash().Top != "#ff0000" {
		t.Errorf("the splash is %+v", s.Splash())
	}
	wantOpen(t, s, red)
	if again := r.current("notepat"); again != s {
		t.Error("it is made again and again")
	}
	r.Prune()
	r.wantPictures(0)
}

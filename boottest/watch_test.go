package boottest

import (
	"context"
	"errors"
	"image/color"
	"image/png"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// A script is a guest that runs given steps at given times.
type script struct {
	serial chan string
	mu     sync.Mutex // of the rest
	shown  *screen
	bios   bool
	fails  error
}

func (s *script) lines() <-chan string { return s.serial }

func (s *script) screenshot() (*screen, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.shown, s.fails
}

func (s *script) handedOver() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.bios
}

// paint makes a screen whose top is of one color and the rest of another.
func paint(width, height int, share float64, top, rest color.RGBA) *screen {
	s := &screen{width: width, height: height}
	for y := range height {
		c := rest
		if float64(y) < share*float64(height) {
			c = top
		}
		for range width {
			s.pixels = append(s.pixels, c.R, c.G, c.B)
		}
	}
	return s
}

var (
	black = color.RGBA{A: 255}
	white = color.RGBA{R: 255, G: 255, B: 255, A: 255}
	pink  = color.RGBA{R: 255, G: 110, B: 199, A: 255}
)

// follow watches a guest that does the steps, a second apart from each other.
func follow(t *testing.T, e Expect, shots string, steps ...func(*script)) (r *Result, reason string, err error) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		g := &script{serial: make(chan string, 9), shown: paint(64, 480, 0, black, black)}
		w := newWatch(e, shots)
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		defer cancel()
		done := make(chan struct{})
		go func() {
			defer close(done)
			// Between two looks at the screen.
			time.Sleep(lookEvery / 2)
			for _, step := range steps {
				g.mu.Lock()
				step(g)
				g.mu.Unlock()
				time.Sleep(lookEvery)
			}
		}()
		reason, err = w.watch(ctx, g)
		r = w.result(reason)
		<-done
	})
	return r, reason, err
}

func says(line string) func(*script) { return func(g *script) { g.serial <- line } }

func shows(s *screen) func(*script) { return func(g *script) { g.shown = s } }

func wait(*script) {}

const starting = "\x1b[2JBdsDxe: starting Boot0001 \"x\" from y\r"

func TestSplashAndPieceAreTimed(t *testing.T) {
	logo := paint(64, 480, 0.6, white, black)
	dir := t.TempDir()
	r, _, err := follow(t, Expect{Piece: "notepat", Color: &pink, Fraction: 0.6}, dir,
		shows(logo), says(starting), wait, // still the firmware's
		shows(paint(64, 480, 0.001, white, black)), // a line of the loader
		shows(paint(64, 480, 0.3, pink, black)),    // the splash, at 5.0
		says(`ISOFS-JSON {"piece":"notepat","x":1}`),
		shows(paint(64, 480, 0.9, pink, white)), // seen at 7.0
	)
	if err != nil || !r.Passed || r.Reason != "" {
		t.Fatalf("%+v, %v", r, err)
	}
	if *r.Times.Handover != 1.5 || r.Times.Splash == nil || *r.Times.Splash != 5 || *r.Times.Piece != 7 {
		t.Errorf("handover %v, splash %v, piece %v", *r.Times.Handover, r.Times.Splash, *r.Times.Piece)
	}
	if *r.Checks[0].Seen != 5.5 || *r.Checks[1].Seen != 7 {
		t.Errorf("piece seen at %v, color at %v", *r.Checks[0].Seen, *r.Checks[1].Seen)
	}
	last := r.Shots[len(r.Shots)-1]
	f, err := os.Open(last.Path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	img, err := png.Decode(f)
	if err != nil || last.Why != "piece" {
		t.Fatalf("%+v: %v", last, err)
	}
	if got := color.RGBAModel.Convert(img.At(5, 5)); got != pink || img.Bounds().Dx() != 64 {
		t.Errorf("the picture has %v, %v", got, img.Bounds())
	}
	if found, _ := filepath.Glob(filepath.Join(dir, "*-splash.png")); len(found) != 1 {
		t.Errorf("pictures of the splash: %v", found)
	}
}

func TestWhatIsNotThePiece(t *testing.T) {
	ok := Expect{Serial: []*regexp.Regexp{regexp.MustCompile("^ISOFS-OK$")}}
	for _, tt := range []struct {
		name  string
		e     Expect
		steps []func(*script)
		want  string // in the reason
	}{
		{"silent", ok, nil, "lacking: serial ^ISOFS-OK$"},
		{"fails", ok, []func(*script){says("x ISOFS-FAIL no partition"), says("ISOFS-OK")}, "the machine says ISOFS-FAIL no partition"},
		{"panics", ok, []func(*script){says("[ 1.0] Kernel panic - not syncing: x")}, "Kernel panic - not syncing"},
		{"ends", ok, []func(*script){func(g *script) { close(g.serial) }}, ended},
		{"other piece", Expect{Piece: "a"}, []func(*script){says(`ISOFS-JSON {"piece":"ab"}`), says(`ISOFS-TITLE a`), says(`ISOFS-JSON {"piece":null}`)}, "lacking: piece a"},
		{"half the color", Expect{Color: &pink, Fraction: 0.6}, []func(*script){shows(paint(64, 480, 0.5, pink, white))}, "lacking: color #ff6ec7 on 0.6"},
		{"one of two", Expect{Serial: ok.Serial, Color: &pink, Fraction: 0.6}, []func(*script){says("ISOFS-OK")}, "lacking: color"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r, reason, err := follow(t, tt.e, "", tt.steps...)
			if err != nil || r.Passed || !strings.Contains(r.Reason, tt.want) {
				t.Errorf("passed %v, reason %q (%s), %v", r.Passed, r.Reason, reason, err)
			}
			if len(r.Shots) > 0 {
				t.Errorf("pictures were kept without a folder: %v", r.Shots)
			}
		})
	}
}

// A boot with an expected failure is watched until all other expectations are
// met.
func TestAnExpectedFailure(t *testing.T) {
	e := Expect{Serial: []*regexp.Regexp{regexp.MustCompile("^ISOFS-FAIL no partition"), regexp.MustCompile("^ISOFS-SHOWN")}}
	r, _, err := follow(t, e, "", says("ISOFS-FAIL no partition"), says("ISOFS-SHOWN up=3"))
	if err != nil || !r.Passed {
		t.Errorf("passed %v, reason %q, %v", r.Passed, r.Reason, err)
	}
	if r, _, err = follow(t, e, "", says("ISOFS-FAIL damaged"), says("ISOFS-SHOWN up=3")); err != nil || r.Passed {
		t.Errorf("another failure: passed %v, %v", r.Passed, err)
	}
}

func TestBIOSTextIsNoSplash(t *testing.T) {
	r, _, err := follow(t, Expect{Serial: []*regexp.Regexp{regexp.MustCompile("never")}}, "",
		func(g *script) { g.bios = true }, shows(paint(720, 400, 1, white, white)))
	if err != nil || r.Times.Handover == nil || r.Times.Splash != nil {
		t.Errorf("%+v, %v", r.Times, err)
	}
}

func TestABrokenMonitorIsAnError(t *testing.T) {
	broken := errors.New("broken")
	if _, _, err := follow(t, Expect{Color: &pink, Fraction: 1}, "", func(g *script) { g.fails = broken }); !errors.Is(err, broken) {
		t.Errorf("got %v", err)
	}
}

func TestFewLinesAreKept(t *testing.T) {
	w := newWatch(Expect{Serial: []*regexp.Regexp{regexp.MustCompile("x")}}, "")
	g := &script{}
	w.line("ISOFS-BOOT a", g)
	for range 3 * maxLines {
		w.line("noise", g)
	}
	w.line("\x1b[1mISOFS-OK\x1b[0m\r", g)
	s := w.seen.Serial
	if len(s) != maxLines+2 || s[0] != "ISOFS-BOOT a" || s[len(s)-1] != "ISOFS-OK" {
		t.Errorf("%d lines, %q to %q", len(s), s[0], s[len(s)-1])
	}
}

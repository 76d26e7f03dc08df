package boottest

import (
	"context"
	"encoding/json"
	"fmt"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"
)

// A guest is the watched machine: QEMU, or a fake in tests.
type guest interface {
	lines() <-chan string         // of the serial port; closed when the machine ends
	screenshot() (*screen, error) // a picture of the screen
	handedOver() bool             // whether BIOS has started the boot loader
}

// How often the screen is checked, and how often at most a changed one is kept.
const (
	lookEvery = time.Second
	keepEvery = 5 * time.Second
	maxKept   = 100
)

// maxLines is how many other lines a result has, beside those that begin with
// ISOFS-.
const maxLines = 40

// Lines that every watch looks for.
var (
	handover = regexp.MustCompile(`BdsDxe: starting Boot`)
	failure  = regexp.MustCompile(`ISOFS-FAIL.*|Kernel panic.*`)
	escapes  = regexp.MustCompile(`\x1b\[[0-9;=?]*[a-zA-Z]`)
)

// ended is the reason when the machine has ended.
const ended = "the machine ended"

// A watch is the state of a watched boot.
type watch struct {
	expect Expect
	shots  string
	start  time.Time
	seen   Result
	checks []check
	before *screen // the firmware's last
	kept   *screen
	keptAt time.Time
}

// A check is one expectation; onLine or onScreen is nil.
type check struct {
	onLine   func(string) bool
	onScreen func(*screen) bool
}

func newWatch(e Expect, shots string) *watch {
	w := &watch{expect: e, shots: shots, start: time.Now()}
	add := func(what string, c check) {
		w.seen.Checks = append(w.seen.Checks, Check{What: what})
		w.checks = append(w.checks, c)
	}
	if e.Piece != "" {
		add("piece "+e.Piece, check{onLine: func(line string) bool { return namesPiece(line, e.Piece) }})
	}
	for _, expected := range e.Serial {
		add("serial "+expected.String(), check{onLine: expected.MatchString})
	}
	if e.Color != nil {
		c := *e.Color
		add(fmt.Sprintf("color #%02x%02x%02x on %g of the screen", c.R, c.G, c.B, e.Fraction),
			check{onScreen: func(s *screen) bool { return s.fraction(c) >= e.Fraction }})
	}
	return w
}

// namesPiece reports whether a line is ISOFS-JSON with that piece.
func namesPiece(line, piece string) bool {
	_, text, ok := strings.Cut(line, "ISOFS-JSON ")
	var about struct{ Piece string }
	return ok && json.Unmarshal([]byte(text), &about) == nil && about.Piece == piece
}

// now is seconds since the start.
func (w *watch) now() *float64 {
	t := float64(time.Since(w.start).Milliseconds()) / 1000
	return &t
}

// watch follows the guest until all expectations are met (""), or cannot be met
// any more, and returns the reason. When ctx ends, the caller has the reason.
func (w *watch) watch(ctx context.Context, g guest) (reason string, err error) {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		select {
		case line, ok := <-g.lines():
			if !ok {
				return ended, nil
			}
			reason = w.line(line, g)
		case <-tick.C:
			err = w.look(g)
		case <-ctx.Done():
			return "", w.last(g, "end")
		}
		if err != nil {
			return "", err
		}
		if w.all() {
			w.seen.Times.Piece = w.now()
			w.seen.Passed = true
			return "", w.last(g, "piece")
		}
		if reason != "" {
			return reason, w.last(g, "end")
		}
	}
}

// all reports whether all expectations are met.
func (w *watch) all() bool {
	for _, c := range w.seen.Checks {
		if c.Seen == nil {
			return false
		}
	}
	return true
}

// line processes a line of the serial port, and returns a reason to stop.
func (w *watch) line(line string, g guest) string {
	line = strings.TrimRight(escapes.ReplaceAllString(line, ""), "\r\n")
	if handover.MatchString(line) {
		w.handOver(g)
	}
	w.keepLine(line)
	for i, c := range w.checks {
		if c.onLine != nil && w.seen.Checks[i].Seen == nil && c.onLine(line) {
			w.seen.Checks[i].Seen = w.now()
		}
	}
	expected := slices.ContainsFunc(w.expect.Serial, func(e *regexp.Regexp) bool { return e.MatchString(line) })
	if message := failure.FindString(line); message != "" && !expected {
		return "the machine says " + message
	}
	return ""
}

// handOver notes that the firmware is done. A logo that is still on the screen
// counts as the firmware's from now on.
func (w *watch) handOver(g guest) {
	if w.seen.Times.Handover != nil {
		return
	}
	w.seen.Times.Handover = w.now()
	if s, err := g.screenshot(); err == nil && s != nil {
		w.before = s
	}
}

// keepLine keeps lines that begin with ISOFS-, and the last of the others.
func (w *watch) keepLine(line string) {
	if i := strings.Index(line, "ISOFS-"); i >= 0 {
		line = line[i:]
	}
	if line == "" {
		return
	}
	kept := append(w.seen.Serial, line)
	others := 0
	for i := len(kept) - 1; i >= 0; i-- {
		if strings.HasPrefix(kept[i], "ISOFS-") {
			continue
		}
		if others++; others > maxLines {
			kept = append(kept[:i], kept[i+1:]...)
		}
	}
	w.seen.Serial = kept
}

// look judges the screen.
func (w *watch) look(g guest) error {
	if g.handedOver() {
		w.handOver(g)
	}
	s, err := g.screenshot()
	if err != nil || s == nil {
		return err
	}
	if w.seen.Times.Handover == nil {
		w.before = s
	} else if w.seen.Times.Splash == nil && s.shows(w.before) {
		w.seen.Times.Splash = w.now()
		if err := w.keep(s, "splash"); err != nil {
			return err
		}
	}
	for i, c := range w.checks {
		if c.onScreen != nil && w.seen.Checks[i].Seen == nil && c.onScreen(s) {
			w.seen.Checks[i].Seen = w.now()
		}
	}
	if s.equal(w.kept) || time.Since(w.keptAt) < keepEvery {
		return nil
	}
	return w.keep(s, "change")
}

// last keeps the final screen.
func (w *watch) last(g guest, why string) error {
	if s, err := g.screenshot(); err == nil && s != nil {
		return w.keep(s, why)
	}
	return nil // the result is complete without a picture
}

// keep writes a picture into the folder.
func (w *watch) keep(s *screen, why string) error {
	w.kept, w.keptAt = s, time.Now()
	if w.shots == "" || len(w.seen.Shots) >= maxKept && why == "change" {
		return nil
	}
	at := *w.now()
	path := filepath.Join(w.shots, fmt.Sprintf("%07.2f-%s.png", at, why))
	if err := s.savePNG(path); err != nil {
		return fmt.Errorf("keep a picture of the screen: %w", err)
	}
	w.seen.Shots = append(w.seen.Shots, Shot{Path: path, Why: why, At: at})
	return nil
}

// result is the state so far, with the reason for a failure.
func (w *watch) result(reason string) *Result {
	r := w.seen
	r.Times.End = *w.now()
	if r.Passed {
		return &r
	}
	var lacking []string
	for _, c := range r.Checks {
		if c.Seen == nil {
			lacking = append(lacking, c.What)
		}
	}
	r.Reason = fmt.Sprintf("%s; lacking: %s", reason, strings.Join(lacking, ", "))
	return &r
}

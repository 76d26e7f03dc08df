package bundle

import (
	"bytes"
	"io"
	"regexp"
	"testing"
	"time"

	"aesthetic.computer/isofs/fault"
	"aesthetic.computer/isofs/piece"
)

func TestEmbedded(t *testing.T) {
	e := Embedded()
	names, err := e.Names(t.Context())
	if err != nil || len(names) < 4 {
		t.Fatalf("names %v, %v", names, err)
	}
	// Text that would make a piece use the network, or need its directory.
	reaches := regexp.MustCompile(`(?i)(https?:)?//[a-z0-9-]+\.[a-z]|<link rel="icon" href="[^d]|<link rel="[^i]|\bsrc\s*=|\bimport\b|@import|fetch\(|XMLHttpRequest|WebSocket|url\(`)
	for _, name := range names {
		var body bytes.Buffer
		info, err := e.Fetch(t.Context(), name, &body, 40<<10)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if info.Title == name.String() || info.Title == "" || info.Size != int64(body.Len()) ||
			!info.ModTime.Equal(time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)) {
			t.Errorf("%s: %+v", name, info)
		}
		if found := reaches.Find(body.Bytes()); found != nil {
			t.Errorf("%s is not self-contained: %q", name, found)
		}
		if e.Changed(t.Context(), name, info, time.Hour) {
			t.Errorf("%s changed by itself", name)
		}
		info.SHA256[0]++
		if !e.Changed(t.Context(), name, info, 0) {
			t.Errorf("%s of another binary did not change", name)
		}
	}
	if _, err := e.Fetch(t.Context(), mustName(t, "absent"), io.Discard, 1<<20); fault.Kind(err) != fault.NotFound {
		t.Errorf("absent: %v", err)
	}
	if _, err := e.Fetch(t.Context(), names[0], io.Discard, 1); fault.Kind(err) != fault.Invalid {
		t.Errorf("too large: %v", err)
	}
	if _, err := e.Fetch(t.Context(), piece.Name{}, io.Discard, 1); fault.Kind(err) != fault.Invalid {
		t.Errorf("the zero name: %v", err)
	}
}

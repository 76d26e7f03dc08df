package api

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"aesthetic.computer/isofs/catalog"
)

// The signature matches SHA256SUMS. A new one is made only when the sums
// change.
func TestSums(t *testing.T) {
	r := newRig(t, catalog.Limits{})
	if got := r.ask("GET", "/SHA256SUMS"); got.Code != 200 || got.Body.String() != "" {
		t.Errorf("before the first request for a piece: %d %q", got.Code, got.Body)
	}
	signed := 0
	trust := &Trust{
		PublicKeys: []byte("keys"), Directory: map[string][]byte{"a.example/x": []byte("A"), "b.example/y": []byte("B")},
		Sign: func(text []byte, at time.Time) ([]byte, error) {
			signed++
			return fmt.Appendf(nil, "%s at %d", text, at.Unix()), nil
		},
	}
	r.handler = New(Config{Catalog: r.catalog, Log: r.config.Log, Trust: func() *Trust { return trust }})
	s := r.current("notepat", 0)
	want := s.SHA256().String() + "  notepat-os.iso\n"
	if got := r.ask("GET", "/SHA256SUMS"); got.Body.String() != want || got.Header().Get("Cache-Control") != "no-cache" {
		t.Errorf("%q, %v", got.Body, got.Header())
	}
	for range 3 {
		if got := r.ask("GET", "/SHA256SUMS.asc"); got.Body.String() != fmt.Sprintf("%s at %d", want, s.Time().Unix()) || signed != 1 {
			t.Errorf("%q, signed %d times", got.Body, signed)
		}
	}
	for path, want := range map[string]string{
		"/isofs-key.asc": "200 keys", "policy": "200 ", "a.example/policy": "200 ", "c.example/policy": "404",
		"hu/x": "200 A", "hu/y": "200 B", "A.example/hu/x": "200 A", "a.example/hu/y": "404", "hu/z": "404", "hu": "404", "a.example/hu/x/y": "404", "": "404",
	} {
		if !strings.HasPrefix(path, "/") {
			path = directoryPrefix + path
		}
		if got := r.ask("GET", path); !strings.HasPrefix(fmt.Sprintf("%d %s", got.Code, got.Body), want) {
			t.Errorf("%s: %d %q, want %s", path, got.Code, got.Body, want)
		}
	}
}

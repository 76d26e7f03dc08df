package catalog

import (
	"bytes"
	"testing"
)

// Sources gives the right source of each byte: the bundle's are where the
// bundle's text is.
func TestSources(t *testing.T) {
	r := newRig(t, Limits{})
	html := "<p>" + string(bytes.Repeat([]byte("isofs "), 5000)) + "</p>"
	s := r.baked("notepat", html)
	h, err := s.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	data := make([]byte, h.Size())
	if n, err := h.ReadAt(data, 0); n < len(data) {
		t.Fatal(err)
	}
	at := int64(bytes.Index(data, []byte(html)))
	n := int64(len(html))
	for name, c := range map[string]struct{ off, n, base, volume, bundle int64 }{
		"all":               {0, h.Size(), slotStart + tailSize, slotSize - n, n},
		"beyond the end":    {h.Size() - 10, 100, 10, 0, 0},
		"behind it":         {h.Size() + 10, 100, 0, 0, 0},
		"nothing":           {at, 0, 0, 0, 0},
		"the bundle":        {at, n, 0, 0, n},
		"in the bundle":     {at + 5, 10, 0, 0, 10},
		"its beginning":     {at - 5, 10, 0, 5, 5},
		"its end":           {at + n - 5, 10, 0, 5, 5},
		"the slot's start":  {slotStart - 3, 10, 3, 7, 0},
		"the slot's end":    {slotStart + slotSize - 3, 10, 7, 3, 0},
		"the base":          {100, 1000, 1000, 0, 0},
		"what is behind it": {slotStart + slotSize, tailSize, tailSize, 0, 0},
	} {
		if base, volume, bundle := h.Sources(c.off, c.n); base != c.base || volume != c.volume || bundle != c.bundle {
			t.Errorf("%s: %d, %d, %d, want %d, %d, %d", name, base, volume, bundle, c.base, c.volume, c.bundle)
		}
	}
}

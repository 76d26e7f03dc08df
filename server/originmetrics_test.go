package server

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"aesthetic.computer/isofs/origin"
)

// TestOriginFigures: an origin of two bases counts once, addresses have no
// secrets, and their number is bounded.
func TestOriginFigures(t *testing.T) {
	var origins []*origin.Mirrors
	add := func(addresses ...string) *origin.Mirrors {
		m, err := origin.OpenMirrors(origin.MirrorOptions{}, 100, addresses...)
		if err != nil {
			t.Fatal(err)
		}
		origins = append(origins, m)
		return m
	}
	file := filepath.Join(t.TempDir(), "base.iso")
	if err := os.WriteFile(file, make([]byte, 100), 0o600); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		m := add(file, "https://u:secret@h/base.iso?signed=secret")
		// The file has the byte: the other mirror gets no request.
		if err := m.Fetch(t.Context(), make([]byte, 1), 99); err != nil {
			t.Error(err)
		}
	}
	for i := range maxOrigins {
		add(fmt.Sprintf("/nowhere/%d.iso", i))
	}
	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(originCollector{func() []*origin.Mirrors { return origins }})
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	fetches, values := map[string]float64{}, 0
	for _, f := range families {
		for _, m := range f.GetMetric() {
			for _, l := range m.GetLabel() {
				if strings.Contains(l.GetValue(), "secret") {
					t.Errorf("a label has what is secret: %s", l.GetValue())
				}
				if f.GetName() == "isofs_origin_fetches_total" {
					fetches[l.GetValue()] = m.GetCounter().GetValue()
					values++
				}
			}
		}
	}
	if fetches[file] != 2 || values != maxOrigins+1 {
		t.Errorf("%d origins: %v", values, fetches)
	}
	if _, ok := fetches[otherOrigins]; !ok {
		t.Error("what is beyond the bound is not told of")
	}
	if _, ok := fetches["https://h/base.iso"]; !ok {
		t.Errorf("no label without credentials and query: %v", fetches)
	}
	for _, m := range origins {
		if err := m.Close(); err != nil {
			t.Error(err)
		}
	}
}

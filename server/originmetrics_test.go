package server

import (
	"fmt"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"aesthetic.computer/isofs/origin"
)

// TestOriginFigures: an origin of two bases is told of once, addresses are
// without what is secret, and there are not more than so many.
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
	for range 2 {
		m := add("/nowhere/base.iso", "https://u:secret@h/base.iso?signed=secret")
		// The range does not lie in the object: nobody is asked for bytes.
		if err := m.Fetch(t.Context(), make([]byte, 1), 100); err == nil {
			t.Error("bytes from behind the end")
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
	if fetches["/nowhere/base.iso"] != 2 || values != maxOrigins+1 {
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

package main

import (
	"encoding/xml"
	"io"
	"math"
	"strings"
	"testing"
)

func TestMedian(t *testing.T) {
	for _, c := range []struct {
		values []float64
		want   float64
	}{{[]float64{3}, 3}, {[]float64{9, 1, 2}, 2}, {[]float64{4, 1, 2, 9}, 3}} {
		if got := median(c.values); got != c.want {
			t.Errorf("median of %v is %v, want %v", c.values, got, c.want)
		}
	}
}

func TestReportSaysWhatWasMeasured(t *testing.T) {
	r := &results{}
	for _, v := range []float64{100, 300, 200} {
		r.add("8 pieces", "MB/s", "plain, same mode", v)
		r.add("8 pieces", "MB/s", "isofs direct", v*0.95)
	}
	text := r.markdown(options{})
	for _, want := range []string{
		"| isofs direct | 190 [95-285] | 0.95 |", "same mode >= 0.9: 0.95, met", "sendfile >= 1.15: NaN, not measured",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("the report lacks %q:\n%s", want, text)
		}
	}
	d := xml.NewDecoder(strings.NewReader(r.svg("8 pieces", "a < b")))
	for {
		if _, err := d.Token(); err == io.EOF {
			break
		} else if err != nil {
			t.Fatalf("the chart is no XML: %v", err)
		}
	}
}

func TestVerdict(t *testing.T) {
	for _, c := range []struct {
		g    goal
		want string
	}{
		{goal{value: 2, bound: 2}, "met"}, {goal{value: 1.9, bound: 2}, "NOT met"},
		{goal{value: 2, bound: 2, most: true}, "met"}, {goal{value: 2.1, bound: 2, most: true}, "NOT met"},
		{goal{value: math.NaN()}, "not measured"},
	} {
		if got := c.g.verdict(); got != c.want {
			t.Errorf("%+v is %s, want %s", c.g, got, c.want)
		}
	}
}

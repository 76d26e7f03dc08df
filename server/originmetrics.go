package server

import (
	"github.com/prometheus/client_golang/prometheus"

	"aesthetic.computer/isofs/origin"
)

// maxOrigins bounds the values of the label. Further origins share one.
const (
	maxOrigins   = 64
	otherOrigins = "other"
)

// originFigures are the figures of each origin.
var originFigures = []struct {
	desc *prometheus.Desc
	kind prometheus.ValueType
	of   func(origin.MirrorStats) float64
}{
	{originDesc("fetches_total", "Requests to the origin, with those made again after a failure."), prometheus.CounterValue, func(s origin.MirrorStats) float64 { return float64(s.Fetches) }},
	{originDesc("failures_total", "Requests that failed, and reports of wrong bytes."), prometheus.CounterValue, func(s origin.MirrorStats) float64 { return float64(s.Failures) }},
	{originDesc("bytes_total", "Bytes that came, those asked for a second time included."), prometheus.CounterValue, func(s origin.MirrorStats) float64 { return float64(s.Bytes) }},
	{originDesc("set_aside", "1 while others are asked rather than it."), prometheus.GaugeValue, func(s origin.MirrorStats) float64 {
		if s.Aside {
			return 1
		}
		return 0
	}},
}

var (
	hedgesDesc = prometheus.NewDesc("isofs_origin_hedges_total", "Second requests for what was late.", nil, nil)
	wonDesc    = prometheus.NewDesc("isofs_origin_hedges_won_total", "Second requests that were first to end.", nil, nil)
)

func originDesc(name, help string) *prometheus.Desc {
	return prometheus.NewDesc("isofs_origin_"+name, help, []string{"origin"}, nil)
}

// An originCollector collects the figures of the origins of all bases.
type originCollector struct{ origins func() []*origin.Mirrors }

var _ prometheus.Collector = originCollector{}

// Describe implements prometheus.Collector.
func (c originCollector) Describe(out chan<- *prometheus.Desc) {
	for _, f := range originFigures {
		out <- f.desc
	}
	out <- hedgesDesc
	out <- wonDesc
}

// Collect implements prometheus.Collector.
func (c originCollector) Collect(out chan<- prometheus.Metric) {
	each := map[string]origin.MirrorStats{}
	var hedges, won uint64
	for _, m := range c.origins() {
		stats, issued, first := m.Stats()
		hedges, won = hedges+issued, won+first
		for _, s := range stats {
			// One server may have several bases, or several addresses of one.
			name := s.Name
			if _, known := each[name]; !known && len(each) >= maxOrigins {
				name = otherOrigins
			}
			sum := each[name]
			each[name] = origin.MirrorStats{
				Fetches: sum.Fetches + s.Fetches, Failures: sum.Failures + s.Failures, Bytes: sum.Bytes + s.Bytes, Aside: sum.Aside || s.Aside,
			}
		}
	}
	for name, s := range each {
		for _, f := range originFigures {
			out <- prometheus.MustNewConstMetric(f.desc, f.kind, f.of(s), name)
		}
	}
	out <- prometheus.MustNewConstMetric(hedgesDesc, prometheus.CounterValue, float64(hedges))
	out <- prometheus.MustNewConstMetric(wonDesc, prometheus.CounterValue, float64(won))
}

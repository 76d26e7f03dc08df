package server

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"aesthetic.computer/isofs/bundle"
	"aesthetic.computer/isofs/catalog"
	"aesthetic.computer/isofs/fault"
	"aesthetic.computer/isofs/piece"
	"aesthetic.computer/isofs/vfs"
)

// meters are measured as things happen.
type meters struct {
	requests *prometheus.CounterVec   // answers of the API
	fills    *prometheus.HistogramVec // fetches of blocks
	oven     *prometheus.HistogramVec // fetches of bundles
	watchers prometheus.Gauge         // streams of the API
}

var _ prometheus.Collector = (*meters)(nil)

func newMeters() *meters {
	return &meters{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "isofs_api_requests_total", Help: "Answers of the API, by route and class of status.",
		}, []string{"route", "status"}),
		// From a disk nearby to the end of --origin-timeout.
		fills: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "isofs_cache_fill_seconds", Help: "How long requests to origins took.",
			Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60},
		}, []string{"result"}),
		// Packing takes a second or so; --oven-timeout is 90 s at most.
		oven: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "isofs_oven_seconds", Help: "How long the oven took for a piece, and what came of it.",
			Buckets: []float64{.05, .1, .25, .5, 1, 2, 3, 5, 10, 20, 30, 60, 90},
		}, []string{"result"}),
		watchers: prometheus.NewGauge(prometheus.GaugeOpts{Name: "isofs_watchers", Help: "Clients of /os?format=stream."}),
	}
}

// Describe implements prometheus.Collector.
func (m *meters) Describe(out chan<- *prometheus.Desc) {
	m.requests.Describe(out)
	m.fills.Describe(out)
	m.oven.Describe(out)
	m.watchers.Describe(out)
}

// Collect implements prometheus.Collector.
func (m *meters) Collect(out chan<- prometheus.Metric) {
	m.requests.Collect(out)
	m.fills.Collect(out)
	m.oven.Collect(out)
	m.watchers.Collect(out)
}

// answered counts an answer of the API.
func (m *meters) answered(route string, status int) {
	// "GET /{file}" is the route /{file}.
	if _, path, ok := strings.Cut(route, " "); ok {
		route = path
	}
	m.requests.WithLabelValues(route, fmt.Sprintf("%dxx", status/100)).Inc()
}

// watched notes that streams began or ended.
func (m *meters) watched(more int) { m.watchers.Add(float64(more)) }

// fetched notes a fetch of blocks.
func (m *meters) fetched(took time.Duration, failed bool) {
	result := "ok"
	if failed {
		result = "failed"
	}
	m.fills.WithLabelValues(result).Observe(took.Seconds())
}

// A measuredOven measures an oven's answers, with the wait for a turn.
type measuredOven struct {
	*bundle.Oven
	meters *meters
}

// Fetch implements bundle.Source.
func (o measuredOven) Fetch(ctx context.Context, name piece.Name, w io.Writer, limit int64) (bundle.Info, error) {
	started := time.Now()
	info, err := o.Oven.Fetch(ctx, name, w, limit)
	o.meters.oven.WithLabelValues(ovenResult(err)).Observe(time.Since(started).Seconds())
	return info, err
}

func ovenResult(err error) string {
	_, busy := errors.AsType[*bundle.BusyError](err)
	_, late := errors.AsType[*bundle.TimeoutError](err)
	switch {
	case err == nil:
		return "ok"
	case busy:
		return "busy"
	case late:
		return "timeout"
	case errors.Is(err, fault.NotFound):
		return "missing"
	case errors.Is(err, fault.Invalid):
		return "invalid"
	}
	return "failed"
}

// A catalogCollector collects the present numbers of pieces and snapshots.
type catalogCollector struct{ catalog *catalog.Catalog }

var (
	piecesDesc    = prometheus.NewDesc("isofs_pieces", "Pieces that have a snapshot and a source.", nil, nil)
	snapshotsDesc = prometheus.NewDesc("isofs_snapshots", "Snapshots that are kept.", nil, nil)
	buildingDesc  = prometheus.NewDesc("isofs_piece_fetches", "Pieces that are being fetched.", nil, nil)
	forgottenDesc = prometheus.NewDesc("isofs_snapshots_forgotten_total", "Snapshots that are kept no more, by why.", []string{"why"}, nil)
	refusedDesc   = prometheus.NewDesc("isofs_refused_total", "Requests refused by a limit of isofs; those that nginx refuses are in its access log.", []string{"limit"}, nil)
)

// Describe implements prometheus.Collector.
func (c catalogCollector) Describe(out chan<- *prometheus.Desc) {
	out <- piecesDesc
	out <- snapshotsDesc
	out <- buildingDesc
	out <- refusedDesc
	out <- forgottenDesc
}

// Collect implements prometheus.Collector.
func (c catalogCollector) Collect(out chan<- prometheus.Metric) {
	s := c.catalog.Stats()
	for desc, value := range map[*prometheus.Desc]int{piecesDesc: s.Pieces, snapshotsDesc: s.Snapshots, buildingDesc: s.Building} {
		out <- prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, float64(value))
	}
	for limit, n := range map[string]uint64{"new_names_of_client": s.RefusedClient, "new_names_of_all": s.RefusedAll, "fetches": s.RefusedBusy} {
		out <- prometheus.MustNewConstMetric(refusedDesc, prometheus.CounterValue, float64(n), limit)
	}
	for why, n := range s.Forgotten {
		out <- prometheus.MustNewConstMetric(forgottenDesc, prometheus.CounterValue, float64(n), why)
	}
}

// A mountCollector collects what was read from the mount.
type mountCollector struct{ mounted *vfs.Server }

var (
	openDesc = prometheus.NewDesc("isofs_open_images", "Images that are open in the mount.", nil, nil)
	readDesc = prometheus.NewDesc("isofs_read_bytes_total", "Bytes that were read of images, by what they are of and how they were answered.", []string{"source", "how"}, nil)
)

// Describe implements prometheus.Collector.
func (c mountCollector) Describe(out chan<- *prometheus.Desc) {
	out <- openDesc
	out <- readDesc
}

// Collect implements prometheus.Collector.
func (c mountCollector) Collect(out chan<- prometheus.Metric) {
	s := c.mounted.Stats()
	out <- prometheus.MustNewConstMetric(openDesc, prometheus.GaugeValue, float64(s.Open))
	for how, read := range map[string]vfs.ReadBytes{"spliced": s.Spliced, "copied": s.Copied} {
		for source, n := range map[string]uint64{"base": read.Base, "volume": read.Volume, "bundle": read.Bundle} {
			out <- prometheus.MustNewConstMetric(readDesc, prometheus.CounterValue, float64(n), source, how)
		}
	}
}

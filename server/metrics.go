package server

import (
	"log/slog"
	"net"
	"net/http"
	"runtime/debug"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"aesthetic.computer/isofs/cache"
	"aesthetic.computer/isofs/fault"
	"aesthetic.computer/isofs/vfs"
)

// A figure is one number of the cache's Stats as a metric of Prometheus.
type figure struct {
	desc *prometheus.Desc
	kind prometheus.ValueType
	of   func(cache.Stats) float64
}

func counter(name, help string, of func(cache.Stats) uint64) figure {
	return figure{prometheus.NewDesc("isofs_cache_"+name, help, nil, nil), prometheus.CounterValue,
		func(s cache.Stats) float64 { return float64(of(s)) }}
}

func gauge(name, help string, of func(cache.Stats) float64) figure {
	return figure{prometheus.NewDesc("isofs_cache_"+name, help, nil, nil), prometheus.GaugeValue, of}
}

// cacheFigures are the figures of the cache. Bytes and counts are since the start.
var cacheFigures = []figure{
	counter("hits_total", "Blocks that were wanted and present.", func(s cache.Stats) uint64 { return s.Hits }),
	counter("misses_total", "Blocks that were wanted and not present.", func(s cache.Stats) uint64 { return s.Misses }),
	counter("fetches_total", "Requests to origins.", func(s cache.Stats) uint64 { return s.Fetches }),
	counter("fetch_errors_total", "Requests to origins that failed.", func(s cache.Stats) uint64 { return s.FetchErrors }),
	counter("fetched_bytes_total", "Bytes that origins gave.", func(s cache.Stats) uint64 { return s.FetchedBytes }),
	counter("corrupt_fetches_total", "Blocks from origins that did not have their SHA-256.", func(s cache.Stats) uint64 { return s.CorruptFetches }),
	counter("evictions_total", "Blocks that made room for others.", func(s cache.Stats) uint64 { return s.Evictions }),
	counter("corrupt_disk_total", "Blocks on disk that did not have their SHA-256, or could not be read.", func(s cache.Stats) uint64 { return s.CorruptDisk }),
	counter("write_errors_total", "Blocks that the disk did not take.", func(s cache.Stats) uint64 { return s.WriteErrors }),
	counter("uncached_total", "Blocks that were served without being kept.", func(s cache.Stats) uint64 { return s.Uncached }),
	counter("scrubbed_bytes_total", "Bytes that were read again from disk and compared.", func(s cache.Stats) uint64 { return s.ScrubbedBytes }),
	counter("scrub_wrong_total", "Blocks that were wrong then, and are fetched again.", func(s cache.Stats) uint64 { return s.ScrubWrong }),
	counter("delayed_total", "Small reads that waited because what they need did not stay in the cache.", func(s cache.Stats) uint64 { return s.Delayed }),
	gauge("degraded", "1 while the disk takes no blocks, else 0.", func(s cache.Stats) float64 {
		if s.Degraded {
			return 1
		}
		return 0
	}),
	gauge("disk_bytes", "Space in use.", func(s cache.Stats) float64 { return float64(s.DiskBytes) }),
	gauge("inflight_fetches", "Requests to origins under way.", func(s cache.Stats) float64 { return float64(s.Inflight) }),
}

// A cacheCollector collects the present figures of one cache.
type cacheCollector struct{ cache *cache.Cache }

var _ prometheus.Collector = cacheCollector{}

// Describe implements prometheus.Collector.
func (c cacheCollector) Describe(out chan<- *prometheus.Desc) {
	for _, f := range cacheFigures {
		out <- f.desc
	}
}

// Collect implements prometheus.Collector.
func (c cacheCollector) Collect(out chan<- prometheus.Metric) {
	stats := c.cache.Stats()
	for _, f := range cacheFigures {
		out <- prometheus.MustNewConstMetric(f.desc, f.kind, f.of(stats))
	}
}

// startMetrics serves /metrics at its own address, since the metrics are for the
// operator and not for downloaders. If the address is empty it does nothing.
func startMetrics(address string, s *Stack, mounted *vfs.Server, log *slog.Logger) (stop func(), err error) {
	if address == "" {
		return func() {}, nil
	}
	l, err := net.Listen("tcp", address)
	if err != nil {
		return nil, &fault.SettingError{Setting: SettingMetrics, Err: err}
	}
	registry := prometheus.NewRegistry()
	registry.MustRegister(cacheCollector{s.cache}, originCollector{s.bases.Origins}, catalogCollector{s.Catalog}, mountCollector{mounted}, s.meters,
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}), buildInfo())
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{}))
	server := &http.Server{Handler: mux, ReadHeaderTimeout: apiHeaderTime, ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelWarn)}
	log.Info("metrics", "url", "http://"+l.Addr().String()+"/metrics")
	return startHTTP(server, l, "the metrics", log), nil
}

// buildInfo returns a metric that is 1, with the version as a label.
func buildInfo() prometheus.Collector {
	version := "unknown"
	if info, ok := debug.ReadBuildInfo(); ok {
		version = info.Main.Version
	}
	return prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "isofs_build_info", Help: "1, with the version.", ConstLabels: prometheus.Labels{"version": version},
	}, func() float64 { return 1 })
}

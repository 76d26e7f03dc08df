package main

import (
	"fmt"
	"math"
)

// A goal is a bound on a value: at least, or at most.
type goal struct {
	text  string
	value float64
	bound float64
	most  bool
}

func (g goal) verdict() string {
	switch {
	case math.IsNaN(g.value):
		return "not measured"
	case g.most && g.value <= g.bound, !g.most && g.value >= g.bound:
		return "met"
	}
	return "NOT met"
}

func (r *results) goals() []goal {
	const direct, plain, send = "isofs direct", "plain, same mode", "plain, sendfile"
	const far, near, get = "cold 20 ms 25 MB/s", "cold uncapped", "one GET from the origin"
	faster := func(name, other string) float64 { return r.ratio(name, "MB/s", direct, other) }
	cheaper := func(other string) float64 { return r.ratio("1 stream", "CPU s/GB", other, direct) }
	return []goal{
		{"8 pieces, direct by plain in the same mode >= 0.9", faster("8 pieces", plain), 0.9, false},
		{"8 pieces, direct by plain with sendfile >= 1.15", faster("8 pieces", send), 1.15, false},
		{"8 pieces, server CPU s/GB <= 0.40", r.median("8 pieces", "CPU s/GB", direct), 0.40, true},
		{"8 pieces, page cache added <= 50 MB", r.median("8 pieces", "page cache +MB", direct), 50, true},
		{"page-cache profile, second reader of one piece, by plain with sendfile >= 0.95", r.ratio("1 stream", "MB/s", "isofs page-cache", send), 0.95, false},
		{"cold 20 ms 25 MB/s, by the cap of 16 connections >= 0.9", r.median(far, "MB/s", direct) / (16 * 25), 0.9, false},
		{"cold 20 ms, TTFB by the origin's own <= 1.5", r.ratio(far, "longest TTFB ms", direct, get), 1.5, true},
		{"cold uncapped, by one GET from the origin >= 0.9", faster(near, get), 0.9, false},
		{"random 4 KiB, by plain >= 0.5", r.ratio("random 4 KiB", "requests/s", direct, plain), 0.5, false},
		{"memory with 16 streams <= 64 MiB", r.median("16 streams", "RSS MiB", direct), 64, true},
		{"memory while fetching <= 128 MiB", r.median(far, "RSS MiB", direct), 128, true},
		{"memory with 1000 pieces known <= 100 MiB", r.median("1000 pieces known", "RSS MiB", direct), 100, true},
		{"a new image when 1000 are known, time to the first byte by that of the first ten <= 1.5",
			r.median("new image, of the last ten of 1000", "longest TTFB ms", direct) / r.median("new image, of the first ten", "longest TTFB ms", direct), 1.5, true},
		{"bytes changed in the cache on disk that are served <= 0", r.median(fmt.Sprintf("%d bytes changed in the cache on disk", flips), "wrong bytes served", direct), 0, true},
		{"1 stream, by nbdkit + nbdfuse >= 2", faster("1 stream", "nbdkit + nbdfuse"), 2, false},
		{"1 stream, CPU of nbdkit + nbdfuse by isofs's >= 2", cheaper("nbdkit + nbdfuse"), 2, false},
		{"1 stream, by rclone mount >= 4", faster("1 stream", "rclone mount"), 4, false},
		{"1 stream, CPU of rclone mount by isofs's >= 4", cheaper("rclone mount"), 4, false},
		{"1 stream, by Go ServeContent behind nginx >= 1", faster("1 stream", "Go ServeContent behind nginx"), 1, false},
	}
}

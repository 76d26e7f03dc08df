package main

import (
	"fmt"
	"math"
	"os"
	"runtime"
	"slices"
	"strings"
	"time"
)

// A row is one quantity of one system in one case, with a value per round.
type row struct {
	name, unit, peer string
	values           []float64
}

// results are all rows, in the order of their first value.
type results struct{ rows []*row }

func (r *results) find(name, unit, peer string) *row {
	for _, x := range r.rows {
		if x.name == name && x.unit == unit && x.peer == peer {
			return x
		}
	}
	return nil
}

func (r *results) add(name, unit, peer string, value float64) {
	x := r.find(name, unit, peer)
	if x == nil {
		x = &row{name: name, unit: unit, peer: peer}
		r.rows = append(r.rows, x)
	}
	x.values = append(x.values, value)
}

// median is NaN of nothing.
func median(values []float64) float64 {
	if len(values) == 0 {
		return math.NaN()
	}
	s := slices.Sorted(slices.Values(values))
	return (s[(len(s)-1)/2] + s[len(s)/2]) / 2
}

// median of a row; NaN if it was not measured.
func (r *results) median(name, unit, peer string) float64 {
	if x := r.find(name, unit, peer); x != nil {
		return median(x.values)
	}
	return math.NaN()
}

// ratio is the median over the rounds of a's value by b's in the same round.
func (r *results) ratio(name, unit, a, b string) float64 {
	x, y := r.find(name, unit, a), r.find(name, unit, b)
	if x == nil || y == nil {
		return math.NaN()
	}
	var all []float64
	for i := range min(len(x.values), len(y.values)) {
		all = append(all, x.values[i]/y.values[i])
	}
	return median(all)
}

func (r *results) markdown(o options) string {
	var b strings.Builder
	var uts, _ = os.ReadFile("/proc/sys/kernel/osrelease") // only for information
	load, _ := os.ReadFile("/proc/loadavg")
	fmt.Fprintf(&b, "# isofs and its peers, %s\n\n%d cores, Linux %s, %s, load at the end %s; base of %d MiB, %d bytes a warm stream, %d rounds.\n\n",
		time.Now().UTC().Format("2006-01-02 15:04"), runtime.NumCPU(), strings.TrimSpace(string(uts)), runtime.Version(),
		strings.TrimSpace(string(load)), o.baseMiB, o.bytes, o.rounds)
	b.WriteString(notes)
	b.WriteString("\n" + r.table("plain, same mode"))
	b.WriteString("\n## Goals\n\n")
	for _, g := range r.goals() {
		fmt.Fprintf(&b, "- %s: %.3g, %s\n", g.text, g.value, g.verdict())
	}
	return b.String()
}

// table has all rows, beside the values of one system.
func (r *results) table(beside string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "| case | unit | system | median [min-max] | by %s |\n|---|---|---|---|---|\n", beside)
	for _, x := range r.rows {
		fmt.Fprintf(&b, "| %s | %s | %s | %.4g [%.4g-%.4g] | %.2f |\n", x.name, x.unit, x.peer, median(x.values),
			slices.Min(x.values), slices.Max(x.values), r.ratio(x.name, x.unit, x.peer, beside))
	}
	return b.String()
}

const notes = `CPU and memory are those of the system's processes with all descendants, client and origin left out; memory is anonymous
and shared, mapped files are page cache. Each system's whole image was compared with the file by SHA-256 first. Where
a system has one piece, "pieces" means that one, several times. nbdkit and rclone have a ready-made file, not base and slot, and
a fifth of the bytes (a twentieth with several streams). The Go handler behind nginx counts both.
`

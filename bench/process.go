package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// tick is USER_HZ. Linux fixes it at 100 for /proc.
const tick = 100.0

// A usage has seconds of CPU, and bytes of anonymous and shared memory. Mapped
// files do not count: they are page cache.
type usage struct{ cpu, rss float64 }

// used sums the processes and all their descendants, with ended and waited-for
// children.
func used(roots []int) usage {
	type process struct {
		parent int
		cpu    float64
	}
	all := map[int]process{}
	stats, _ := filepath.Glob("/proc/[0-9]*/stat") // the pattern is right
	for _, path := range stats {
		data, err := os.ReadFile(path)
		if err != nil {
			continue // it has ended
		}
		pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(path)))
		text := string(data)
		f := strings.Fields(text[strings.LastIndexByte(text, ')')+1:])
		var p process
		p.parent, _ = strconv.Atoi(f[1])
		for _, ticks := range f[11:15] { // utime, stime, cutime, cstime
			n, _ := strconv.ParseFloat(ticks, 64)
			p.cpu += n / tick
		}
		all[pid] = p
	}
	var sum usage
	for pid, p := range all {
		for at := pid; at > 1; at = all[at].parent {
			if contains(roots, at) {
				sum.cpu += p.cpu
				sum.rss += field(fmt.Sprintf("/proc/%d/status", pid), "RssAnon:") + field(fmt.Sprintf("/proc/%d/status", pid), "RssShmem:")
				break
			}
		}
	}
	return sum
}

func contains(list []int, n int) bool {
	for _, x := range list {
		if x == n {
			return true
		}
	}
	return false
}

// field reads one number in kB of a file of /proc, as bytes; 0 if it is
// missing.
func field(path, name string) float64 {
	data, err := os.ReadFile(path)
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(data)) {
		if f := strings.Fields(line); len(f) > 1 && f[0] == name {
			n, _ := strconv.ParseFloat(f[1], 64)
			return n * 1024
		}
	}
	return 0
}

func pageCache() float64 { return field("/proc/meminfo", "Cached:") }

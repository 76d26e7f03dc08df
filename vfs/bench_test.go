package vfs

import (
	"fmt"
	"syscall"
	"testing"
)

// BenchmarkRead reads a file in the kernel's page cache through a real mount,
// with dd, which discards what it reads. It reports also the CPU time of this
// process, the server: on a busy machine that number is steadier.
func BenchmarkRead(b *testing.B) {
	for _, profile := range []Profile{Direct, PageCache} {
		for _, read := range []int{4 << 10, 32 << 10, 64 << 10, 128 << 10, 1016 << 10, 1 << 20} {
			for _, way := range []string{"pinned", "copied"} {
				b.Run(fmt.Sprintf("%s/%dk/%s", profile, read>>10, way), func(b *testing.B) {
					benchmarkRead(b, profile, read, way == "copied")
				})
			}
		}
	}
}

func benchmarkRead(b *testing.B, profile Profile, read int, copied bool) {
	const size = 256 << 20
	img := newImage(b, "notepat-os.iso", 1, size, 0)
	img.unpinnable = copied
	m := mountTree(b, newTree(img), withProfile(profile))
	path := "if=" + m.path("notepat-os.iso")
	run(b, "dd", path, "of=/dev/null", "bs=1M", "status=none")
	b.SetBytes(size)
	var used float64
	for b.Loop() {
		// Empty the kernel's cache of this file, which only one profile has.
		run(b, "dd", path, "iflag=nocache", "count=0", "status=none")
		before := cpuSeconds(b)
		run(b, "dd", path, "of=/dev/null", fmt.Sprint("bs=", read), "status=none")
		used += cpuSeconds(b) - before
	}
	b.ReportMetric(used/float64(b.N)/size*1e9, "server-s/GB")
	m.stop(b, img)
}

// cpuSeconds returns the CPU time of this process, without its children.
func cpuSeconds(b *testing.B) float64 {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return float64(u.Utime.Nano()+u.Stime.Nano()) / 1e9
}

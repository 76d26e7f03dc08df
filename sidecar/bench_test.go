package sidecar_test

import (
	"crypto/sha256"
	"fmt"
	"syscall"
	"testing"
	"time"

	"aesthetic.computer/isofs/base"
	"aesthetic.computer/isofs/sidecar"
)

// manifestOfSize describes a base that does not exist: its sums are noise.
// Except for the size it is like the Debian base.
func manifestOfSize(b *testing.B, size int64) *base.Manifest {
	b.Helper()
	const slot = 20 * mib
	m := &base.Manifest{
		Version: "2026-11-01", Flavor: "tiny", Arch: "amd64", CreatedAt: "2026-11-01T00:00:00Z",
		PiecePartitionOffset: size - slot - mib, PiecePartitionSize: slot, TotalSize: size - 512,
		BlockSize: base.BlockSize, Tail: noise(9, tailSize), SHA256: base.Hash{1}, Midstates: midstatesOf(b, nil),
	}
	random := noise(1, 1<<20)
	for i := range (size - 512 + base.BlockSize - 1) / base.BlockSize {
		m.Blocks = append(m.Blocks, sha256.Sum256(random[i%1000:]))
		random = random[:1100]
	}
	form := base.ZsyncFormOf(m.TotalSize)
	m.Zsync = &base.Zsync{
		BlockSize: form.BlockSize, RsumBytes: form.RsumBytes, ChecksumBytes: form.ChecksumBytes,
		Sums: noise(3, int(m.PiecePartitionOffset/form.BlockSize)*form.SumBytes()),
	}
	if err := m.Validate(); err != nil {
		b.Fatal(err)
	}
	return m
}

// processorTime is the CPU time of this process.
func processorTime(b *testing.B) time.Duration {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// The cost of a new piece's sidecars, by the size of the base.
func BenchmarkSidecar(b *testing.B) {
	bundle := noise(2, 5*mib)
	for _, size := range []int64{64 * mib, 1 << 30, 4 << 30} {
		img := imageOf(b, manifestOfSize(b, size), bundle)
		about := aboutOf(base.Hash{1})
		for _, kind := range []struct {
			name string
			make func() ([]byte, error)
		}{
			{"zsync", func() ([]byte, error) { return sidecar.Zsync(img, about) }},
			{"bmap", func() ([]byte, error) { return sidecar.Bmap(img) }},
			{"meta4", func() ([]byte, error) { return sidecar.Metalink(img, about) }},
		} {
			b.Run(fmt.Sprintf("%s/%dMiB", kind.name, size/mib), func(b *testing.B) {
				before := processorTime(b)
				for b.Loop() {
					out, err := kind.make()
					if err != nil {
						b.Fatal(err)
					}
					b.ReportMetric(float64(len(out)), "file-B")
				}
				// On a machine with other work, the elapsed time is not
				// meaningful.
				b.ReportMetric((processorTime(b)-before).Seconds()*1000/float64(b.N), "cpu-ms/op")
			})
		}
	}
}

package main

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"time"
)

// many is the number of pieces in the case.
const many = 1000

// thousandCase requests a thousand pieces from one isofs, and compares the cost
// of the first with that of the last: the time to the first byte of a new
// image.
func (l *lab) thousandCase(r *results) error {
	dir, folder := l.path("thousand"), l.path("thousand-pieces")
	for _, d := range []string{dir, folder} {
		if err := os.Mkdir(d, 0o755); err != nil {
			return err
		}
	}
	for i := range many {
		page := make([]byte, 256<<10)
		_, _ = rand.NewChaCha8([32]byte{3, byte(i), byte(i >> 8)}).Read(page) // never fails
		copy(page, "<!doctype html><title>t</title>")
		if err := os.WriteFile(filepath.Join(folder, fmt.Sprintf("t%03d.html", i)), page, 0o644); err != nil {
			return err
		}
	}
	p, err := l.isofsIn(dir, "isofs direct", "direct", l.base, "--pieces", folder)
	if err != nil {
		return err
	}
	defer p.stop()
	root := "http://" + hostOf(p.urls[0]) + "/"
	// The first blocks of the base are in the cache already: only the new image
	// is measured.
	if _, err := get(l.ctx, root+"t000-os.iso", mib); err != nil {
		return err
	}
	before := used(p.pids).cpu
	begin := time.Now()
	for i := 1; i < many; i++ {
		first, err := get(l.ctx, fmt.Sprintf("%st%03d-os.iso", root, i), 4096)
		if err != nil {
			return err
		}
		if i <= 10 {
			r.add("new image, of the first ten", "longest TTFB ms", p.name, ms(first))
		}
		if i >= many-10 {
			r.add("new image, of the last ten of 1000", "longest TTFB ms", p.name, ms(first))
		}
	}
	r.add("1000 new images", "ms each", p.name, ms(time.Since(begin))/(many-1))
	r.add("1000 new images", "CPU ms each", p.name, (used(p.pids).cpu-before)*1000/(many-1))
	r.add("1000 pieces known", "RSS MiB", p.name, used(p.pids).rss/mib)
	return nil
}

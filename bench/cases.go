package main

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"time"
)

func (l *lab) peers() ([]peer, error) {
	var all []peer
	for _, begin := range []func() (peer, error){
		func() (peer, error) { return l.plain("plain, same mode", directReads) },
		func() (peer, error) { return l.plain("plain, sendfile", "sendfile on; sendfile_max_chunk 2m;") },
		// As in the page-cache profile, where a read may have to wait.
		func() (peer, error) {
			return l.plain("plain, sendfile in threads", "sendfile on; sendfile_max_chunk 2m; aio threads;")
		},
		func() (peer, error) { return l.isofsServe("isofs direct", "direct", l.base) },
		func() (peer, error) { return l.isofsServe("isofs page-cache", "page-cache", l.base) },
		l.nbd, l.rclone,
	} {
		p, err := begin()
		if err != nil {
			return nil, err
		}
		all = append(all, p)
	}
	cached, err := l.sliceCache("http://"+hostOf(all[0].urls[0]), "slices")
	if err != nil {
		return nil, err
	}
	direct, behind, err := l.overlayPeers()
	return l.wanted(append(all, cached, direct, behind)), err
}

// wanted ends the systems that -systems leaves out.
func (l *lab) wanted(all []peer) []peer {
	if l.o.systems == "" {
		return all
	}
	return slices.DeleteFunc(all, func(p peer) bool {
		for part := range strings.SplitSeq("plain,"+l.o.systems, ",") {
			if strings.Contains(p.name, part) {
				return false
			}
		}
		p.stop()
		return true
	})
}

// warm measures data that was read before. Each system is first compared with
// the file, which also warms it.
func (l *lab) warm(r *results) error {
	all, err := l.peers()
	if err != nil {
		return err
	}
	defer func() {
		for _, p := range all {
			p.stop()
		}
	}()
	want, err := digest(l.ctx, all[0].urls[0])
	if err != nil {
		return err
	}
	for _, p := range all {
		if err := l.check(l.ctx, p, want); err != nil {
			return err
		}
	}
	for round := range l.o.rounds {
		fmt.Fprintln(os.Stderr, "warm round", round+1)
		for i := range all {
			p := all[(i+round)%len(all)] // none is always first
			if err := l.warmRound(r, p); err != nil {
				return fmt.Errorf("%s: %w", p.name, err)
			}
		}
	}
	return nil
}

func (l *lab) warmRound(r *results, p peer) error {
	one := func(n int) []string { return slices.Repeat(p.urls[:1], n) }
	several := func(n int) []string {
		if len(p.urls) == 1 { // the same bytes in one file: the page cache has no duplicates
			return one(n)
		}
		return p.urls[:n]
	}
	bytes := min(l.o.bytes, l.size) / p.part
	// The sixteen pieces of the round before may have pushed out what a system
	// keeps of the first piece.
	if _, err := get(l.ctx, p.urls[0], bytes); err != nil {
		return err
	}
	for _, c := range []struct {
		name string
		urls []string
	}{{"1 stream", one(1)}, {"16 streams", one(16)}, {"8 pieces", several(8)}, {"16 pieces", several(16)}} {
		n := bytes
		if len(c.urls) > 1 && p.part > 1 {
			n /= 4
		}
		if err := measure(r, p, c.name, float64(n)*float64(len(c.urls)), func() error {
			first, err := together(l.ctx, c.urls, n)
			r.add(c.name, "longest TTFB ms", p.name, ms(first))
			return err
		}); err != nil {
			return err
		}
	}
	requests := l.o.requests / int(p.part)
	begin := time.Now()
	if err := random(l.ctx, p.urls[0], l.size, requests); err != nil {
		return err
	}
	r.add("random 4 KiB", "requests/s", p.name, float64(requests)/time.Since(begin).Seconds())
	return nil
}

// measure adds throughput, CPU, memory and growth of the page cache.
func measure(r *results, p peer, name string, bytes float64, do func() error) error {
	before, cached, begin := used(p.pids), pageCache(), time.Now()
	if err := do(); err != nil {
		return err
	}
	took, after := time.Since(begin), used(p.pids)
	r.add(name, "MB/s", p.name, bytes/1e6/took.Seconds())
	r.add(name, "CPU s/GB", p.name, (after.cpu-before.cpu)/(bytes/1e9))
	r.add(name, "RSS MiB", p.name, after.rss/mib)
	r.add(name, "page cache +MB", p.name, (pageCache()-cached)/1e6)
	return nil
}

func ms(d time.Duration) float64 { return d.Seconds() * 1000 }

// coldCases downloads from a distant origin, by an isofs with an empty cache.
func (l *lab) coldCases(r *results) error {
	for _, c := range []struct {
		name string
		far  distance
	}{{"cold 20 ms 25 MB/s", distance{20 * time.Millisecond, 25e6}}, {"cold uncapped", distance{}}} {
		origin, stop, err := serveFar(l.base, c.far)
		if err != nil {
			return err
		}
		defer stop()
		for round := range min(l.o.rounds, 3) {
			fmt.Fprintln(os.Stderr, c.name, "round", round+1)
			straight := peer{name: "one GET from the origin"}
			if err := l.coldGet(r, c.name, straight, origin+"/base.iso", min(l.o.cold, 100_000_000)); err != nil {
				return err
			}
			p, err := l.isofsServe("isofs direct", "direct", origin)
			if err != nil {
				return err
			}
			err = l.coldGet(r, c.name, p, p.urls[0], min(l.o.cold, l.size))
			p.stop()
			if err != nil {
				return err
			}
		}
	}
	return nil
}

func (l *lab) coldGet(r *results, name string, p peer, url string, n int64) error {
	return measure(r, p, name, float64(n), func() error {
		first, err := get(l.ctx, url, n)
		r.add(name, "longest TTFB ms", p.name, ms(first))
		return err
	})
}

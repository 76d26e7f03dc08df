package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"slices"
)

// flips is the number of bytes that are changed in a cache on disk.
const flips = 16

// damageCase stops isofs and nginx, changes bytes in their caches, starts them
// again, and counts the wrong bytes that each serves.
func (l *lab) damageCase(r *results) error {
	origin, stopOrigin, err := serveFar(l.base, distance{})
	if err != nil {
		return err
	}
	defer stopOrigin()
	plain, err := l.plain("plain", directReads)
	if err != nil {
		return err
	}
	defer plain.stop()
	dir := l.path("damaged-isofs")
	if err := os.Mkdir(dir, 0o755); err != nil {
		return err
	}
	for _, system := range []struct {
		cache string // the folder of its blocks
		serve func() (peer, error)
	}{
		{filepath.Join(dir, "state", "cache"), func() (peer, error) {
			return l.isofsIn(dir, "isofs direct", "direct", origin, "--pieces", l.path("pieces"))
		}},
		{l.path("slices-damaged"), func() (peer, error) { return l.sliceCache("http://"+hostOf(plain.urls[0]), "slices-damaged") }},
	} {
		if err := l.damage(r, system.cache, system.serve); err != nil {
			return err
		}
	}
	return nil
}

func (l *lab) damage(r *results, cache string, serve func() (peer, error)) error {
	p, err := serve()
	if err != nil {
		return err
	}
	wrong, err := l.wrongBytes(l.ctx, p.urls[0])
	p.stop()
	if err != nil || wrong != 0 {
		return fmt.Errorf("%s, not damaged yet: %d bytes are wrong, %w", p.name, wrong, err)
	}
	if err := flip(cache); err != nil {
		return fmt.Errorf("damage %s: %w", cache, err)
	}
	if p, err = serve(); err != nil {
		return err
	}
	defer p.stop()
	if wrong, err = l.wrongBytes(l.ctx, p.urls[0]); err != nil {
		return fmt.Errorf("%s, damaged: %w", p.name, err)
	}
	r.add(fmt.Sprintf("%d bytes changed in the cache on disk", flips), "wrong bytes served", p.name, float64(wrong))
	return nil
}

// flip changes single bytes, far from each other, in the largest files of a folder.
func flip(dir string) error {
	var files []string
	sizes := map[string]int64{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		info, err := d.Info()
		files, sizes[path] = append(files, path), info.Size()
		return err
	})
	if err != nil {
		return err
	}
	slices.SortStableFunc(files, func(a, b string) int { return int((sizes[b] - sizes[a]) >> 10) })
	if len(files) == 0 {
		return fmt.Errorf("nothing is in %s", dir)
	}
	for i := range flips {
		name := files[i%min(len(files), flips)]
		if err := flipByte(name, sizes[name]/(flips+1)*int64(i+1)); err != nil {
			return err
		}
	}
	return nil
}

func flipByte(name string, off int64) error {
	f, err := os.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	var b [1]byte
	if _, err := f.ReadAt(b[:], off); err != nil {
		return err
	}
	b[0] ^= 0xff
	_, err = f.WriteAt(b[:], off)
	return err
}

// wrongBytes downloads the whole first piece and counts the differences from
// the composed file. A short one is an error.
func (l *lab) wrongBytes(ctx context.Context, address string) (wrong int64, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return 0, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return 0, fmt.Errorf("get %s: %s", address, resp.Status)
	}
	file, err := os.Open(l.image)
	if err != nil {
		return 0, err
	}
	defer file.Close()
	got, want := make([]byte, mib), make([]byte, mib)
	for {
		n, err := io.ReadFull(file, want)
		if n == 0 && err == io.EOF {
			return wrong, nil
		}
		if m, err := io.ReadFull(resp.Body, got[:n]); err != nil {
			return wrong, fmt.Errorf("get %s: the answer ends early: %w", address, fmt.Errorf("%d bytes missing: %w", n-m, err))
		}
		if bytes.Equal(got[:n], want[:n]) {
			continue
		}
		for i := range n {
			if got[i] != want[i] {
				wrong++
			}
		}
	}
}

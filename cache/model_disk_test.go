package cache

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// What a model does to its disk.

// reopen closes the cache, damages the disk, and opens it again. Or it
// simulates a kill: the new cache gets the files of some moment.
func (m *model) reopen() {
	killed := m.r.IntN(2) == 0
	if next := m.t.TempDir(); killed {
		copyFiles(m.t, m.dir, next)
		defer os.RemoveAll(m.dir)
		m.dir = next
	}
	m.releaseAll()
	if err := m.cache.Close(); err != nil {
		m.t.Fatal(err)
	}
	for range m.r.IntN(4) {
		src := m.sources[m.r.IntN(len(m.sources))]
		f, err := os.OpenFile(filepath.Join(m.dir, name(src.blob.ID)), os.O_RDWR, 0)
		if errors.Is(err, os.ErrNotExist) {
			continue // it was a stray in the way of others
		}
		if err != nil {
			m.t.Fatal(err)
		}
		at := m.r.Int64N(src.blob.Size)
		switch m.r.IntN(4) {
		case 0:
			f.Truncate(at)
		case 1:
			f.WriteAt([]byte("damage"), at)
		case 2:
			punch(f, at, 100_000)
		case 3:
			// Within the file and on pages that are there. Otherwise the damage
			// would exceed the limit.
			io.Copy(io.NewOffsetWriter(f, 0), io.NewSectionReader(f, 64*kib, 64*kib))
		}
		f.Close()
	}
	if m.r.IntN(4) == 0 {
		m.limit = (1 + m.r.Int64N(24)) * 64 * kib
	}
	m.open()
	if got := taken(m.t, m.cache); got > m.limit {
		m.t.Errorf("%d bytes on disk after opening, the limit is %d", got, m.limit)
	}
}

// copyFiles copies the files of a directory while they change, holes as holes.
func copyFiles(t *testing.T, from, to string) {
	t.Helper()
	entries, err := os.ReadDir(from)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		in, err1 := os.Open(filepath.Join(from, e.Name()))
		out, err2 := os.Create(filepath.Join(to, e.Name()))
		if err := errors.Join(err1, err2); err != nil {
			t.Fatal(err)
		}
		size, err := in.Seek(0, io.SeekEnd)
		out.Truncate(size)
		for off := int64(0); err == nil; {
			var end int64
			if off, err = in.Seek(off, unix.SEEK_DATA); err != nil {
				break
			}
			if end, err = in.Seek(off, unix.SEEK_HOLE); err != nil {
				break
			}
			_, err = io.Copy(io.NewOffsetWriter(out, off), io.NewSectionReader(in, off, end-off))
			off = end
		}
		if !errors.Is(err, unix.ENXIO) {
			t.Fatal(err)
		}
		in.Close()
		out.Close()
	}
}

// Fill may fail for lack of room, or because the disk does not take blocks.
func (m *model) fill() {
	r, was := reader{m, m.r}, m.origin.Load()
	k := m.r.IntN(len(m.files))
	err := m.files[k].Fill(context.Background(), nil)
	if err != nil && !errors.Is(err, ErrFull) && !m.cache.Stats().Degraded {
		r.allowed(err, was)
	}
}

// rot damages blocks that are in use, and scrubs.
func (m *model) rot() {
	m.releaseAll()
	m.cache.fetch.pulls.Wait()
	hurt := uint64(0)
	for _, b := range m.cache.index.all() {
		for i := range b.blocks {
			// The background scan may be under way.
			m.cache.index.mu.Lock()
			in := b.blocks[i].state
			m.cache.index.mu.Unlock()
			if in != present || m.r.IntN(8) > 0 {
				continue
			}
			at := b.offset(i) + m.r.Int64N(b.length(i))
			one := make([]byte, 1)
			if _, err := b.file.Load().ReadAt(one, at); err != nil {
				m.t.Fatal(err)
			}
			one[0] ^= 128
			if _, err := b.file.Load().WriteAt(one, at); err != nil {
				m.t.Fatal(err)
			}
			hurt++
		}
	}
	before := m.cache.Stats().ScrubWrong
	scrubAll(m.cache)
	if found := m.cache.Stats().ScrubWrong - before; found < hurt {
		m.t.Errorf("%d of %d wrong blocks found", found, hurt)
	}
}

// disk fills the disk for a while, or deletes its directory.
func (m *model) disk() {
	enospc := error(unix.ENOSPC)
	switch m.r.IntN(4) {
	case 0:
		m.full.Store(&enospc)
	case 1, 2:
		m.full.Store(nil)
		later(m.cache, restTime)
	case 3:
		if !m.memory {
			m.cache.fetch.pulls.Wait() // or files are made while they are deleted
			if err := os.RemoveAll(m.dir); err != nil {
				m.t.Fatal(err)
			}
			m.cache.disk.heal()
		}
	}
}

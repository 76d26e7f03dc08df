package cache

import (
	"bytes"
	"encoding/binary"
	"os"
	"path/filepath"
	"testing"
)

// scribble turns the file of a base into anything: each 8 bytes of the program
// are one change to it. Its first byte is the limit of the cache.
func scribble(f *os.File, src *source, program []byte) {
	size := src.blob.Size
	for ; len(program) >= 8; program = program[8:] {
		what, b := program[0], program[1]
		at := int64(binary.LittleEndian.Uint16(program[2:])) * size / 65535
		n := int64(binary.LittleEndian.Uint16(program[4:]))
		from := int64(binary.LittleEndian.Uint16(program[6:])) * size / 65535
		end := min(at+n, size)
		switch what % 7 {
		case 0, 1: // as it should be, of whole blocks
			block := from / src.blob.BlockSize * src.blob.BlockSize
			to := min(size, block+src.blob.BlockSize*int64(b%16+1))
			f.WriteAt(src.data[block:to], block)
		case 2: // other bytes
			f.WriteAt(bytes.Repeat([]byte{b}, int(n)), at)
		case 3: // bytes of another place
			f.WriteAt(src.data[from:min(from+n, size)], at)
		case 4:
			punch(f, at, n+1)
		case 5:
			f.Truncate(at)
		case 6: // a part of what it should be
			if end > at {
				f.WriteAt(src.data[at:end], at)
			}
		}
	}
}

// Whatever a crash, or a stranger, leaves in the place of a base's file: the
// Cache opens, within the limit, and reads are right, with the origin and
// without.
func FuzzLeftovers(f *testing.F) {
	good := []byte{0, 15, 0, 0, 0, 0, 0, 0}
	f.Add([]byte{})
	f.Add(append([]byte{255}, good...))
	for what := byte(1); what < 7; what++ {
		f.Add(append(append([]byte{what * 40}, good...), what, 7, 0x34, 0x12, 0x99, 0x21, 0x78, 0x56))
	}
	src := newSource(1, 20*16*kib+1234, 16*kib)
	f.Fuzz(func(t *testing.T, program []byte) {
		if len(program) > 1+8*32 {
			return
		}
		limit := int64(1 << 20)
		if len(program) > 0 {
			limit = 16*kib + int64(program[0])*2*kib
			program = program[1:]
		}
		lookFor(t, 1+len(program)%7)
		dir := t.TempDir()
		file, err := os.Create(filepath.Join(dir, name(src.blob.ID)))
		if err != nil {
			t.Fatal(err)
		}
		scribble(file, src, program)
		file.Close()
		src.spoil = off
		left(t, dir, src)
		src.spoil = nil
		s := openCache(t, Config{Dir: dir, MaxBytes: limit, Fetches: 2})
		defer s.Close()
		view := openBlob(t, s, src)
		for range 2 {
			if got := onDisk(t, dir); got > limit {
				t.Errorf("%d bytes on disk, the limit is %d", got, limit)
			}
			src.check(t, view, 0, src.blob.Size)
			s.fetch.pulls.Wait()
		}
	})
}

package base

import (
	"context"
	"crypto/sha1"
	"crypto/sha256"
	"fmt"
	"hash"
	"io"
	"sync"

	"aesthetic.computer/isofs/fault"
	"aesthetic.computer/isofs/partition"
)

// scanChunk is the length of a read; larger blocks are read whole.
const scanChunk = 4 << 20

// A scan computes all digests of an image, in one pass from its start.
type scan struct {
	slotOff, slotEnd int64
	blockSize        int64
	boot             []partition.Span
	zsync            *ZsyncForm              // nil: no such sums
	progress         func(done, total int64) // may be nil
}

// digests are the results of a scan. If the scanned bytes end too early, a
// midstate is "", and a boot hash or the tail is incomplete.
type digests struct {
	whole  Hash
	blocks []Hash
	mid    Midstates
	tail   []byte
	boot   []Hash
	zsync  []byte
}

// A lane computes one thing; each runs on a separate core. take gets adjacent
// ranges of the image in order.
type lane interface {
	take(p []byte, off int64) error
}

// run reads [0, size) of r once. It reads the next chunk while it hashes one.
func (s *scan) run(ctx context.Context, r io.ReaderAt, size int64) (*digests, error) {
	whole := &headLane{h: sha256.New(), split: s.slotOff, size: size}
	blocks := &blockLane{size: s.blockSize}
	sha1Head := &headLane{h: sha1.New(), split: s.slotOff, size: s.slotOff}
	rest := &spanLane{spans: s.boot, tail: s.slotEnd}
	for range s.boot {
		rest.hashes = append(rest.hashes, sha256.New())
	}
	lanes := []lane{whole, blocks, sha1Head, rest}
	var zsync *zsyncLane
	if s.zsync != nil {
		zsync = newZsyncLane(*s.zsync, s.slotOff)
		lanes = append(lanes, zsync)
	}
	if err := s.pump(ctx, r, size, lanes); err != nil {
		return nil, err
	}
	d := &digests{
		whole:  Hash(whole.h.Sum(nil)),
		blocks: blocks.hashes,
		mid:    Midstates{SHA256: whole.mid, SHA1: sha1Head.mid},
		tail:   rest.bytes,
	}
	if zsync != nil {
		d.zsync = zsync.sums
	}
	for _, h := range rest.hashes {
		d.boot = append(d.boot, Hash(h.Sum(nil)))
	}
	return d, nil
}

// pump feeds [0, size) of r to the lanes, a chunk at a time.
func (s *scan) pump(ctx context.Context, r io.ReaderAt, size int64, lanes []lane) error {
	chunk := max(scanChunk, s.blockSize)
	now, next := make([]byte, min(chunk, size)), make([]byte, min(chunk, size))
	read := make(chan error, 1)
	fetch := func(p []byte, off int64) { read <- partition.ReadFull(r, p, off) }
	go fetch(now, 0)
	for off := int64(0); off < size; off += chunk {
		p := now[:min(chunk, size-off)]
		if err := <-read; err != nil {
			return err
		}
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("stopped at byte %d of %d: %w: %w", off, size, fault.Unavailable, err)
		}
		end := off + int64(len(p))
		if end < size {
			go fetch(next[:min(chunk, size-end)], end)
		}
		if err := feed(lanes, p, off); err != nil {
			if end < size {
				<-read //nolint:errcheck // the buffer is its until then; the first error is returned
			}
			return err
		}
		if s.progress != nil {
			s.progress(end, size)
		}
		now, next = next, now
	}
	return nil
}

// feed gives p to all lanes at once and waits for them.
func feed(lanes []lane, p []byte, off int64) error {
	errs := make([]error, len(lanes))
	var wg sync.WaitGroup
	for i, l := range lanes {
		wg.Go(func() { errs[i] = l.take(p, off) })
	}
	wg.Wait()
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// A headLane hashes [0, size) and keeps the state at split.
type headLane struct {
	h           hash.Hash
	split, size int64
	mid         string
}

func (l *headLane) take(p []byte, off int64) (err error) {
	p = overlap(p, off, partition.Span{Size: l.size})
	head := overlap(p, off, partition.Span{Size: l.split})
	l.h.Write(head)
	if l.mid == "" && off+int64(len(head)) == l.split {
		if l.mid, err = midstate(l.h, l.split); err != nil {
			return err
		}
	}
	l.h.Write(p[len(head):])
	return nil
}

// A blockLane hashes each block. Chunks are whole blocks, except the last.
type blockLane struct {
	size   int64
	hashes []Hash
}

func (l *blockLane) take(p []byte, _ int64) error {
	for len(p) > 0 {
		n := min(l.size, int64(len(p)))
		l.hashes = append(l.hashes, sha256.Sum256(p[:n]))
		p = p[n:]
	}
	return nil
}

// A spanLane hashes some spans and copies everything from tail on.
type spanLane struct {
	spans  []partition.Span
	hashes []hash.Hash
	tail   int64
	bytes  []byte
}

func (l *spanLane) take(p []byte, off int64) error {
	for i, s := range l.spans {
		l.hashes[i].Write(overlap(p, off, s))
	}
	l.bytes = append(l.bytes, p[clamp(l.tail-off, len(p)):]...)
	return nil
}

// overlap returns the part of p inside s. p is at off in the image.
func overlap(p []byte, off int64, s partition.Span) []byte {
	from, to := clamp(s.Offset-off, len(p)), clamp(s.End()-off, len(p))
	return p[from:max(from, to)]
}

// clamp limits an index to [0, n].
func clamp(i int64, n int) int { return int(max(0, min(i, int64(n)))) }

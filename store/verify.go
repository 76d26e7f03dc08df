package store

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"sync"

	"golang.org/x/sync/errgroup"

	"aesthetic.computer/isofs/base"
	"aesthetic.computer/isofs/fault"
)

const (
	// readChunk is how much one request reads back.
	readChunk = 4 << 20
	// readers is the number of such requests at once.
	readers = 4
)

// readBack compares every block of the image at the place with the manifest, by
// the requests that a server makes.
func (w *publisher) readBack(ctx context.Context, image string) error {
	m := w.Manifest
	from, err := w.place.Open(image, m.TotalSize)
	if err != nil {
		return err
	}
	defer from.Close()
	var mu sync.Mutex
	read := int64(0)
	group, within := errgroup.WithContext(ctx)
	group.SetLimit(readers)
	per := max(1, int(readChunk/m.BlockSize))
	for first := 0; first < len(m.Blocks) && within.Err() == nil; first += per {
		group.Go(func() error {
			last := min(first+per, len(m.Blocks)) - 1
			off, _ := m.BlockRange(first)
			end, length := m.BlockRange(last)
			p := make([]byte, end+length-off)
			if err := from.Fetch(within, p, off); err != nil {
				return err
			}
			mu.Lock()
			read += int64(len(p))
			w.Progress(StepVerify, read, m.TotalSize)
			mu.Unlock()
			return compare(m, first, last, p)
		})
	}
	if err := errors.Join(group.Wait(), ctx.Err()); err != nil {
		if fault.Kind(err) == nil {
			err = fmt.Errorf("%w: %w", fault.Unavailable, err)
		}
		return fmt.Errorf("read back %s: %w%s", image, err, w.advice(err))
	}
	return nil
}

// advice says what to do about a wrong image at its place.
func (w *publisher) advice(err error) string {
	if errors.Is(err, fault.Corrupt) {
		return ": what is there is not this base; remove that folder if no channel names it, or give the base a version of its own"
	}
	return ""
}

// compare checks the blocks first to last, whose bytes are p.
func compare(m *base.Manifest, first, last int, p []byte) error {
	for i := first; i <= last; i++ {
		_, length := m.BlockRange(i)
		if got := base.Hash(sha256.Sum256(p[:length])); got != m.Blocks[i] {
			return fmt.Errorf("block %d is %s there, the manifest says %s: %w", i, got, m.Blocks[i], fault.Corrupt)
		}
		p = p[length:]
	}
	return nil
}

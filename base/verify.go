package base

import (
	"bytes"
	"context"
	"fmt"
	"io"

	"aesthetic.computer/isofs/fault"
	"aesthetic.computer/isofs/partition"
)

// VerifyError lists what differs between an image and its manifest. It wraps
// fault.Corrupt.
type VerifyError struct {
	Findings []string // in order, at most maxFindings
	More     int      // the number of further findings
}

// maxFindings is how many differences a VerifyError lists.
const maxFindings = 20

// Error lists the findings on one line each.
func (e *VerifyError) Error() string {
	s := "the image differs from its manifest:"
	for _, f := range e.Findings {
		s += "\n  " + f
	}
	if e.More > 0 {
		s += fmt.Sprintf("\n  and %d more", e.More)
	}
	return s
}

// Unwrap returns fault.Corrupt.
func (e *VerifyError) Unwrap() error { return fault.Corrupt }

// add notes a finding.
func (e *VerifyError) add(format string, args ...any) {
	if len(e.Findings) == maxFindings {
		e.More++
		return
	}
	e.Findings = append(e.Findings, fmt.Sprintf(format, args...))
}

// Verify compares the image with the manifest: the size, the GPT and the slot
// in it, every block, the whole digest, the midstates, the tail, the boot
// files, and zsync's sums. It also checks that the empty blocks are free space.
// It reads the whole image once, continues behind a difference, and reports all
// of them in a *VerifyError. An image of another size is compared up to the
// smaller size.
//
// It returns other errors for a manifest that Validate refuses, a reader that
// fails, and ctx.
func (m *Manifest) Verify(ctx context.Context, r io.ReaderAt, size int64, progress func(done, total int64)) error {
	if err := m.Validate(); err != nil {
		return fmt.Errorf("verify base %s: %w", m.Version, err)
	}
	var diff VerifyError
	if size != m.TotalSize {
		diff.add("size: the image has %d bytes, totalSize says %d", size, m.TotalSize)
	}
	if err := m.verifyLayout(r, size, &diff); err != nil {
		return fmt.Errorf("verify base %s: %w", m.Version, err)
	}
	scanned := max(0, min(size, m.TotalSize))
	d, err := m.scan(progress).run(ctx, r, scanned)
	if err != nil {
		return fmt.Errorf("verify base %s: %w", m.Version, err)
	}
	if size == m.TotalSize && d.whole != m.SHA256 {
		diff.add("sha256: the image has %s, the manifest says %s", d.whole, m.SHA256)
	}
	m.verifyDigests(d, scanned, &diff)
	if len(diff.Findings) > 0 {
		return fmt.Errorf("verify base %s: %w", m.Version, &diff)
	}
	return nil
}

// verifyLayout compares the slot's place with the GPT. Only a failing reader is
// an error.
func (m *Manifest) verifyLayout(r io.ReaderAt, size int64, diff *VerifyError) error {
	l, err := readLayout(r, size)
	switch {
	case fault.Kind(err) == fault.Unavailable:
		return err
	case err != nil:
		diff.add("GPT: %v", err)
	case l.slot != m.slot():
		diff.add("slot: the GPT has it at [%d, %d), the manifest at [%d, %d)",
			l.slot.Offset, l.slot.End(), m.PiecePartitionOffset, m.SlotEnd())
	default:
		m.verifyEmpty(partition.Free(r, l.parts), diff)
	}
	return nil
}

// verifyZsync compares the sums as far as they were computed. A wrong block has
// wrong sums, so all of them are one finding.
func (m *Manifest) verifyZsync(d *digests, diff *VerifyError) {
	if m.Zsync == nil {
		return
	}
	n := ZsyncFormOf(m.TotalSize).SumBytes()
	first, count := 0, 0
	for i := len(d.zsync) - n; i >= 0; i -= n {
		if !bytes.Equal(d.zsync[i:i+n], m.Zsync.Sums[i:i+n]) {
			first, count = i, count+1
		}
	}
	if count > 0 {
		diff.add("zsync.sums: those of %d blocks of %d bytes differ, first block %d: the image has %x, the manifest says %x",
			count, m.Zsync.BlockSize, first/n, d.zsync[first:first+n], m.Zsync.Sums[first:first+n])
	}
}

// verifyDigests compares the digests over the first scanned bytes.
func (m *Manifest) verifyDigests(d *digests, scanned int64, diff *VerifyError) {
	for i, want := range m.Blocks {
		off, length := m.BlockRange(i)
		if off+length > scanned {
			diff.add("blocks: %d of %d lie behind the end of the image, from block %d (byte %d) on", len(m.Blocks)-i, len(m.Blocks), i, off)
			break
		}
		if d.blocks[i] != want {
			diff.add("block %d (bytes %d..%d): the image has %s, the manifest says %s", i, off, off+length-1, d.blocks[i], want)
		}
	}
	for i, f := range m.BootFiles {
		if f.Offset+f.Length <= scanned && d.boot[i] != f.SHA256 {
			diff.add("bootFiles: %s (bytes %d..%d): the image has %s, the manifest says %s", f.Name, f.Offset, f.Offset+f.Length-1, d.boot[i], f.SHA256)
		}
	}
	if m.PiecePartitionOffset <= scanned {
		if d.mid.SHA256 != m.Midstates.SHA256 {
			diff.add("midstates.sha256 at %d: the image has %s, the manifest says %s", m.PiecePartitionOffset, d.mid.SHA256, m.Midstates.SHA256)
		}
		if d.mid.SHA1 != m.Midstates.SHA1 {
			diff.add("midstates.sha1 at %d: the image has %s, the manifest says %s", m.PiecePartitionOffset, d.mid.SHA1, m.Midstates.SHA1)
		}
	}
	m.verifyZsync(d, diff)
	if scanned == m.TotalSize && !bytes.Equal(d.tail, m.Tail) {
		at := 0
		for d.tail[at] == m.Tail[at] {
			at++
		}
		diff.add("tail: byte %d: the image has %#02x, the manifest says %#02x (first difference)", m.SlotEnd()+int64(at), d.tail[at], m.Tail[at])
	}
}

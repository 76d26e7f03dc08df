package base

import (
	"bytes"
	"crypto/sha256"
	"fmt"

	"aesthetic.computer/isofs/fault"
	"aesthetic.computer/isofs/partition"
)

// A BlockRun is a run of adjacent blocks of a manifest.
type BlockRun struct {
	First int `json:"first"`
	Count int `json:"count"`
}

// maxEmptyRuns bounds the list. Each run takes at least two blocks: one, and
// the gap before the next run.
const maxEmptyRuns = maxBlocks / 2

// EmptyBlocks reports for each block whether a stick may lack it: it is of
// zeroes, and in the free space of a file system. A block of zeroes in a file
// or a table is not empty: without it, a stick would have another file.
func (m *Manifest) EmptyBlocks() []bool {
	empty := make([]bool, len(m.Blocks))
	for _, run := range m.Empty {
		for i := range run.Count {
			empty[run.First+i] = true
		}
	}
	return empty
}

func (m *Manifest) validateEmpty() error {
	if len(m.Empty) > maxEmptyRuns {
		return fmt.Errorf("empty has %d runs, at most %d are allowed: %w", len(m.Empty), maxEmptyRuns, fault.Invalid)
	}
	zero := m.zeroBlock()
	next := 0
	for i, run := range m.Empty {
		if run.First < 0 || run.Count < 1 {
			return fmt.Errorf("empty: run %d is of %d blocks from block %d on: %w", i, run.Count, run.First, fault.Invalid)
		}
		if run.First < next || i > 0 && run.First == next {
			return fmt.Errorf("empty: run %d begins at block %d, where the one before has not ended with a gap: %w", i, run.First, fault.Corrupt)
		}
		// Written without a sum, which could overflow.
		if whole := int(m.PiecePartitionOffset / m.BlockSize); run.First >= whole || run.Count > whole-run.First {
			return fmt.Errorf("empty: run %d, %d blocks from %d on, does not lie before the slot, which has %d before it: %w", i, run.Count, run.First, whole, fault.Corrupt)
		}
		next = run.First + run.Count
		for block := run.First; block < next; block++ {
			if m.Blocks[block] != zero {
				return fmt.Errorf("empty: block %d is in run %d, but is not of zeroes: %w", block, i, fault.Corrupt)
			}
		}
	}
	return nil
}

// zeroBlock is the hash of a whole block of zeroes.
func (m *Manifest) zeroBlock() Hash { return sha256.Sum256(make([]byte, m.BlockSize)) }

// findEmpty returns the whole blocks of zeroes before the slot that are in
// free, whose spans are in order.
func (m *Manifest) findEmpty(free []partition.Span) []BlockRun {
	var runs []BlockRun
	zero := m.zeroBlock()
	next := 0
	for _, s := range free {
		first := int((s.Offset + m.BlockSize - 1) / m.BlockSize)
		for i := max(first, next); int64(i+1)*m.BlockSize <= min(s.End(), m.PiecePartitionOffset); i++ {
			if m.Blocks[i] != zero {
				continue
			}
			if k := len(runs) - 1; k >= 0 && runs[k].First+runs[k].Count == i {
				runs[k].Count++
			} else {
				runs = append(runs, BlockRun{First: i, Count: 1})
			}
			next = i + 1
		}
	}
	return runs
}

// verifyEmpty compares the list with the image's free space.
func (m *Manifest) verifyEmpty(free []partition.Span, diff *VerifyError) {
	found := (&Manifest{
		Blocks: m.Blocks, BlockSize: m.BlockSize, PiecePartitionOffset: m.PiecePartitionOffset, Empty: m.findEmpty(free),
	}).EmptyBlocks()
	for i, claimed := range m.EmptyBlocks() {
		if claimed && !found[i] {
			diff.add("empty: block %d does not lie in the free space of a file system", i)
		}
	}
}

// zeroes is what allZero compares with.
var zeroes [maxBlockSize]byte

// allZero reports whether p, of at most maxBlockSize bytes, has only zeroes.
func allZero(p []byte) bool { return bytes.Equal(p, zeroes[:len(p)]) }

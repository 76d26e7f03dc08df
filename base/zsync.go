package base

import (
	"encoding/binary"
	"fmt"
	"math"

	//nolint:staticcheck // MD4 is what zsync files have; nothing here is trusted because of it
	"golang.org/x/crypto/md4"

	"aesthetic.computer/isofs/fault"
	"aesthetic.computer/isofs/partition"
)

// maxZsyncSums bounds the sums of a manifest, in bytes: an image of 16 GB.
const maxZsyncSums = 32 << 20

// Zsync has the sums by which zsync finds blocks of an image in another one.
// They are those of [0, PiecePartitionOffset), as zsyncmake writes them for a
// file of TotalSize bytes. The bytes behind differ between images.
type Zsync struct {
	BlockSize     int64  `json:"blockSize"`
	RsumBytes     int    `json:"rsumBytes"`
	ChecksumBytes int    `json:"checksumBytes"`
	Sums          []byte `json:"sums"` // base64; per block rsum, then checksum
}

// A ZsyncForm is the format of zsyncmake 0.6.2's sums for a file of some
// length.
type ZsyncForm struct {
	BlockSize     int64 // bytes
	SeqMatches    int   // adjacent blocks that the client wants to match
	RsumBytes     int   // of the rolling sum's 4, the last
	ChecksumBytes int   // of the MD4's 16, the first
}

// ZsyncFormOf returns the form for a file of size bytes, more than one block.
func ZsyncFormOf(size int64) ZsyncForm {
	f := ZsyncForm{BlockSize: 4096, SeqMatches: 2}
	if size < 100_000_000 {
		f.BlockSize = 2048
	}
	// zsync's technical paper, "Checksum lengths": as few bits as possible with
	// few blocks that match by chance. All files here have more than one block,
	// so the client always looks for two adjacent ones.
	length, blocks := math.Log2(float64(size)), math.Log2(float64(1+size/f.BlockSize))
	rsum := (length + math.Log2(float64(f.BlockSize)) - 8.6) / 2 / 8
	f.RsumBytes = min(4, max(2, int(math.Ceil(rsum))))
	f.ChecksumBytes = max(int(math.Ceil((20+length+blocks)/2/8)), int((7.9+20+blocks)/8))
	return f
}

// SumBytes is the length of one block's sums.
func (f ZsyncForm) SumBytes() int { return f.RsumBytes + f.ChecksumBytes }

// AppendSum appends the sums of one block to dst. The last block of a file may
// be short, and counts as filled up with zeroes.
func (f ZsyncForm) AppendSum(dst, block []byte) []byte {
	// The rolling sum has two parts: the sum of the bytes, and the sum of the
	// bytes times their distance from the block's end. Zeroes behind the bytes
	// add to neither.
	var a, b uint16
	for i, c := range block {
		a += uint16(c)
		b += uint16(c) * uint16(f.BlockSize-int64(i))
	}
	var rsum [4]byte
	binary.BigEndian.PutUint16(rsum[:], a)
	binary.BigEndian.PutUint16(rsum[2:], b)
	h := md4.New()
	h.Write(block)
	if short := f.BlockSize - int64(len(block)); short > 0 {
		h.Write(make([]byte, short))
	}
	var sum [md4.Size]byte
	dst = append(dst, rsum[len(rsum)-f.RsumBytes:]...)
	return append(dst, h.Sum(sum[:0])[:f.ChecksumBytes]...)
}

// ZsyncForm returns the form of the sums of images of this base, and whether
// the manifest has the sums.
func (m *Manifest) ZsyncForm() (f ZsyncForm, ok bool) {
	return ZsyncFormOf(m.TotalSize), m.Zsync != nil
}

// addZsync makes room for the sums, unless they are too many for a manifest.
func (m *Manifest) addZsync() {
	f := ZsyncFormOf(m.TotalSize)
	if m.PiecePartitionOffset/f.BlockSize*int64(f.SumBytes()) <= maxZsyncSums {
		m.Zsync = &Zsync{BlockSize: f.BlockSize, RsumBytes: f.RsumBytes, ChecksumBytes: f.ChecksumBytes}
	}
}

func (m *Manifest) validateZsync() error {
	z := m.Zsync
	if z == nil {
		return nil
	}
	f := ZsyncFormOf(m.TotalSize)
	if z.BlockSize != f.BlockSize || z.RsumBytes != f.RsumBytes || z.ChecksumBytes != f.ChecksumBytes {
		return fmt.Errorf("zsync has blockSize %d, rsumBytes %d, checksumBytes %d, but zsyncmake takes %d, %d, %d for totalSize %d: %w",
			z.BlockSize, z.RsumBytes, z.ChecksumBytes, f.BlockSize, f.RsumBytes, f.ChecksumBytes, m.TotalSize, fault.Corrupt)
	}
	// The slot begins at a multiple of SlotAlignment, which both block sizes divide.
	want := m.PiecePartitionOffset / f.BlockSize * int64(f.SumBytes())
	if want > maxZsyncSums {
		return fmt.Errorf("zsync of an image of %d bytes would have %d bytes of sums, at most %d are allowed: %w", m.TotalSize, want, maxZsyncSums, fault.Invalid)
	}
	if int64(len(z.Sums)) != want {
		return fmt.Errorf("zsync.sums has %d bytes, but piecePartitionOffset %d makes %d: %w", len(z.Sums), m.PiecePartitionOffset, want, fault.Corrupt)
	}
	return nil
}

// A zsyncLane sums the blocks of [0, end). Up to there, chunks are whole
// blocks.
type zsyncLane struct {
	form ZsyncForm
	end  int64
	sums []byte
	zero []byte // the sums of a block of zeroes; a base has many of these
}

func newZsyncLane(f ZsyncForm, end int64) *zsyncLane {
	return &zsyncLane{form: f, end: end, zero: f.AppendSum(nil, make([]byte, f.BlockSize))}
}

func (l *zsyncLane) take(p []byte, off int64) error {
	for p = overlap(p, off, partition.Span{Size: l.end}); len(p) > 0; {
		block := p[:min(l.form.BlockSize, int64(len(p)))]
		p = p[len(block):]
		if allZero(block) {
			l.sums = append(l.sums, l.zero...)
			continue
		}
		l.sums = l.form.AppendSum(l.sums, block)
	}
	return nil
}

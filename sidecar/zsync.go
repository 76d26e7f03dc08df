package sidecar

import (
	"bytes"
	"fmt"

	"aesthetic.computer/isofs/fault"
	"aesthetic.computer/isofs/image"
)

// zsyncVersion is the version of zsyncmake in the file.
const zsyncVersion = "0.6.2"

// zsyncTime is the form of RFC 2822, in UTC.
const zsyncTime = "Mon, 02 Jan 2006 15:04:05 +0000"

// ownChunk is how much of the slot is read at a time: whole blocks of zsync's.
const ownChunk = 256 << 10

// Zsync returns the zsync file of an image, as zsyncmake 0.6.2 writes it with
// -u about.Path -f about.FileName. fault.NotFound if the base's manifest has no
// sums for it. The URL is a path on the server of the zsync file. The path
// keeps naming this image when the piece has another.
func Zsync(img *image.Image, about About) ([]byte, error) {
	m := img.Manifest
	form, ok := m.ZsyncForm()
	if !ok {
		return nil, fmt.Errorf("the manifest of base %s has no sums of its blocks for zsync (isofs base index writes them): %w", m.Version, fault.NotFound)
	}
	whole, err := m.ResumeSHA1()
	if err != nil {
		return nil, err
	}
	blocks := (m.TotalSize + form.BlockSize - 1) / form.BlockSize
	ownBlocks := blocks - m.PiecePartitionOffset/form.BlockSize
	sums := make([]byte, 0, ownBlocks*int64(form.SumBytes()))
	zero := make([]byte, form.BlockSize)
	zeroSum := form.AppendSum(nil, zero)
	err = own(img, ownChunk, func(p []byte) {
		whole.Write(p)
		for len(p) > 0 {
			block := p[:min(len(p), len(zero))]
			p = p[len(block):]
			if bytes.Equal(block, zero) {
				sums = append(sums, zeroSum...)
			} else {
				sums = form.AppendSum(sums, block)
			}
		}
	})
	if err != nil {
		return nil, err
	}
	out := make([]byte, 0, 1024+len(m.Zsync.Sums)+len(sums))
	out = fmt.Appendf(out, "zsync: %s\nFilename: %s\nMTime: %s\nBlocksize: %d\nLength: %d\nHash-Lengths: %d,%d,%d\nURL: %s\nSHA-1: %x\n\n",
		zsyncVersion, about.FileName, about.Time.UTC().Format(zsyncTime), form.BlockSize, m.TotalSize,
		form.SeqMatches, form.RsumBytes, form.ChecksumBytes, about.Path, whole.Sum(nil))
	out = append(out, m.Zsync.Sums...)
	return append(out, sums...), nil
}

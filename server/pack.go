package server

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"aesthetic.computer/isofs/base"
	"aesthetic.computer/isofs/catalog"
	"aesthetic.computer/isofs/fault"
	"aesthetic.computer/isofs/piece"
)

// Output is where Pack writes.
type Output struct {
	Image     *os.File
	Signature *os.File                // written to if there are keys
	Written   func(done, total int64) // called as bytes of the image are written; may be nil
}

// Packed describes an image that Pack wrote.
type Packed struct {
	SHA256 base.Hash
	Time   time.Time
	Signed bool
}

// Pack writes the present image of a piece, and its signature if the Config has a signer. It compares
// what it wrote with the image's digest (fault.Corrupt). Other errors are those of OpenStack and of
// catalog.Catalog.Current.
func Pack(ctx context.Context, c StackConfig, name piece.Name, out Output) (done *Packed, err error) {
	s, err := OpenStack(ctx, c)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	snap, err := s.Catalog.Current(ctx, name)
	if err != nil {
		return nil, err
	}
	if err := writeImage(ctx, snap, out.Image, out.Written); err != nil {
		return nil, fmt.Errorf("pack %s: %w", name, err)
	}
	done = &Packed{SHA256: snap.SHA256(), Time: snap.Time(), Signed: s.Signed()}
	if done.Signed {
		text, err := snap.Sidecar(SignatureSuffix)
		if err == nil {
			_, err = out.Signature.Write(text)
		}
		if err != nil {
			return nil, fmt.Errorf("pack %s: write its signature: %w", name, err)
		}
	}
	return done, nil
}

// copyBuffer is the unit of writing an image.
const copyBuffer = 1 << 20

// writeImage writes the image at the present offset of f, and compares what it wrote with the image's
// digest. In an empty file runs of zeroes become holes.
func writeImage(ctx context.Context, snap *catalog.Snapshot, f *os.File, written func(done, total int64)) error {
	h, err := snap.Open()
	if err != nil {
		return err
	}
	defer h.Close()
	sparse := isEmpty(f)
	sum := sha256.New()
	buf := make([]byte, copyBuffer)
	for off := int64(0); off < h.Size(); {
		n, err := h.ReadAtContext(ctx, buf[:min(copyBuffer, h.Size()-off)], off)
		if err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		sum.Write(buf[:n])
		if sparse && isZero(buf[:n]) {
			_, err = f.Seek(int64(n), io.SeekCurrent)
		} else {
			_, err = f.Write(buf[:n])
		}
		if err != nil {
			return fmt.Errorf("write %s: %w", snap.FileName(), err)
		}
		off += int64(n)
		if written != nil {
			written(off, h.Size())
		}
	}
	if got := base.Hash(sum.Sum(nil)); got != snap.SHA256() {
		return fmt.Errorf("the bytes have sha256 %s, the image %s: %w", got, snap.SHA256(), fault.Corrupt)
	}
	if sparse {
		if err := f.Truncate(h.Size()); err != nil {
			return fmt.Errorf("write %s: %w", snap.FileName(), err)
		}
	}
	return nil
}

// isEmpty reports whether f is a file that nothing was written to, where zeroes can be left out.
func isEmpty(f *os.File) bool {
	fi, err := f.Stat()
	if err != nil || !fi.Mode().IsRegular() || fi.Size() != 0 {
		return false
	}
	flags, err := unix.FcntlInt(f.Fd(), unix.F_GETFL, 0)
	return err == nil && flags&unix.O_APPEND == 0
}

func isZero(p []byte) bool {
	for _, b := range p {
		if b != 0 {
			return false
		}
	}
	return true
}

package server

import (
	"encoding/hex"
	"errors"
	"fmt"
	"testing"
	"time"

	"aesthetic.computer/isofs/base"
	"aesthetic.computer/isofs/extent"
	"aesthetic.computer/isofs/image"
	"aesthetic.computer/isofs/signature"
)

// unreadable is the bytes of a base that does not exist.
type unreadable struct{ size int64 }

func (u unreadable) Size() int64                       { return u.size }
func (u unreadable) ReadAt([]byte, int64) (int, error) { return 0, errors.New("the base was read") }

func testSigner(t testing.TB) *signature.Signer {
	t.Helper()
	key, err := signature.NewKey("Test", "test@example.org", 0, time.Unix(1793491200, 0))
	if err != nil {
		t.Fatal(err)
	}
	s, err := signature.NewSigner([]signature.Secret{{Name: "test", Data: key}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// sparseBase is a base of any size that has only its manifest.
func sparseBase(size int64) image.Base {
	const slot, tail = 20 << 20, 20 << 10
	return image.Base{Bytes: unreadable{size}, Manifest: &base.Manifest{
		Version: "2026-11-01", Flavor: "tiny", Arch: "amd64", CreatedAt: "2026-11-01T00:00:00Z",
		PiecePartitionOffset: size - slot - tail, PiecePartitionSize: slot, TotalSize: size,
		SHA256: base.Hash{1}, Tail: make([]byte, tail), Midstates: base.Midstates{SHA256: hex.EncodeToString(make([]byte, 32))},
	}}
}

// newSignature does all that a new piece's signature costs: composing, the one
// pass over the slot, which the digest needs too, and signing.
func newSignature(b image.Base, s *signature.Signer, n int64) ([]byte, error) {
	html := fmt.Appendf(nil, "<p>%d</p>", n)
	img, err := image.Compose(b, image.Inputs{Piece: "notepat", Bundle: base.Hash{2}, BundleSize: int64(len(html)), Time: 1793491200 + n}, extent.Bytes(html))
	if err != nil {
		return nil, err
	}
	h, err := img.Hash()
	if err != nil {
		return nil, err
	}
	return s.Sign(h, time.Unix(1793491200+n, 0))
}

// The signature of a new piece costs the same whatever the base is.
func BenchmarkSignature(b *testing.B) {
	s := testSigner(b)
	for _, size := range []int64{64 << 20, 1 << 30, 4 << 30} {
		sparse := sparseBase(size)
		b.Run(fmt.Sprintf("new-piece/base=%dMiB", size>>20), func(b *testing.B) {
			for i := 0; b.Loop(); i++ {
				if _, err := newSignature(sparse, s, int64(i)); err != nil {
					b.Fatal(err)
				}
			}
		})
		img, err := image.Compose(sparse, image.Inputs{Piece: "notepat", Time: 1793491200}, extent.Bytes(nil))
		if err != nil {
			b.Fatal(err)
		}
		h, err := img.Hash()
		if err != nil {
			b.Fatal(err)
		}
		state, err := sparse.Manifest.ImageState(h)
		if err != nil {
			b.Fatal(err)
		}
		sum := base.Hash(h.Sum(nil))
		b.Run(fmt.Sprintf("known-piece/base=%dMiB", size>>20), func(b *testing.B) {
			for b.Loop() {
				h, err := sparse.Manifest.ResumeImage(state, sum)
				if err == nil {
					_, err = s.Sign(h, time.Unix(1793491200, 0))
				}
				if err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// Signing reads no byte of the base.
func TestSignatureReadsNothingOfTheBase(t *testing.T) {
	if _, err := newSignature(sparseBase(4<<30), testSigner(t), 1); err != nil {
		t.Error(err)
	}
}

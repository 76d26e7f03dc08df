package base

import (
	"bytes"
	"crypto/sha1"
	"crypto/sha256"
	"errors"
	"io"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/iotest"

	"aesthetic.computer/isofs/fault"
	"aesthetic.computer/isofs/partition"
)

func TestMidstateAgainstHashingFromScratch(t *testing.T) {
	data := make([]byte, 1<<16)
	_, _ = rand.NewChaCha8([32]byte{2}).Read(data)
	for _, off := range []int64{0, 64, 128, 4096, 1<<16 - 64, 1 << 16} {
		m := Manifest{PiecePartitionOffset: off}
		h256, h1 := sha256.New(), sha1.New()
		h256.Write(data[:off])
		h1.Write(data[:off])
		var err error
		if m.Midstates.SHA256, err = midstate(h256, off); err != nil {
			t.Fatal(err)
		}
		if m.Midstates.SHA1, err = midstate(h1, off); err != nil {
			t.Fatal(err)
		}
		r256, err := m.ResumeSHA256()
		if err != nil {
			t.Fatal(err)
		}
		r256.Write(data[off:])
		if want := sha256.Sum256(data); !bytes.Equal(r256.Sum(nil), want[:]) {
			t.Errorf("SHA-256 resumed at %d differs", off)
		}
		r1, err := m.ResumeSHA1()
		if err != nil {
			t.Fatal(err)
		}
		r1.Write(data[off:])
		if want := sha1.Sum(data); !bytes.Equal(r1.Sum(nil), want[:]) {
			t.Errorf("SHA-1 resumed at %d differs", off)
		}
	}
}

// FIPS 180-4 gives the initial values. So the test checks the form of a
// midstate against the standard, and not only against this package.
func TestMidstateOfNothing(t *testing.T) {
	got256, _ := midstate(sha256.New(), 0)
	got1, _ := midstate(sha1.New(), 0)
	if got256 != "6a09e667bb67ae853c6ef372a54ff53a510e527f9b05688c1f83d9ab5be0cd19" ||
		got1 != "67452301efcdab8998badcfe10325476c3d2e1f0" {
		t.Errorf("got %s and %s", got256, got1)
	}
	h := sha256.New()
	h.Write(make([]byte, 65))
	if _, err := midstate(h, 65); !errors.Is(err, fault.Invalid) {
		t.Errorf("inside a hash block: %v", err)
	}
}

func TestImageSHA256(t *testing.T) {
	d := newImage(t, standardSize, standard()...)
	m := index(t, d)
	slot := d.data[m.PiecePartitionOffset:m.SlotEnd()]
	if got, err := m.ImageSHA256(bytes.NewReader(slot)); err != nil || got != m.SHA256 {
		t.Errorf("its own slot: %s, %v, want %s", got, err, m.SHA256)
	}
	other := bytes.Repeat([]byte("notepat "), len(slot)/8)
	got, err := m.ImageSHA256(iotest.OneByteReader(bytes.NewReader(other)))
	if err != nil {
		t.Fatal(err)
	}
	copy(slot, other)
	if want := Hash(sha256.Sum256(d.data)); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	for name, tt := range map[string]struct {
		r    io.Reader
		kind error
		want string
	}{
		"empty":          {strings.NewReader(""), fault.Invalid, "ends after 0 of the 1048576"},
		"a byte short":   {bytes.NewReader(other[1:]), fault.Invalid, "ends after 1048575"},
		"a byte more":    {io.MultiReader(bytes.NewReader(other), strings.NewReader("x")), fault.Invalid, "more than the 1048576"},
		"failing":        {iotest.TimeoutReader(bytes.NewReader(other)), fault.Unavailable, "read the slot at byte"},
		"failing, known": {iotest.ErrReader(fault.Corrupt), fault.Corrupt, "read the slot at byte 0"},
	} {
		if _, err := m.ImageSHA256(tt.r); fault.Kind(err) != tt.kind || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: got %v", name, err)
		}
	}
	m.Midstates.SHA256 = "zz"
	if _, err := m.ImageSHA256(bytes.NewReader(other)); fault.Kind(err) != fault.Invalid {
		t.Errorf("bad midstate: %v", err)
	}
}

// BenchmarkImageSHA256 hashes a slot of the usual 20 MiB.
func BenchmarkImageSHA256(b *testing.B) {
	const size = 20 * mib
	m := Manifest{PiecePartitionOffset: 3 << 30, PiecePartitionSize: size, Tail: make([]byte, 33*partition.SectorSize)}
	m.Midstates.SHA256 = strings.Repeat("ab", 32)
	slot := make([]byte, size)
	b.SetBytes(size)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := m.ImageSHA256(bytes.NewReader(slot)); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkIndex hashes a base in one pass, three digests of every byte.
func BenchmarkIndex(b *testing.B) {
	const size = 256 * mib
	d := newImage(b, size, part{start: 2048, size: 2048}, part{start: (size - 21*mib) / partition.SectorSize, size: 20 * mib / partition.SectorSize, label: SlotLabel})
	b.SetBytes(size)
	for b.Loop() {
		if _, err := Index(b.Context(), d, d.size, testOptions()); err != nil {
			b.Fatal(err)
		}
	}
}

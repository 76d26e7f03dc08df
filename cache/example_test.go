package cache_test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"

	"aesthetic.computer/isofs/cache"
)

// memory is an origin that has the bytes, or so it says.
type memory struct {
	data    []byte
	fetches int
}

func (m *memory) Fetch(_ context.Context, p []byte, off int64) error {
	m.fetches++
	copy(p, m.data[off:])
	return nil
}

func (m *memory) FetchStream(ctx context.Context, p []byte, off int64, got func(n int)) error {
	err := m.Fetch(ctx, p, off)
	got(len(p))
	return err
}

func (m *memory) Wrong(off, n int64) { fmt.Printf("bytes %d to %d are wrong\n", off, off+n-1) }
func (m *memory) Sources() int       { return 1 }

// A block is fetched once, compared with its SHA-256, and kept. A wrong one is never served.
func Example() {
	data := make([]byte, 2*4096)
	copy(data, "a base")
	whole := sha256.Sum256(data)
	blob := cache.Blob{
		ID: hex.EncodeToString(whole[:]), Size: int64(len(data)), BlockSize: 4096,
		Sums: [][32]byte{sha256.Sum256(data[:4096]), sha256.Sum256(data[4096:])},
	}
	blocks, err := cache.Open(cache.Config{Memory: true, MaxBytes: 1 << 20, Fetches: 1}) // nothing is read ahead
	if err != nil {
		fmt.Println(err)
		return
	}
	defer blocks.Close()
	from := &memory{data: data}
	file, err := blocks.Blob(blob, from)
	if err != nil {
		fmt.Println(err)
		return
	}
	p := make([]byte, 6)
	for range 3 {
		_, err = file.ReadAt(p, 0)
		fmt.Printf("%q %v, fetches: %d\n", p, err, from.fetches)
	}
	data[5000] = 'x' // the origin has other bytes now
	_, err = file.ReadAt(p, 4096)
	fmt.Println(err != nil)
	// Output:
	// "a base" <nil>, fetches: 1
	// "a base" <nil>, fetches: 1
	// "a base" <nil>, fetches: 1
	// bytes 4096 to 8191 are wrong
	// bytes 4096 to 8191 are wrong
	// true
}

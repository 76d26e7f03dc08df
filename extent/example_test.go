package extent_test

import (
	"fmt"
	"io"

	"aesthetic.computer/isofs/extent"
)

// A map of three runs: four bytes of one source, four zeroes without a source,
// and four bytes from the middle of another source.
func ExampleNew() {
	base := extent.Bytes([]byte("base...."))
	piece := extent.Bytes([]byte("a piece of HTML"))
	image, err := extent.New(12, []extent.Extent{
		{Off: 0, Len: 4, Source: base},
		{Off: 4, Len: 4},
		{Off: 8, Len: 4, Source: piece, SourceOff: 11},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	data, err := io.ReadAll(io.NewSectionReader(image, 0, image.Size()))
	fmt.Printf("%q %v\n", data, err)
	for _, e := range image.Extents(2, 8) {
		fmt.Printf("%d bytes at %d, zeroes: %v\n", e.Len, e.Off, e.Source == nil)
	}
	// Output:
	// "base\x00\x00\x00\x00HTML" <nil>
	// 2 bytes at 2, zeroes: false
	// 4 bytes at 4, zeroes: true
	// 2 bytes at 8, zeroes: false
}

package ext4gen_test

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"

	"aesthetic.computer/isofs/ext4gen"
	"aesthetic.computer/isofs/extent"
)

// A volume of 1 MiB with one file. The same options and bytes always give the
// same volume.
func ExampleBuild() {
	page := extent.Bytes([]byte("<h1>notepat</h1>\n"))
	options := ext4gen.Options{Size: 1 << 20, Label: "FEDAC-PIECE", UUID: [16]byte{1}, Time: 1793491200}
	volume, err := ext4gen.Build(options, ext4gen.File{Name: "piece.html", Source: page})
	if err != nil {
		fmt.Println(err)
		return
	}
	again, _ := ext4gen.Build(options, ext4gen.File{Name: "piece.html", Source: page})
	fmt.Println(volume.Size(), "bytes, the same twice:", digest(volume) == digest(again))

	// The error for a file that does not fit says by how much.
	_, err = ext4gen.Build(options, ext4gen.File{Name: "piece.html", Source: extent.Bytes(make([]byte, 2<<20))})
	if tooBig, ok := errors.AsType[*ext4gen.TooBigError](err); ok {
		fmt.Printf("it needs %d bytes and may have %d\n", tooBig.Need, ext4gen.Capacity(options.Size))
	}
	// Output:
	// 1048576 bytes, the same twice: true
	// it needs 2097152 bytes and may have 880640
}

func digest(s extent.Source) (sum [sha256.Size]byte) {
	h := sha256.New()
	_, _ = io.Copy(h, io.NewSectionReader(s, 0, s.Size()))
	h.Sum(sum[:0])
	return sum
}

package image_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"io"

	"aesthetic.computer/isofs/extent"
	"aesthetic.computer/isofs/image"
)

// An image of a small base and a bundle. Its digest follows from the midstate
// in the manifest, without reading the base.
func ExampleCompose() {
	b, err := newBase(context.Background(), 1) // some MiB, with a manifest, as package bake makes it
	if err != nil {
		fmt.Println(err)
		return
	}
	bundle := []byte("<title>Notepat</title>\n")
	inputs := image.Inputs{
		Piece: "notepat", Title: "Notepat", Bundle: sha256.Sum256(bundle), BundleSize: int64(len(bundle)), Time: 1793491200,
	}
	img, err := image.Compose(b, inputs, extent.Bytes(bundle))
	if err != nil {
		fmt.Println(err)
		return
	}
	digest, err := img.SHA256() // reads only the slot
	if err != nil {
		fmt.Println(err)
		return
	}
	whole, err := io.ReadAll(io.NewSectionReader(img.Map, 0, img.Map.Size()))
	fmt.Println("as large as the base:", img.Map.Size() == b.Manifest.TotalSize)
	fmt.Println("the digest is that of the file:", sha256.Sum256(whole) == digest, err)
	fmt.Println("the bundle is in the slot:", bytes.Index(whole, bundle) > int(b.Manifest.PiecePartitionOffset))
	// Output:
	// as large as the base: true
	// the digest is that of the file: true <nil>
	// the bundle is in the slot: true
}

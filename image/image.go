// Package image composes a base and a bundle into an image. An image is an
// extent map with a size, an id that needs no reading, and a SHA-256 that
// follows from the base's midstate.
//
// Everything here costs O(piece): nothing of the base is read or copied.
// Bundles and bases come from packages bundle, base and cache. Package catalog
// has the present image of each piece.
package image

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"hash"
	"io"
	"time"

	"aesthetic.computer/isofs/base"
	"aesthetic.computer/isofs/ext4gen"
	"aesthetic.computer/isofs/extent"
	"aesthetic.computer/isofs/fault"
)

// LayoutVersion changes whenever Compose would give other bytes for the same
// inputs. It is an input of the id, so that an old id never names new bytes.
const LayoutVersion = 1

// VolumeLabel is the label by which a booted machine finds the slot.
const VolumeLabel = base.SlotLabel

// IDLength is the number of hex digits of an id.
const IDLength = 32

// jsonRoom is the room for piece.json in the volume: one block.
const jsonRoom = ext4gen.BlockSize

// signatureRoom is the room for its signature.
const signatureRoom = ext4gen.BlockSize

// A Base is a base whose bytes can be read.
type Base struct {
	Manifest *base.Manifest
	// Bytes are the base's, verified: Manifest.TotalSize of them.
	Bytes extent.Source
}

// Inputs are all differences between the images of one base.
type Inputs struct {
	// Piece is the piece's canonical name, Title the bundle's own title.
	Piece, Title string
	// Bundle is the SHA-256 of the bundle, BundleSize its length in bytes.
	Bundle     base.Hash
	BundleSize int64
	// Time is the snapshot's, in Unix seconds. The volume contains it, so it is
	// an input: one id never has two times.
	Time int64
	// Density is the pixel density of the piece, or 0 for the default of its
	// source.
	Density int
	// Splash is what the machine shows until the piece appears. The zero Splash
	// changes neither id nor bytes.
	Splash Splash
	// Signers names the keys that sign piece.json, or is "". PieceSignature is
	// their signature of About. The keys are an input of the id, and the
	// signature follows from them.
	Signers, PieceSignature string
}

// An Image is a base with a volume in its slot.
type Image struct {
	// Map is the whole image, Volume the contents of its slot.
	Map, Volume *extent.Map
	Manifest    *base.Manifest
}

// pieceJSON is the content of piece.json, which describes a stick. The order of
// the fields is part of the layout.
type pieceJSON struct {
	Piece        string    `json:"piece"`
	Title        string    `json:"title"`
	Snapshot     string    `json:"snapshot"`
	Time         string    `json:"time"`
	BundleSHA256 base.Hash `json:"bundleSha256"`
	BundleSize   int64     `json:"bundleSize"`
	BaseSHA256   base.Hash `json:"baseSha256"`
	BaseVersion  string    `json:"baseVersion"`
	BaseFlavor   string    `json:"baseFlavor"`
	Arch         string    `json:"arch"`
	Layout       int       `json:"layout"`
	Density      int       `json:"density,omitempty"`
	Splash       Splash    `json:"splash,omitzero"`
}

// ID returns the image's id: IDLength hex digits of a SHA-256 over all that its
// bytes depend on. These are the layout, the inputs, and the base's fields in
// piece.json. The base's digest alone is not enough, as two manifests of one
// base may differ in the other fields. Each field is preceded by its length, so
// that no two inputs run together.
func ID(m *base.Manifest, in Inputs) string {
	fields := []string{
		"isofs snapshot",
		fmt.Sprint(LayoutVersion, ".", ext4gen.LayoutVersion),
		m.SHA256.String(),
		m.Version, m.Flavor, m.Arch,
		in.Bundle.String(),
		fmt.Sprint(in.BundleSize),
		in.Piece,
		in.Title,
		fmt.Sprint(in.Time),
	}
	if in.Density != 0 {
		fields = append(fields, fmt.Sprint("density ", in.Density))
	}
	if s := in.Splash; s != (Splash{}) {
		fields = append(fields, "splash", s.Top, s.Bottom, s.Dots, s.Picture.String(), fmt.Sprint(s.PictureSize))
	}
	if in.Signers != "" {
		fields = append(fields, "signed by "+in.Signers)
	}
	h := sha256.New()
	for _, field := range fields {
		fmt.Fprintf(h, "%d:%s", len(field), field)
	}
	return hex.EncodeToString(h.Sum(nil))[:IDLength]
}

// MaxBundle returns the greatest size of a bundle in the slot of m, beside the
// block of piece.json. A signature of piece.json needs another block.
func MaxBundle(m *base.Manifest) int64 {
	return ext4gen.Capacity(m.PiecePartitionSize) - jsonRoom
}

// Compose makes the image of inputs on b. bundle has in.BundleSize bytes with
// the SHA-256 in.Bundle. picture does the same for in.Splash, if that has a
// picture. The caller has checked both, and Compose reads neither. Errors wrap
// fault.Invalid; contents that do not fit are an *ext4gen.TooBigError.
func Compose(b Base, in Inputs, bundle extent.Source, picture ...extent.Source) (*Image, error) {
	if bundle.Size() != in.BundleSize {
		return nil, fmt.Errorf("compose %s: bundle has %d bytes, not %d: %w", in.Piece, bundle.Size(), in.BundleSize, fault.Corrupt)
	}
	if err := in.Splash.check(picture); err != nil {
		return nil, fmt.Errorf("compose %s: %w", in.Piece, err)
	}
	volume, err := buildVolume(b.Manifest, in, bundle, picture)
	if err != nil {
		return nil, fmt.Errorf("compose %s: %w", in.Piece, err)
	}
	m := b.Manifest
	slot, end := m.PiecePartitionOffset, m.SlotEnd()
	extents := []extent.Extent{
		{Off: 0, Len: slot, Source: b.Bytes},
		{Off: slot, Len: m.PiecePartitionSize, Source: volume},
	}
	if len(m.Tail) > 0 {
		// The bytes behind the slot come from the manifest, as in the digest,
		// and not from the origin. So the two cannot disagree.
		extents = append(extents, extent.Extent{Off: end, Len: int64(len(m.Tail)), Source: extent.Bytes(m.Tail)})
	}
	whole, err := extent.New(m.TotalSize, extents)
	if err != nil {
		return nil, fmt.Errorf("compose %s on base %s: %w", in.Piece, m.SHA256, err)
	}
	return &Image{Map: whole, Volume: volume, Manifest: m}, nil
}

// SHA256 returns the digest of the whole image. It reads only the volume: some
// PiecePartitionSize bytes, most of them zeroes.
func (i *Image) SHA256() (base.Hash, error) {
	h, err := i.Hash()
	if err != nil {
		return base.Hash{}, err
	}
	return base.Hash(h.Sum(nil)), nil
}

// Hash returns a SHA-256 over the whole image, from which a signature
// continues. It reads as much as SHA256.
func (i *Image) Hash() (hash.Hash, error) {
	return i.Manifest.ImageHash(io.NewSectionReader(i.Volume, 0, i.Volume.Size()))
}

// About is the content of piece.json, which describes a stick.
func About(m *base.Manifest, in Inputs) ([]byte, error) {
	about, err := json.MarshalIndent(pieceJSON{
		Piece: in.Piece, Title: in.Title, Snapshot: ID(m, in),
		Time:         time.Unix(in.Time, 0).UTC().Format(time.RFC3339),
		BundleSHA256: in.Bundle, BundleSize: in.BundleSize,
		BaseSHA256: m.SHA256, BaseVersion: m.Version, BaseFlavor: m.Flavor, Arch: m.Arch,
		Layout: LayoutVersion, Density: in.Density, Splash: in.Splash,
	}, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("write piece.json: %w: %w", fault.Invalid, err)
	}
	about = append(about, '\n')
	if len(about) > jsonRoom {
		return nil, fmt.Errorf("piece.json has %d bytes, more than %d: %w", len(about), jsonRoom, fault.Invalid)
	}
	return about, nil
}

func buildVolume(m *base.Manifest, in Inputs, bundle extent.Source, picture []extent.Source) (*extent.Map, error) {
	id := ID(m, in)
	about, err := About(m, in)
	if err != nil {
		return nil, err
	}
	files := []ext4gen.File{
		{Name: "piece.html", Source: bundle},
		{Name: "piece.json", Source: extent.Bytes(about)},
	}
	for _, p := range picture {
		files = append(files, ext4gen.File{Name: PictureFile, Source: p})
	}
	if (in.Signers == "") != (in.PieceSignature == "") {
		return nil, fmt.Errorf("piece.json is signed by %q, and its signature has %d bytes: %w", in.Signers, len(in.PieceSignature), fault.Invalid)
	}
	if in.PieceSignature != "" {
		if len(in.PieceSignature) > signatureRoom {
			return nil, fmt.Errorf("the signature of piece.json has %d bytes, more than %d: give fewer signing keys: %w", len(in.PieceSignature), signatureRoom, fault.Invalid)
		}
		files = append(files, ext4gen.File{Name: "piece.json.asc", Source: extent.Bytes([]byte(in.PieceSignature))})
	}
	return ext4gen.Build(ext4gen.Options{
		Size:     m.PiecePartitionSize,
		Label:    VolumeLabel,
		UUID:     derivedUUID("volume", id),
		HashSeed: derivedUUID("hash seed", id),
		Time:     in.Time,
	}, files...)
}

// derivedUUID is a version 8 UUID (RFC 9562, section 5.8) from a purpose and an
// id.
func derivedUUID(purpose, id string) [16]byte {
	sum := sha256.Sum256([]byte("isofs " + purpose + " " + id))
	var u [16]byte
	copy(u[:], sum[:])
	u[6] = u[6]&0x0f | 0x80
	u[8] = u[8]&0x3f | 0x80
	return u
}

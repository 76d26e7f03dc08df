package bake

import (
	"crypto/sha256"
	_ "embed" // the placeholder
	"encoding/hex"
	"encoding/json"

	"aesthetic.computer/isofs/base"
	"aesthetic.computer/isofs/ext4gen"
	"aesthetic.computer/isofs/extent"
)

// slotSize is the image contract's size of a slot: 20 MiB, in bytes.
const slotSize = 20 << 20

// placeholderHTML is the page of a base without a piece.
//
//go:embed placeholder.html
var placeholderHTML []byte

// placeholder makes the volume of the empty slot, in the same way as a piece's.
func (j *job) placeholder(baseID string) (*extent.Map, error) {
	sum := sha256.Sum256(placeholderHTML)
	about, err := json.Marshal(map[string]any{
		"piece":  nil,
		"base":   baseID,
		"bundle": hex.EncodeToString(sum[:]),
		"time":   j.time(),
	})
	if err != nil {
		return nil, err
	}
	id := sha256.Sum256(append([]byte("isofs placeholder\x00"), about...))
	o := ext4gen.Options{Size: slotSize, Label: base.SlotLabel, UUID: [16]byte(id[:16]), HashSeed: [16]byte(id[16:]), Time: j.SourceDateEpoch}
	return ext4gen.Build(o,
		ext4gen.File{Name: "piece.html", Source: extent.Bytes(placeholderHTML)},
		ext4gen.File{Name: "piece.json", Source: extent.Bytes(append(about, '\n'))})
}

package bundle

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"image/png"
)

// Limits of a picture. It shares a slot of some MiB, and the server and the
// booting machine unpack it into memory.
const (
	maxPicture     = 256 << 10 // bytes of the file
	maxPictureSide = 1920
	maxPixels      = 1920 * 1080
)

const pngSignature = "\x89PNG\r\n\x1a\n"

var errPictureSize = fmt.Errorf("it has more than %d bytes", maxPicture)

// A picture is a PNG file that can be shown.
type picture struct {
	data []byte
	sum  [32]byte
}

// readPicture checks that data is a PNG within the limits that unpacks, and
// keeps only what its pixels need. It copies the compressed bytes, so that
// every version of isofs gives the same picture.
func readPicture(data []byte) (picture, error) {
	if len(data) > maxPicture {
		return picture{}, errPictureSize
	}
	data, err := barePNG(data)
	if err != nil {
		return picture{}, err
	}
	about, err := png.DecodeConfig(bytes.NewReader(data))
	if err != nil {
		return picture{}, err
	}
	// Neither is negative or 0, and no product of two such overflows.
	if about.Width > maxPictureSide || about.Height > maxPictureSide || about.Width*about.Height > maxPixels {
		return picture{}, fmt.Errorf("it has %d x %d pixels: at most %d a side and %d in all",
			about.Width, about.Height, maxPictureSide, maxPixels)
	}
	if _, err := png.Decode(bytes.NewReader(data)); err != nil {
		return picture{}, err
	}
	return picture{data, sha256.Sum256(data)}, nil
}

// barePNG returns the chunks of a PNG that its pixels need. A machine that is
// just starting has no use for texts, profiles and times, and its libpng need
// not parse them.
func barePNG(data []byte) ([]byte, error) {
	rest, ok := bytes.CutPrefix(data, []byte(pngSignature))
	if !ok {
		return nil, errors.New("it is not a PNG")
	}
	bare := []byte(pngSignature)
	for len(rest) >= 12 {
		length := uint64(binary.BigEndian.Uint32(rest))
		if length > uint64(len(rest)-12) {
			break
		}
		chunk := rest[:12+length]
		rest = rest[12+length:]
		switch string(chunk[4:8]) {
		case "IHDR", "PLTE", "tRNS", "IDAT":
			bare = append(bare, chunk...)
		case "IEND":
			return append(bare, chunk...), nil
		}
	}
	return nil, errors.New("it is cut off")
}

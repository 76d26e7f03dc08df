package sidecar

import (
	"bytes"
	"encoding/xml"
	"fmt"

	"aesthetic.computer/isofs/fault"
	"aesthetic.computer/isofs/image"
)

// metalinkHash is roughly the length of a piece's line, to reserve memory.
const metalinkHash = 86

// Metalink returns the Metalink (RFC 5854) of an image: its digest, its
// addresses, and the SHA-256 of each piece. With these a client finds a wrong
// part, and fetches only that again. A piece is a block of the manifest. It
// returns fault.NotFound unless HasBlocks, and without about.Servers, since a
// Metalink has only absolute URLs.
func Metalink(img *image.Image, about About) ([]byte, error) {
	m := img.Manifest
	if !HasBlocks(m) {
		return nil, noBlocks(m)
	}
	if len(about.Servers) == 0 {
		return nil, fmt.Errorf("a Metalink needs the address of a server (--public-url): %w", fault.NotFound)
	}
	out := make([]byte, 0, 4096+len(m.Blocks)*metalinkHash)
	out = fmt.Appendf(out, `<?xml version="1.0" encoding="UTF-8"?>
<metalink xmlns="urn:ietf:params:xml:ns:metalink">
  <published>%s</published>
  <file name="%s">
    <size>%d</size>
    <hash type="sha-256">%s</hash>
    <pieces length="%d" type="sha-256">
`, about.Time.UTC().Format("2006-01-02T15:04:05Z"), escaped(about.FileName), m.TotalSize, about.SHA256, m.BlockSize)
	for _, h := range m.Blocks[:m.PiecePartitionOffset/m.BlockSize] {
		out = append(out, "      <hash>"...)
		out, _ = h.AppendText(out)
		out = append(out, "</hash>\n"...)
	}
	sums := newSummer(m.BlockSize)
	err := own(img, m.BlockSize, func(p []byte) { out = fmt.Appendf(out, "      <hash>%s</hash>\n", sums.sum(p)) })
	if err != nil {
		return nil, err
	}
	out = append(out, "    </pieces>\n"...)
	for i, server := range about.Servers {
		out = fmt.Appendf(out, "    <url priority=\"%d\">%s</url>\n", i+1, escaped(server+about.Path))
	}
	return append(out, "  </file>\n</metalink>\n"...), nil
}

// escaped is s as text of an XML file.
func escaped(s string) string {
	var b bytes.Buffer
	_ = xml.EscapeText(&b, []byte(s)) // a Buffer never fails
	return b.String()
}

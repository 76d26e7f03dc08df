package api

import (
	"fmt"
	"html/template"
	"strings"

	"rsc.io/qr"
)

// drawings are the pages' pictures, a character per pixel: # has the colour of
// the text, o the accent, . is empty.
var drawings = map[string][]string{
	"download": {
		"......oo......",
		"......oo......",
		"......oo......",
		"......oo......",
		"...o..oo..o...",
		"...oo.oo.oo...",
		"....oooooo....",
		".....oooo.....",
		"......oo......",
		"..............",
		".##........##.",
		".##........##.",
		".############.",
		".############.",
	},
	"stick": {
		".....####.....",
		".....#oo#.....",
		".....#..#.....",
		".....####.....",
		"...########...",
		"...########...",
		"...###oo###...",
		"...##oooo##...",
		"...##oooo##...",
		"...###oo###...",
		"...########...",
		"...########...",
		"....######....",
		"......##......",
	},
	"plug": {
		"##############",
		"#............#",
		"#.o..........#",
		"#..o.........#",
		"#.o..oo......#",
		"#............#",
		"#............#",
		"##############",
		".....####.....",
		"..##########..",
		"..............",
		"oo.##########.",
		"oooo.........#",
		"oo.##########.",
	},
	"play": {
		"##############",
		"#............#",
		"#..oo........#",
		"#..oooo......#",
		"#..oooooo....#",
		"#..oooooooo..#",
		"#..oooooo....#",
		"#..oooo......#",
		"#..oo........#",
		"#............#",
		"##############",
		".....####.....",
		"...########...",
		"..............",
	},
}

// draw returns a drawing as an SVG that screen readers skip.
func draw(name string) (template.HTML, error) {
	rows, ok := drawings[name]
	if !ok {
		return "", fmt.Errorf("there is no drawing %q", name)
	}
	at := func(c byte) func(x, y int) bool { return func(x, y int) bool { return rows[y][x] == c } }
	size := len(rows)
	return template.HTML(fmt.Sprintf(`<svg class="pixels" viewBox="0 0 %d %d" aria-hidden="true"><path d="%s"/><path class="hot" d="%s"/></svg>`,
		len(rows[0]), size, runs(len(rows[0]), size, at('#')), runs(len(rows[0]), size, at('o')))), nil
}

// quiet is the white border that a reader of QR codes needs, in modules.
const quiet = 4

// drawQR returns text, a URL, as a QR code in an SVG.
func drawQR(text string) (template.HTML, error) {
	code, err := qr.Encode(text, qr.M)
	if err != nil {
		return "", fmt.Errorf("draw %.100q as a QR code: %w", text, err)
	}
	size := code.Size + 2*quiet
	black := func(x, y int) bool { return code.Black(x-quiet, y-quiet) }
	return template.HTML(fmt.Sprintf(`<svg class="qr" viewBox="0 0 %d %[1]d" role="img" aria-label="QR code of %[2]s"><path class="paper" d="M0 0h%[1]dv%[1]dH0z"/><path d="%[3]s"/></svg>`,
		size, template.HTMLEscapeString(text), runs(size, size, black))), nil
}

// runs is the SVG path of all set pixels: a rectangle for each horizontal run.
func runs(width, height int, on func(x, y int) bool) string {
	var path strings.Builder
	for y := range height {
		for x := 0; x < width; x++ {
			start := x
			for x < width && on(x, y) {
				x++
			}
			if n := x - start; n > 0 {
				fmt.Fprintf(&path, "M%d %dh%dv1h-%dz", start, y, n, n)
			}
		}
	}
	return path.String()
}

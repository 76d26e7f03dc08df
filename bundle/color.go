package bundle

import (
	"fmt"
	"image/color"
	"strconv"
	"strings"
)

// readColors reads one to three colours: the background's top, its bottom, and
// the dots. It derives missing ones from the first: a darker bottom, and dots
// with enough contrast.
func readColors(text string) (top, bottom, dots string, err error) {
	var colors []color.RGBA
	for _, word := range colorWords(text) {
		c, err := readColor(word)
		if err != nil {
			return "", "", "", err
		}
		if colors = append(colors, c); len(colors) > 3 {
			return "", "", "", fmt.Errorf("there are more than three colours in %.60q", text)
		}
	}
	if len(colors) == 0 {
		return "", "", "", fmt.Errorf("there is no colour in %.60q", text)
	}
	first := colors[0]
	if len(colors) < 2 {
		colors = append(colors, mix(first, color.RGBA{}, 45))
	}
	if len(colors) < 3 {
		white := color.RGBA{R: 255, G: 255, B: 255}
		if bright := 299*int(first.R) + 587*int(first.G) + 114*int(first.B); bright > 140_000 {
			colors = append(colors, mix(first, color.RGBA{}, 75))
		} else {
			colors = append(colors, mix(first, white, 80))
		}
	}
	return hexColor(colors[0]), hexColor(colors[1]), hexColor(colors[2]), nil
}

// colorWords splits at white space, but not within parentheses.
func colorWords(text string) []string {
	depth := 0
	return strings.FieldsFunc(text, func(r rune) bool {
		switch r {
		case '(':
			depth++
		case ')':
			depth--
		case ' ', '\t', '\r', '\n', '\f':
			return depth <= 0
		}
		return false
	})
}

// readColor reads #rgb, #rrggbb, rgb(r, g, b) with numbers or percentages, and
// the names of CSS.
func readColor(word string) (color.RGBA, error) {
	word = strings.ToLower(word)
	if digits, ok := strings.CutPrefix(word, "#"); ok {
		if len(digits) == 3 {
			digits = string([]byte{digits[0], digits[0], digits[1], digits[1], digits[2], digits[2]})
		}
		n, err := strconv.ParseUint(digits, 16, 24)
		if err == nil && len(digits) == 6 {
			return rgb(uint32(n)), nil
		}
	}
	if inner, ok := strings.CutPrefix(word, "rgb("); ok && strings.HasSuffix(inner, ")") {
		if c, ok := readRGB(strings.TrimSuffix(inner, ")")); ok {
			return c, nil
		}
	}
	if n, ok := colorNames[word]; ok {
		return rgb(n), nil
	}
	return color.RGBA{}, fmt.Errorf("%.40q is not a colour of the forms #rgb, #rrggbb, rgb(r, g, b) or a name", word)
}

// rgb is the colour of 0xRRGGBB.
func rgb(n uint32) color.RGBA {
	return color.RGBA{R: uint8(n >> 16), G: uint8(n >> 8), B: uint8(n)}
}

// readRGB reads three numbers of 0 to 255 or percentages, with commas or spaces
// between them.
func readRGB(text string) (color.RGBA, bool) {
	parts := strings.FieldsFunc(text, func(r rune) bool { return strings.ContainsRune(", \t\r\n\f", r) })
	if len(parts) != 3 {
		return color.RGBA{}, false
	}
	var v [3]uint8
	for i, part := range parts {
		number, percent := strings.CutSuffix(part, "%")
		n, err := strconv.ParseUint(number, 10, 8)
		if err != nil || percent && n > 100 {
			return color.RGBA{}, false
		}
		if percent {
			n = n * 255 / 100
		}
		v[i] = uint8(n)
	}
	return color.RGBA{R: v[0], G: v[1], B: v[2]}, true
}

// mix returns c with the given percentage of another colour.
func mix(c, with color.RGBA, percent int) color.RGBA {
	one := func(a, b uint8) uint8 { return uint8((int(a)*(100-percent) + int(b)*percent) / 100) }
	return color.RGBA{R: one(c.R, with.R), G: one(c.G, with.G), B: one(c.B, with.B)}
}

func hexColor(c color.RGBA) string { return fmt.Sprintf("#%02x%02x%02x", c.R, c.G, c.B) }

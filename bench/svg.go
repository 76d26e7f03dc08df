package main

import (
	"fmt"
	"html"
	"strings"
)

// svg draws the medians of one case as bars, in colours that are readable on
// dark and on light.
func (r *results) svg(name, title string) string {
	var bars []*row
	longest := 1.0
	for _, x := range r.rows {
		if x.name == name && x.unit == "MB/s" {
			bars = append(bars, x)
			longest = max(longest, median(x.values))
		}
	}
	const left, width, step = 230, 400, 26
	var b strings.Builder
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" font-family="sans-serif" font-size="13">
<style>text{fill:#24292f}@media(prefers-color-scheme:dark){text{fill:#e6edf3}}</style>
<text x="8" y="20" font-weight="bold">%s</text>
`, left+width+80, 40+step*len(bars), html.EscapeString(title))
	for i, x := range bars {
		y, value := 34+i*step, median(x.values)
		colour := "#8b949e"
		if strings.HasPrefix(x.peer, "isofs") {
			colour = "#2f81f7"
		}
		fmt.Fprintf(&b, `<text x="%d" y="%d" text-anchor="end">%s</text><rect x="%d" y="%d" width="%.1f" height="18" rx="2" fill="%s"/><text x="%.1f" y="%d">%.0f</text>
`, left-8, y+14, html.EscapeString(x.peer), left, y, value/longest*width, colour, left+value/longest*width+6, y+14, value)
	}
	return b.String() + "</svg>\n"
}

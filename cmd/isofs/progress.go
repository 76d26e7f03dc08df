package main

import (
	"os"

	"github.com/schollz/progressbar/v3"
	"golang.org/x/term"
)

// progressBar returns a function that shows how many bytes are done, and one
// that ends the line. On anything but a terminal both do nothing.
func progressBar(what string) (show func(done, total int64), end func()) {
	if !term.IsTerminal(int(os.Stderr.Fd())) {
		return func(int64, int64) {}, func() {}
	}
	var bar *progressbar.ProgressBar
	show = func(done, total int64) {
		if bar == nil {
			bar = progressbar.NewOptions64(total,
				progressbar.OptionSetWriter(os.Stderr),
				progressbar.OptionSetDescription(what),
				progressbar.OptionShowBytes(true),
				progressbar.OptionClearOnFinish(),
			)
		}
		_ = bar.Set64(done) // only ever fails by writing to the terminal
	}
	end = func() {
		if bar != nil {
			_ = bar.Finish()
		}
	}
	return show, end
}

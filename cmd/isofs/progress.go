package main

import (
	"fmt"
	"io"
	"os"

	"github.com/schollz/progressbar/v3"
	"github.com/spf13/cobra"
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

// steps show the names of the steps of something long, and a bar for each.
type steps struct {
	to        io.Writer
	what, now string
	bar       func(done, total int64)
	endBar    func()
}

// show shows the progress of a step.
func (s *steps) show(step string, done, total int64) {
	if step != s.now {
		s.end()
		s.now = step
		fmt.Fprintf(s.to, "%s: %s\n", s.what, step)
		s.bar, s.endBar = progressBar(step)
	}
	s.bar(done, total)
}

// end ends the last bar.
func (s *steps) end() {
	if s.endBar != nil {
		s.endBar()
		s.endBar = nil
	}
}

// reportTo returns where a command reports: standard output, unless that gets the
// result.
func reportTo(cmd *cobra.Command, taken bool) io.Writer {
	if taken {
		return cmd.ErrOrStderr()
	}
	return cmd.OutOrStdout()
}

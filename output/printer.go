package output

import (
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"
)

// A Printer is what a command prints to. It remembers the first error: most code prints
// without looking at errors, and the exit status has to say that something was not
// printed.
type Printer struct {
	to  io.Writer
	err error
}

// NewPrinter returns a Printer to a file or another writer.
func NewPrinter(to io.Writer) *Printer { return &Printer{to: to} }

// Write implements io.Writer. After an error nothing more is written.
func (p *Printer) Write(b []byte) (int, error) {
	if p.err != nil {
		return 0, p.err
	}
	n, err := p.to.Write(b)
	p.note(err)
	return n, p.err
}

// note remembers an error. It does not wrap the system's error, which is not about the
// disk where isofs keeps things.
func (p *Printer) note(err error) {
	if err != nil && p.err == nil {
		p.err = &PrintError{err}
	}
}

// A PrintError says that standard output did not take all of a command's output.
type PrintError struct{ cause error }

func (e *PrintError) Error() string {
	return fmt.Sprintf("standard output did not take all of the output: %v", e.cause)
}

// Close closes what it writes to, if that is a file, and joins any failure of printing to
// err, a command's own error. Some file systems report only then that they are full.
func (p *Printer) Close(err error) error {
	if f, ok := p.to.(*os.File); ok {
		// Without a standard output there was nothing to print, or an error before.
		if closed := f.Close(); !errors.Is(closed, syscall.EBADF) {
			p.note(closed)
		}
	}
	if p.err == nil || errors.Is(err, p.err) {
		return err
	}
	return errors.Join(err, p.err)
}

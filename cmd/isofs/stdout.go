package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"
)

// A printer is what commands print to. It remembers the first error, since
// most of them print without looking, and what was not printed was not done:
// whoever called goes by the exit status.
type printer struct {
	to  io.Writer
	err error
}

// Write implements io.Writer. After an error nothing more is written.
func (p *printer) Write(b []byte) (int, error) {
	if p.err != nil {
		return 0, p.err
	}
	n, err := p.to.Write(b)
	p.note(err)
	return n, p.err
}

// note remembers an error. It is none of the disk that isofs keeps things on, so
// the error of the system does not show through.
func (p *printer) note(err error) {
	if err != nil && p.err == nil {
		p.err = &printError{err}
	}
}

// A printError says that what a command has to say was not printed.
type printError struct{ cause error }

func (e *printError) Error() string {
	return fmt.Sprintf("not all that was to be printed could be written to standard output: %v", e.cause)
}

// end joins what went wrong with printing to a command's own error. Some file
// systems say only at the end that there was no room.
func (p *printer) end(err error) error {
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

package boottest

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"aesthetic.computer/isofs/fault"
)

// answerPatience is the longest wait for a server's answer.
const answerPatience = 30 * time.Second

// isAddress reports whether an image is an address, and not a path.
func isAddress(image string) bool {
	return strings.HasPrefix(image, "http://") || strings.HasPrefix(image, "https://")
}

// find checks that the image exists, and sets QEMU's name for it. In a path
// without a leading slash, QEMU takes the part before a colon for a protocol.
func (o *Options) find(ctx context.Context) (err error) {
	if isAddress(o.Image) {
		o.drives = o.Image
		return o.ask(ctx)
	}
	if o.drives, err = filepath.Abs(o.Image); err != nil {
		return fmt.Errorf("%w: %w", fault.Invalid, err)
	}
	fi, err := os.Stat(o.drives)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return fmt.Errorf("%w: %w", fault.NotFound, err)
	case err != nil:
		return fmt.Errorf("%w: %w", fault.Invalid, err)
	case fi.IsDir():
		return fmt.Errorf("that is a folder: name the image in it: %w", fault.Invalid)
	case !fi.Mode().IsRegular() && fi.Mode().Type() != fs.ModeDevice:
		return fmt.Errorf("that is neither a file nor a disk (%v): %w", fi.Mode(), fault.Invalid)
	}
	f, err := os.OpenFile(o.drives, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return fmt.Errorf("%w: %w", fault.Invalid, err)
	}
	return f.Close()
}

// ask checks that a server has the image, and sends parts of it, as QEMU reads
// parts.
func (o *Options) ask(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, answerPatience)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodHead, o.Image, nil)
	if err != nil {
		if e, ok := errors.AsType[*url.Error](err); ok {
			err = e.Err // its own text repeats the address
		}
		return fmt.Errorf("that is not an address: %w: %w", fault.Invalid, err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return fmt.Errorf("ask the server: %w: %w", fault.Unavailable, err)
	}
	resp.Body.Close()
	switch {
	case resp.StatusCode == http.StatusNotFound || resp.StatusCode == http.StatusGone:
		return fmt.Errorf("the server answers %s: %w", resp.Status, fault.NotFound)
	case resp.StatusCode != http.StatusOK:
		return fmt.Errorf("the server answers %s: %w", resp.Status, fault.Unavailable)
	case resp.Header.Get("Accept-Ranges") != "bytes" || resp.ContentLength <= 0:
		return fmt.Errorf("the server sends no parts of it (Accept-Ranges, Content-Length), which a machine needs: download it, and name the file: %w", fault.Invalid)
	}
	return nil
}

// Package boottest boots an image in a machine of QEMU and judges what appears:
// lines on the serial port, and a color on the screen.
//
// It boots an image in every way that it must support (package bake,
// docs/design/image.md): as a stick, a disk or a CD-ROM, by UEFI, with Secure
// Boot or without, or by BIOS. It reports when the splash and when the piece
// appeared, keeps pictures of the screen, and ends the machine in every case.
//
// It judges a picture only by one color, and reads only lines that begin with
// ISOFS-.
package boottest

import (
	"context"
	"errors"
	"fmt"
	"image/color"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"time"

	"aesthetic.computer/isofs/fault"
)

// Media are the ways to attach an image: a USB stick, a disk of virtio or SATA,
// a CD-ROM drive of SATA or virtio. tiny has the kernel for clouds, which
// supports only virtio.
var Media = []string{"usb", "disk", "sata", "cd", "virtio-cd"}

// Firmwares are the programs that start the image. secureboot is UEFI with
// Microsoft's keys.
var Firmwares = []string{"uefi", "secureboot", "bios"}

// Accelerators are the ways to run the machine: by KVM, emulated (tcg), or by
// KVM if a trial shows that it runs this image.
var Accelerators = []string{"auto", "kvm", "tcg"}

// Options are the inputs of Run.
type Options struct {
	Image    string // path, or address of http or https
	As       string // one of Media; "": usb
	Firmware string // one of Firmwares; "": uefi
	Accel    string // one of Accelerators; "": auto
	Memory   int    // MiB; 0: 2048
	Timeout  time.Duration
	Expect   Expect
	Shots    string // folder for pictures of the screen; "": none are kept

	drives string // QEMU's name of the image
}

// Expect is what must appear. All set fields must, in any order.
type Expect struct {
	Piece    string           // the name in the line ISOFS-JSON
	Serial   []*regexp.Regexp // for each a line on the serial port; ISOFS-FAIL too, if it is expected
	Color    *color.RGBA      // of the screen
	Fraction float64          // of the screen that has Color, above 0 up to 1
}

// A Result is what appeared. Times are seconds since the start of the machine.
type Result struct {
	Image    string   `json:"image"`
	As       string   `json:"as"`
	Firmware string   `json:"firmware"`
	Accel    string   `json:"accel"` // kvm or tcg
	Passed   bool     `json:"passed"`
	Reason   string   `json:"reason"` // why it failed; "" if passed
	Times    Times    `json:"times"`
	Checks   []Check  `json:"expected"`
	Shots    []Shot   `json:"screenshots"`
	Serial   []string `json:"serial"` // the lines that begin with ISOFS-, and the last others
}

// Times are those of first appearances, or null.
type Times struct {
	Handover *float64 `json:"handover"` // the firmware starts the image's loader
	Splash   *float64 `json:"splash"`   // the first picture after that; text does not count
	Piece    *float64 `json:"piece"`    // all that was expected
	End      float64  `json:"end"`
}

// A Check is one expectation.
type Check struct {
	What string   `json:"what"`
	Seen *float64 `json:"seen"`
}

// A Shot is a picture of the screen.
type Shot struct {
	Path string  `json:"path"`
	Why  string  `json:"why"` // splash, change, piece or end
	At   float64 `json:"at"`
}

// Run boots the image and watches until all expectations are met, the machine
// reports a failure, or the time is over. If the machine does not meet them,
// the Result has not passed, and the error is nil.
//
// Errors are fault.Invalid for impossible options, fault.NotFound for a missing
// image, QEMU or firmware, fault.Unavailable for a machine that cannot be run,
// and ctx.
func Run(ctx context.Context, o Options) (*Result, error) {
	if err := o.complete(); err != nil {
		return nil, fmt.Errorf("boot %s: %w", o.Image, err)
	}
	if err := o.find(ctx); err != nil {
		return nil, fmt.Errorf("boot %s: %w", o.Image, err)
	}
	// The machine dies with the thread that started it, so this goroutine keeps
	// its thread.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	dir, err := scratch()
	if err != nil {
		return nil, fmt.Errorf("boot %s: %w", o.Image, err)
	}
	defer os.RemoveAll(dir)
	r, err := o.run(ctx, dir)
	if err != nil && fault.Kind(err) == nil {
		err = fmt.Errorf("%w: %w", fault.Unavailable, err)
	}
	if err != nil {
		return nil, fmt.Errorf("boot %s: %w", o.Image, err)
	}
	return r, nil
}

// maxSocket bounds the path of a socket (unix(7)). monitorTail follows the
// scratch directory in it.
const (
	maxSocket   = 107
	monitorTail = "/tcg-0123456789/qmp"
)

// scratch makes a directory for the machine's files. QEMU gets their names.
func scratch() (string, error) {
	tmp, err := filepath.Abs(os.TempDir())
	if err != nil {
		return "", fmt.Errorf("%w: %w", fault.Unavailable, err)
	}
	dir, err := os.MkdirTemp(tmp, "isofs-boot-")
	if err != nil {
		return "", fmt.Errorf("%w: %w", fault.Unavailable, err)
	}
	if len(dir)+len(monitorTail) > maxSocket {
		return "", errors.Join(fmt.Errorf("the path of TMPDIR is too long for QEMU's socket in it, %s: set a shorter one: %w", tmp, fault.Invalid), os.Remove(dir))
	}
	return dir, nil
}

func (o *Options) run(ctx context.Context, dir string) (*Result, error) {
	accel := o.Accel
	if accel == "auto" {
		accel = "tcg"
		if o.kvmRuns(ctx, dir) {
			accel = "kvm"
		}
	}
	m, err := o.start(ctx, dir, accel)
	if err != nil {
		return nil, err
	}
	defer m.stop()
	w := newWatch(o.Expect, o.Shots)
	limit, cancel := context.WithTimeout(ctx, o.Timeout)
	defer cancel()
	reason, err := w.watch(limit, m)
	if err != nil {
		return nil, err
	}
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	if reason == ended {
		m.stop()
		if err := m.complaint(); err != nil {
			return nil, err
		}
	}
	if reason == "" {
		reason = fmt.Sprintf("not seen within %s", o.Timeout)
	}
	r := w.result(reason)
	r.Image, r.As, r.Firmware, r.Accel = o.Image, o.As, o.Firmware, accel
	return r, nil
}

// complete fills in the defaults and checks the rest.
func (o *Options) complete() error {
	for _, f := range []struct {
		value *string
		what  string
		of    []string
	}{{&o.As, "medium", Media}, {&o.Firmware, "firmware", Firmwares}, {&o.Accel, "accelerator", Accelerators}} {
		if *f.value == "" {
			*f.value = f.of[0]
		}
		if !slices.Contains(f.of, *f.value) {
			return fmt.Errorf("%s %.40q must be one of %s: %w", f.what, *f.value, strings.Join(f.of, ", "), fault.Invalid)
		}
	}
	if o.Memory == 0 {
		o.Memory = 2048
	}
	if o.Memory < 128 || o.Memory > 1<<20 {
		return fmt.Errorf("memory of %d MiB is not in 128..%d: %w", o.Memory, 1<<20, fault.Invalid)
	}
	if o.Timeout <= 0 {
		return fmt.Errorf("a timeout of %s is none: %w", o.Timeout, fault.Invalid)
	}
	e := o.Expect
	if e.Piece == "" && len(e.Serial) == 0 && e.Color == nil {
		return fmt.Errorf("nothing is expected: name a piece, a line on the serial port or a color: %w", fault.Invalid)
	}
	if e.Color != nil && (e.Fraction <= 0 || e.Fraction > 1) {
		return fmt.Errorf("fraction %g of the screen is not above 0 and up to 1: %w", e.Fraction, fault.Invalid)
	}
	if o.Shots != "" {
		if err := os.MkdirAll(o.Shots, 0o755); err != nil {
			return fmt.Errorf("make the folder of screenshots: %w: %w", fault.Invalid, err)
		}
	}
	return nil
}

package main

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"image/color"
	"regexp"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"aesthetic.computer/isofs/boottest"
	"aesthetic.computer/isofs/output"
	"aesthetic.computer/isofs/settings"
)

// bootFlags are the flags of boot-test before they are parsed.
type bootFlags struct {
	serial      []string
	color, json string
}

func newBootTest() *cobra.Command {
	o := boottest.Options{}
	var f bootFlags
	cmd := &cobra.Command{
		Use:   "boot-test IMAGE",
		Short: "Boot an image in a machine of QEMU and judge what it shows",
		Long: `boot-test boots IMAGE, a file or an address of http or https, and watches the serial port
and the screen until all that is expected was seen. What it saw is printed as JSON: times
in seconds to the firmware's end, to the splash and to the piece, the pictures it kept, the
lines that begin with ISOFS-. The exit status is 0 only if all that is expected was seen.

The image is not changed. KVM is used if a short trial shows that this image's kernel runs
by it, and emulation, which takes several times as long, if not.`,
		Example: `  isofs boot-test notepat-os.iso --piece notepat
  isofs boot-test http://127.0.0.1:8080/notepat-os.iso --as cd --firmware bios --piece notepat
  isofs boot-test notepat-os.iso --expect-color '#ff6ec7' --fraction 0.6 --screenshots shots`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			o.Image = args[0]
			if err := f.parse(&o.Expect); err != nil {
				return err
			}
			return runBootTest(cmd, o, f.json)
		},
	}
	flags := cmd.Flags()
	settings.ChoiceVar(flags, &o.As, "as", "usb", boottest.Media, "how the image is attached: "+strings.Join(boottest.Media, ", ")+"; the base tiny knows disk and virtio-cd only")
	settings.ChoiceVar(flags, &o.Firmware, "firmware", "uefi", boottest.Firmwares, "what starts it: "+strings.Join(boottest.Firmwares, ", "))
	settings.ChoiceVar(flags, &o.Accel, "accel", "auto", boottest.Accelerators, "how the machine runs: "+strings.Join(boottest.Accelerators, ", "))
	flags.IntVar(&o.Memory, "memory", 2048, "the machine's memory in MiB")
	settings.DurationVar(flags, &o.Timeout, "timeout", 240*time.Second, "how long to watch")
	flags.StringVar(&o.Expect.Piece, "piece", "", "expect that the machine names this piece on its serial port (ISOFS-JSON)")
	flags.StringArrayVar(&f.serial, "expect-serial", nil, "expect a line on the serial port, a regular expression (repeatable); a boot that is to fail names its ISOFS-FAIL")
	flags.StringVar(&f.color, "expect-color", "", "expect a color on the screen, such as '#ff6ec7'")
	flags.Float64Var(&o.Expect.Fraction, "fraction", 0.6, "how much of the screen must have the color")
	flags.StringVar(&o.Shots, "screenshots", "", "folder for pictures of the screen: the splash, changes, the end")
	flags.StringVar(&f.json, "json", "", "write the result to this file too")
	return cmd
}

// runBootTest boots and prints the result, also to the file to.
func runBootTest(cmd *cobra.Command, o boottest.Options, to string) error {
	var kept *output.File
	if to != "" && to != output.Standard { // standard output gets it anyway
		var err error
		if kept, err = output.Create(cmd.Context(), to); err != nil {
			return fmt.Errorf("--json: %w", err)
		}
		defer kept.Abort()
	}
	r, err := boottest.Run(cmd.Context(), o)
	if err != nil {
		return err
	}
	data, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	data = append(data, '\n')
	if _, err := cmd.OutOrStdout().Write(data); err != nil {
		return err
	}
	if kept != nil {
		if _, err := kept.To.Write(data); err != nil {
			return fmt.Errorf("write the result: %w", err)
		}
		if err := kept.Commit(); err != nil {
			return err
		}
	}
	if !r.Passed {
		return errors.New(r.Reason)
	}
	return nil
}

// parse parses the flags.
func (f *bootFlags) parse(e *boottest.Expect) (err error) {
	for _, text := range f.serial {
		line, err := regexp.Compile(text)
		if err != nil {
			return settings.Usage(settings.Blame("expect-serial", err))
		}
		e.Serial = append(e.Serial, line)
	}
	if f.color == "" {
		return nil
	}
	rgb, err := hex.DecodeString(strings.TrimPrefix(f.color, "#"))
	if err != nil || len(rgb) != 3 {
		return settings.Usage(settings.Wrong("expect-color", "%.20q is not like #ff6ec7", f.color))
	}
	e.Color = &color.RGBA{R: rgb[0], G: rgb[1], B: rgb[2], A: 255}
	return nil
}

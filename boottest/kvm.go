package boottest

import (
	"context"
	"os"
	"regexp"
	"time"
)

// trialPatience is for a machine that is not emulated.
const trialPatience = 15 * time.Second

// system matches output of a kernel or its first programs, and none of a
// firmware.
var system = regexp.MustCompile(`ISOFS-|Linux version|\] systemd|systemd\[`)

// kvmRuns tests whether this image's kernel runs by KVM. An existing /dev/kvm
// and a running firmware do not prove it: kernels have hung behind both. An
// image that is silent on its serial port counts as one that does not run.
func (o *Options) kvmRuns(ctx context.Context, dir string) bool {
	if f, err := os.OpenFile("/dev/kvm", os.O_RDWR, 0); err != nil {
		return false
	} else if err := f.Close(); err != nil {
		return false
	}
	ctx, cancel := context.WithTimeout(ctx, trialPatience)
	defer cancel()
	m, err := o.start(ctx, dir, "kvm")
	if err != nil {
		return false
	}
	defer m.stop()
	for {
		select {
		case line, ok := <-m.lines():
			if !ok {
				return false
			}
			if system.MatchString(line) {
				return true
			}
		case <-ctx.Done():
			return false
		}
	}
}

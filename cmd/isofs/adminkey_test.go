package main

import (
	"errors"
	"strings"
	"testing"

	"aesthetic.computer/isofs/fault"
)

const goodKey = "0123456789abcdef"

func TestKeyFromTheEnvironment(t *testing.T) {
	t.Setenv("ISOFS_ADMIN_KEY", "")
	t.Setenv("OS_BUILD_ADMIN_KEY", "")
	if key, err := (&adminFlags{}).read(); key != "" || err != nil {
		t.Errorf("none: %q, %v", key, err)
	}
	t.Setenv("OS_BUILD_ADMIN_KEY", goodKey)
	if key, err := (&adminFlags{}).read(); key != goodKey || err != nil {
		t.Errorf("the oven's: %q, %v", key, err)
	}
	t.Setenv("ISOFS_ADMIN_KEY", "short")
	if _, err := (&adminFlags{}).read(); !errors.Is(err, fault.Invalid) || !strings.Contains(err.Error(), "ISOFS_ADMIN_KEY") {
		t.Errorf("a short one of our own: %v", err)
	}
}

func TestLimitFlags(t *testing.T) {
	good := func() limitFlags {
		return limitFlags{fetches: 1, snapshots: 1, newNames: quotaFlags{20, 0.333}, allNew: quotaFlags{200, 20}}
	}
	l := good()
	if err := l.validate(); err != nil {
		t.Error(err)
	}
	if q := l.catalog().AllNewNames; q.Burst != 200 || q.Every.Milliseconds() != 50 {
		t.Errorf("20 a second is %+v", q)
	}
	// A command without these flags has the catalog's own.
	if q := (&limitFlags{}).catalog(); q.NewNames.Every != 0 || q.NewNames.Burst != 0 {
		t.Errorf("not asked for: %+v", q)
	}
	for name, spoil := range map[string]func(*limitFlags){
		"limit-fetches":         func(l *limitFlags) { l.fetches = 0 },
		"limit-snapshots":       func(l *limitFlags) { l.snapshots = -1 },
		"limit-new-burst":       func(l *limitFlags) { l.newNames.burst = 0 },
		"limit-new-total-burst": func(l *limitFlags) { l.allNew.burst = 2_000_000 },
		"limit-new ":            func(l *limitFlags) { l.newNames.rate = 0 },
		"limit-new-total ":      func(l *limitFlags) { l.allNew.rate = -1 },
	} {
		l := good()
		spoil(&l)
		if err := l.validate(); err == nil || !strings.Contains(err.Error(), "--"+name) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

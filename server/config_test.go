package server

import (
	"errors"
	"testing"
	"time"

	"aesthetic.computer/isofs/cache"
	"aesthetic.computer/isofs/catalog"
	"aesthetic.computer/isofs/fault"
	"aesthetic.computer/isofs/origin"
	"aesthetic.computer/isofs/upstream"
)

func TestValidate(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*StackConfig)
		want   string // the error, a line for each value; "": there is none
	}{
		"well":         {func(*StackConfig) {}, ""},
		"the base":     {func(c *StackConfig) { c.Bases.Address = "" }, "base address is needed: the folder or URL of a base (isofs bake tiny makes one)"},
		"fetches":      {func(c *StackConfig) { c.Cache.Fetches = 257 }, "fetches 257 is not between 1 and 256"},
		"density":      {func(c *StackConfig) { c.Pieces.Density = 0 }, "pixel density 0 is not between 1 and 16"},
		"a long time":  {func(c *StackConfig) { c.Pieces.Timeout = 2 * time.Minute }, "oven timeout 2m is not between 1s and 90s"},
		"days":         {func(c *StackConfig) { c.Pieces.Timeout = 48 * time.Hour }, "oven timeout 2d is not between 1s and 90s"},
		"no pieces":    {func(c *StackConfig) { c.Pieces.Sources = nil }, "pieces is empty, and --oven is, too: there is nothing to serve"},
		"only an oven": {func(c *StackConfig) { c.Pieces.Sources, c.Pieces.Oven = nil, "https://oven.example" }, ""},
		"no ages":      {func(c *StackConfig) { c.Pieces.Refresh, c.Limits.Retain = 0, -time.Hour }, "refresh age 0s is not more than 0\nretention -1h is not more than 0"},
	} {
		config := StackConfig{
			State: t.TempDir(), Cache: cache.Config{Fetches: 1, Memory: true, MaxBytes: 1 << 20}, Limits: catalog.Limits{Retain: time.Second},
			Bases:  upstream.Config{Dir: "bases", Address: "/nowhere", Origin: origin.Options{Timeout: time.Second}},
			Pieces: Pieces{Sources: []string{Embedded}, Density: 1, Timeout: time.Second, Refresh: time.Second},
		}
		c.change(&config)
		err := config.Validate()
		if (err == nil) != (c.want == "") || err != nil && (err.Error() != c.want || !errors.Is(err, fault.Invalid)) {
			t.Errorf("%s: %v", name, err)
		}
		// OpenStack opens nothing with wrong values.
		if _, opened := OpenStack(t.Context(), config); err != nil && (opened == nil || opened.Error() != err.Error()) {
			t.Errorf("%s: opened with %v", name, opened)
		}
	}
}

// TestLock: only one process locks a directory, and an error names the setting.
func TestLock(t *testing.T) {
	dir := t.TempDir()
	first, err := Lock(dir, SettingState)
	if err != nil {
		t.Fatal(err)
	}
	_, err = Lock(dir, SettingState)
	if !errors.Is(err, fault.Unavailable) || fault.AsSettings(err) == nil {
		t.Error(err)
	}
	first.Close()
	again, err := Lock(dir, SettingState)
	if err != nil {
		t.Fatal(err)
	}
	again.Close()
}

package settings

import (
	"strings"
	"testing"
	"time"
)

func TestSizes(t *testing.T) {
	for text, want := range map[string]Size{
		"0": 0, "1": 1, "1000000": 1000000, "1K": 1 << 10, "512MiB": 512 << 20, "4GiB": 4 << 30,
		"4g": 4 << 30, "4 GiB": 4 << 30, "2TiB": 2 << 40, "7b": 7, "4 G": 4 << 30, "2m": 2 << 20,
		"1MB": 1e6, "4GB": 4e9, "500 kB": 500e3, "1.5GiB": 3 << 29, "0.5k": 512, "3B": 3,
	} {
		var got Size
		if err := got.Set(text); err != nil || got != want {
			t.Errorf("%q is %d (%v), want %d", text, got, err, want)
		}
		var again Size
		if err := again.Set(want.String()); err != nil || again != want {
			t.Errorf("%d is written %q, which is read as %d (%v)", want, want, again, err)
		}
	}
	for _, text := range []string{"", "-1", "G", "GiB", "1XB", "1 2", "9999999TiB", "1MiBMiB", "0x10", "1,5GiB", "1e3", "NaN", "1.2.3M"} {
		var got Size
		if err := got.Set(text); err == nil {
			t.Errorf("%q is taken as %d", text, got)
		}
	}
}

// TestDurations: what Go reads keeps its meaning, and days and weeks are added.
func TestDurations(t *testing.T) {
	const day = 24 * time.Hour
	for text, want := range map[string]time.Duration{
		"0": 0, "30s": 30 * time.Second, "1.5h": 90 * time.Minute, "1h30m": 90 * time.Minute, "168h0m0s": 7 * day,
		"7d": 7 * day, "1w": 7 * day, "1d12h": 36 * time.Hour, "100ms": 100 * time.Millisecond, "-5s": -5 * time.Second,
	} {
		var got Duration
		if err := got.Set(text); err != nil || time.Duration(got) != want {
			t.Errorf("%q is %s (%v), want %s", text, got, err, want)
		}
	}
	for _, text := range []string{"", "7", "7x", "d", "1,5h", "7 d", "1e3s", "9999999999d"} {
		var got Duration
		if err := got.Set(text); err == nil {
			t.Errorf("%q is taken as %s", text, got)
		}
	}
	for want, d := range map[string]time.Duration{
		"0s": 0, "30s": 30 * time.Second, "1m": time.Minute, "1m30s": 90 * time.Second, "10m": 10 * time.Minute, "1h": time.Hour, "1h0m1s": time.Hour + time.Second,
		"36h": 36 * time.Hour, "7d": 7 * day, "30d": 30 * day, "100ms": 100 * time.Millisecond,
	} {
		if got := Duration(d).String(); got != want {
			t.Errorf("%s is written %s, want %s", d, got, want)
		}
	}
	for d := range time.Duration(2000) {
		var again Duration
		if err := again.Set(Duration(d * 97 * time.Second).String()); err != nil || again != Duration(d*97*time.Second) {
			t.Errorf("%s is written %s and read as %s (%v)", d*97*time.Second, Duration(d*97*time.Second), again, err)
		}
	}
}

func TestChoice(t *testing.T) {
	got := ""
	c := &Choice{&got, []string{"one", "true", "false"}}
	for text, want := range map[string]string{"one": "one", "ONE": "one", "1": "true", "f": "false"} {
		if err := c.Set(text); err != nil || got != want {
			t.Errorf("%q is %q (%v), want %q", text, got, err, want)
		}
	}
	if err := c.Set("two"); err == nil || !strings.Contains(err.Error(), `"two" is not one of one, true, false`) {
		t.Errorf("two: %v", err)
	}
}

package api

import (
	"fmt"
	"math"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
)

func TestParseRange(t *testing.T) {
	part := func(start int64) wanted { return wanted{partial: true, start: start} }
	open := func(start int64) wanted { return wanted{partial: true, start: start, openEnd: true} }
	for header, want := range map[string]wanted{
		"":                           {},
		"bytes":                      {},
		"bytes=":                     {}, // nginx ignores it
		"bites=0-5":                  {},
		"lines=5-":                   {},
		"bytes=0-":                   open(0),
		"bytes=5-":                   open(5),
		"BYTES=5-":                   open(5),
		"bytes=5 - ":                 open(5),
		"bytes= 5-6":                 part(5),
		"bytes=0-5":                  part(0),
		"bytes=00005-9":              part(5),
		"bytes=-5":                   part(math.MaxInt64),
		"bytes=0-5,7-9":              part(7),
		"bytes=7-9,0-":               part(7),
		"bytes=0-,0-":                part(0),
		"bytes=0-5, -5":              part(math.MaxInt64),
		"bytes=9223372036854775807-": open(math.MaxInt64),
		// Malformed: nginx answers with 416.
		"bytes=9223372036854775808-": part(0),
		"bytes=-":                    part(0),
		"bytes=5":                    part(0),
		"bytes=5-x":                  part(0),
		"bytes=+5-":                  part(0),
		"bytes=5--6":                 part(0),
		"bytes=5-6-7":                part(0),
		"bytes=5-,":                  part(0),
		"bytes=,5-":                  part(0),
		"bytes=0x5-":                 part(0),
	} {
		if got := parseRange(header); got != want {
			t.Errorf("%q is %+v, want %+v", header, got, want)
		}
	}
	for header, want := range map[string]bool{"": true, "bytes=0-": true, "bytes=0-5": false, "bytes=1-": false, "bytes=0-,0-": false, "bytes=x": false} {
		if got := parseRange(header).everything(); got != want {
			t.Errorf("%q is everything: %v, want %v", header, got, want)
		}
	}
}

func TestFirstSent(t *testing.T) {
	const size = 1000
	for header, want := range map[string][2]int64{
		"": {0, 1000}, "lines=5-": {0, 1000}, "bytes=": {0, 1000}, "bytes=0-": {0, 1000}, "bytes=5-": {5, 995}, "bytes= 5 - 9 ": {5, 5}, "bytes=7-9,0-": {7, 3},
		"bytes=-5": {995, 5}, "bytes= - 5": {995, 5}, "bytes=-5,0-": {995, 5}, "bytes=-1000": {0, 1000}, "bytes=-1001": {0, 1000}, "bytes=-99999999999999999999": {0, 1000},
		"bytes=-0": {1000, 0}, "bytes=999-": {999, 1}, "bytes=0-0": {0, 1}, "bytes=990-5000": {990, 10}, "bytes=1000-": {1000, 0}, "bytes=99999999999999999999-": {1000, 0},
		"bytes=9223372036854775807-": {1000, 0}, "bytes=x": {1000, 0}, "bytes=5": {1000, 0}, "bytes=9-5": {9, 0}, "bytes=5-99999999999999999999": {5, 995},
	} {
		if first, n := firstSent(header, size); first != want[0] || n != want[1] {
			t.Errorf("%q begins with %d bytes at %d, want %d at %d", header, n, first, want[1], want[0])
		}
	}
}

func FuzzParseRange(f *testing.F) {
	for _, seed := range []string{"bytes=0-", "bytes=5-9", "bytes=-5", "bytes=0-1,5-", "Bytes= 5 - 9 ", "bytes=5-x", "items=5-"} {
		f.Add(seed)
	}
	// A range with a first byte, as nginx reads it (ngx_http_range_parse).
	ranges := regexp.MustCompile(`(?i)^bytes=( *\d* *- *\d* *)(, *\d* *- *\d* *)*$`)
	f.Fuzz(func(t *testing.T, header string) {
		got := parseRange(header)
		if got.start < 0 || got.openEnd && !got.partial || !got.partial && got.start != 0 {
			t.Errorf("%q is %+v", header, got)
		}
		if first, n := firstSent(header, 1000); first < 0 || n < 0 || first+n > 1000 {
			t.Errorf("%q begins with %d bytes at %d of 1000", header, n, first)
		}
		if !ranges.MatchString(header) {
			return
		}
		for _, spec := range strings.Split(header[len(rangeUnit):], ",") {
			first, _, _ := strings.Cut(spec, "-")
			start, err := strconv.ParseInt(strings.TrimSpace(first), 10, 64)
			if err == nil && start > 0 && got.everything() {
				t.Errorf("%q passes for a beginning, though nginx would send bytes from %d on", header, start)
			}
		}
	})
}

func TestValidatorTime(t *testing.T) {
	at := time.Date(2026, 11, 2, 3, 4, 5, 0, time.UTC)
	for validator, want := range map[string]bool{
		fmt.Sprintf(`"%x-%x"`, at.Unix(), 3<<30):   true,
		fmt.Sprintf(`"%X-%x"`, at.Unix(), 3<<30):   true,
		"Mon, 02 Nov 2026 03:04:05 GMT":            true,
		"Monday, 02-Nov-26 03:04:05 GMT":           true,
		"Mon Nov  2 03:04:05 2026":                 true,
		fmt.Sprintf(`W/"%x-%x"`, at.Unix(), 3<<30): false,
		fmt.Sprintf(`%x-%x`, at.Unix(), 3<<30):     false,
		fmt.Sprintf(`"%x"`, at.Unix()):             false,
		fmt.Sprintf(`"%x-"`, at.Unix()):            false,
		fmt.Sprintf(`"-%x-5"`, at.Unix()):          false,
		fmt.Sprintf(`"+%x-5"`, at.Unix()):          false,
		`"`:                                        false,
		`""`:                                       false,
		`"-"`:                                      false,
		`"xyz-5"`:                                  false,
		`"ffffffffffffffffffff-5"`:                 false,
		"":                                         false,
	} {
		if got, ok := validatorTime(validator); ok != want || ok && !got.Equal(at) {
			t.Errorf("%s is %s (%v), want %v", validator, got, ok, want)
		}
	}
}

func FuzzETagTime(f *testing.F) {
	for _, seed := range []string{`"69070a80-c0000000"`, `W/"1-1"`, `""`, `"-"`, `"+1-1"`} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, etag string) {
		at, ok := etagTime(etag)
		if !ok {
			return
		}
		mtime, _, _ := strings.Cut(strings.Trim(etag, `"`), "-")
		if again := fmt.Sprintf("%x", at.Unix()); at.Unix() < 0 || again != strings.ToLower(strings.TrimLeft(mtime, "0")) && at.Unix() != 0 {
			t.Errorf("%s is %s, which is %s", etag, at, again)
		}
	})
}

package upstream

import (
	"errors"
	"strings"
	"testing"

	"aesthetic.computer/isofs/fault"
)

func TestWhereABaseIs(t *testing.T) {
	for _, c := range []struct{ address, manifest, image string }{
		{"bases/x", "bases/x/manifest.json", "bases/x/base.iso"},
		{"bases/x/", "bases/x/manifest.json", "bases/x/base.iso"},
		{"bases/what?/x", "bases/what?/x/manifest.json", "bases/what?/x/base.iso"},
		{"bases/x/manifest.json", "bases/x/manifest.json", "bases/x/base.iso"},
		{"manifest.json", "manifest.json", "base.iso"},
		{"file:///bases/x", "file:///bases/x/manifest.json", "file:///bases/x/base.iso"},
		{"https://u:p@h/x", "https://u:p@h/x/manifest.json", "https://u:p@h/x/base.iso"},
		{"https://h/x/tiny.json", "https://h/x/tiny.json", "https://h/x/base.iso"},
		{"https://h/x/manifest.json?signature=secret", "https://h/x/manifest.json?signature=secret", ""},
		{"https://h/x?signature=secret", "", ""},
		{"https://h/x?", "", ""},
		{"https://h/x?a=manifest.json", "", ""},
		{"s3://bucket/x", "s3://bucket/x/manifest.json", "s3://bucket/x/base.iso"},
		{"s3://bucket", "s3://bucket/manifest.json", "s3://bucket/base.iso"},
		{"s3://bucket/a?b", "s3://bucket/a?b/manifest.json", "s3://bucket/a?b/base.iso"},
	} {
		for _, of := range []struct {
			get  func(string) (string, error)
			want string
		}{{manifestOf, c.manifest}, {imageOf, c.image}} {
			got, err := of.get(c.address)
			if got != of.want || (err == nil) != (of.want != "") {
				t.Errorf("%s: %q, %v, want %q", c.address, got, err, of.want)
			}
			if err == nil {
				continue
			}
			if !errors.Is(err, fault.Invalid) || !strings.Contains(err.Error(), "--mirror") || strings.Contains(err.Error(), "secret") {
				t.Errorf("%s: error %v", c.address, err)
			}
		}
	}
}

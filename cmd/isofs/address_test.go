package main

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

func TestS3Flags(t *testing.T) {
	for _, c := range []struct {
		flags s3Flags
		words string // of the error; "" if there is none
	}{
		{s3Flags{pathStyle: "auto"}, ""},
		{s3Flags{pathStyle: "true", endpoint: "http://127.0.0.1:9000", region: "eu-central-1", anonymous: true}, ""},
		{s3Flags{pathStyle: "auto", endpoint: "127.0.0.1:9000"}, "--s3-endpoint"},
		{s3Flags{pathStyle: "auto", endpoint: "https://u:secret@h"}, "--s3-endpoint"},
		{s3Flags{pathStyle: "auto", region: "https://h"}, "--s3-region"},
	} {
		err := errors.Join(c.flags.validate()...)
		if (err == nil) != (c.words == "") || err != nil && (!strings.Contains(err.Error(), c.words) || strings.Contains(err.Error(), "secret")) {
			t.Errorf("%+v: error %v", c.flags, err)
		}
	}
	style := func(s string) *bool { return (&s3Flags{pathStyle: s}).options().PathStyle }
	if style("auto") != nil || !*style("true") || *style("false") {
		t.Error("--s3-path-style is not handed on")
	}
}

package main

import (
	"strings"
	"testing"
)

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
		err := blameFlags(c.flags.options().Validate())
		if (err == nil) != (c.words == "") || err != nil && (!strings.Contains(err.Error(), c.words) || strings.Contains(err.Error(), "secret")) {
			t.Errorf("%+v: error %v", c.flags, err)
		}
	}
	style := func(s string) *bool { return (&s3Flags{pathStyle: s}).options().PathStyle }
	if style("auto") != nil || !*style("true") || *style("false") {
		t.Error("--s3-path-style is not handed on")
	}
}

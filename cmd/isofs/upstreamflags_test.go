package main

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"aesthetic.computer/isofs/origin"
)

func TestChannelFlags(t *testing.T) {
	good := channelFlags{"s3://bucket/channels/tiny-amd64.json", time.Minute}
	if err := good.validate("", nil); err != nil {
		t.Error(err)
	}
	for name, err := range map[string]error{
		"--base":         good.validate("bases/x", nil),
		"--mirror":       good.validate("", []string{"x"}),
		"--channel-poll": (&channelFlags{good.address, time.Millisecond}).validate("", nil),
		"--channel":      (&channelFlags{"https://h/manifest.json?X-Amz-Signature=hush", time.Minute}).validate("", nil),
	} {
		if err == nil || !strings.Contains(err.Error(), name) || strings.Contains(err.Error(), "hush") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestMirrorFlags(t *testing.T) {
	for _, c := range []struct {
		addresses []string
		words     string // of the error; "" if there is none
	}{
		{nil, ""},
		{[]string{"https://u:secret@h/x", "/srv/x", "s3://bucket/x", "https://h/y.iso?signed=secret"}, ""},
		{[]string{""}, "--mirror"},
		{[]string{"gopher://u:secret@h/x"}, "--mirror"},
		{[]string{"http://u:secret@/x"}, "no host"},
		{make([]string, 17), "17 times"},
	} {
		err := fmt.Sprint((&mirrorFlags{addresses: c.addresses}).validate(origin.Options{}))
		if (err == "[]") != (c.words == "") || !strings.Contains(err, c.words) || strings.Contains(err, "secret") {
			t.Errorf("%q: %s", c.addresses, err)
		}
	}
}

func TestRedirectHosts(t *testing.T) {
	for host, good := range map[string]bool{
		"cdn.example": true, "cdn.example:8443": true, "[::1]": true, "192.0.2.1": true,
		"https://cdn.example": false, "cdn.example/x": false, "a b": false, "": false, ":80": false, "u@h": false,
	} {
		if wrong := (&mirrorFlags{redirects: []string{host}}).validate(origin.Options{}); (len(wrong) == 0) != good {
			t.Errorf("--origin-redirect %q: %v", host, wrong)
		}
	}
}

package main

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"aesthetic.computer/isofs/fault"
	"aesthetic.computer/isofs/upstream"
)

// validateUpstream returns what is wrong with the flags that name bases.
func validateUpstream(o *stackFlags) error {
	o.patience = time.Minute
	c := o.upstream(nil, nil, nil)
	return blameFlags(c.Validate())
}

func TestChannelFlags(t *testing.T) {
	good := channelFlags{"s3://bucket/channels/tiny-amd64.json", time.Minute}
	validate := func(channel channelFlags, base string, mirrors ...string) error {
		o := &stackFlags{channel: channel, base: base, mirrors: mirrorFlags{addresses: mirrors}}
		return validateUpstream(o)
	}
	if err := validate(good, ""); err != nil {
		t.Error(err)
	}
	for name, err := range map[string]error{
		"--base":         validate(good, "bases/x"),
		"--mirror":       validate(good, "", "x"),
		"--channel-poll": validate(channelFlags{good.address, time.Millisecond}, ""),
		"--channel":      validate(channelFlags{"https://h/manifest.json?X-Amz-Signature=hush", time.Minute}, ""),
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
		err := fmt.Sprint(validateUpstream(&stackFlags{base: "x", mirrors: mirrorFlags{addresses: c.addresses}}))
		if (err == "<nil>") != (c.words == "") || !strings.Contains(err, c.words) || strings.Contains(err, "secret") {
			t.Errorf("%q: %s", c.addresses, err)
		}
	}
}

func TestRedirectHosts(t *testing.T) {
	for host, good := range map[string]bool{
		"cdn.example": true, "cdn.example:8443": true, "[::1]": true, "192.0.2.1": true,
		"https://cdn.example": false, "cdn.example/x": false, "a b": false, "": false, ":80": false, "u@h": false,
	} {
		if wrong := validateUpstream(&stackFlags{base: "x", mirrors: mirrorFlags{redirects: []string{host}}}); (wrong == nil) != good {
			t.Errorf("--origin-redirect %q: %v", host, wrong)
		}
	}
}

// TestBlameFlags: an error of reading the base's address names --base, and other
// errors stay as they are.
func TestBlameFlags(t *testing.T) {
	err := blameFlags(&fault.SettingError{Setting: upstream.SettingAddress, Err: fmt.Errorf("read: %w", fault.Corrupt)})
	if err.Error() != "--base: read: corrupt" || !errors.Is(err, fault.Corrupt) {
		t.Error(err)
	}
	both := validateUpstream(&stackFlags{base: "x", channel: channelFlags{"s3://bucket/channels/tiny-amd64.json", time.Minute}})
	if both.Error() != "--base and a channel both say what to serve: give one of them" {
		t.Error(both)
	}
	if err := blameFlags(fault.NotFound); err != fault.NotFound || blameFlags(nil) != nil {
		t.Error(err)
	}
}

package upstream

import (
	"errors"
	"strings"
	"testing"
	"time"

	"aesthetic.computer/isofs/fault"
	"aesthetic.computer/isofs/origin"
)

func TestValidate(t *testing.T) {
	valid := func() Config {
		return Config{Dir: "bases", Address: "https://u:secret@h/x", Origin: origin.Options{Timeout: time.Second}}
	}
	followed := func(c *Config) {
		c.Address, c.Channel = "", ChannelConfig{Address: "s3://bucket/channels/tiny-amd64.json", Poll: time.Second}
	}
	for name, c := range map[string]struct {
		change func(*Config)
		want   string // the error, a line for each value; "": there is none
	}{
		"an address": {func(*Config) {}, ""},
		"a channel":  {followed, ""},
		"mirrors":    {func(c *Config) { c.Mirrors = []string{"/srv/x", "https://m/x.iso?signed=secret"} }, ""},
		"nothing": {func(c *Config) { *c = Config{} },
			"directory of bases is needed: where manifests are kept\nbase address is needed: the folder or URL of a base (isofs bake tiny makes one)\norigin timeout 0s is less than 1s"},
		"both":       {func(c *Config) { followed(c); c.Address = "x" }, "base address and a channel both say what to serve: give one of them"},
		"no pause":   {func(c *Config) { followed(c); c.Channel.Poll = 0 }, "poll interval 0s is less than 1s"},
		"no mirror":  {func(c *Config) { c.Mirrors = []string{""} }, "mirror: an empty address"},
		"redirects":  {func(c *Config) { c.Origin.Redirects = []string{"a/b"} }, `redirect host "a/b" is not a host like cdn.example or cdn.example:8443`},
		"no address": {func(c *Config) { c.Mirrors = []string{"gopher://u:secret@h/x"} }, `mirror: open origin: invalid: scheme "gopher": use http, https, s3, file or a path`},
	} {
		config := valid()
		c.change(&config)
		opened, err := Open(config)
		if c.want == "" {
			if err != nil || (opened.Follower() != nil) != (config.Channel.Address != "") {
				t.Errorf("%s: %v", name, err)
			}
			continue
		}
		if err == nil || err.Error() != c.want || !errors.Is(err, fault.Invalid) || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

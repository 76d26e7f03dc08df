package nginx

import (
	"errors"
	"strings"
	"testing"

	"aesthetic.computer/isofs/fault"
)

func TestValidate(t *testing.T) {
	if err := fullConfig().Validate(); err != nil {
		t.Errorf("a full configuration: %v", err)
	}
	if err := smallConfig().Validate(); err != nil {
		t.Errorf("a small configuration: %v", err)
	}
	tests := []struct {
		change func(*Config)
		want   string
	}{
		{func(c *Config) { c.Listen = nil }, "no address given"},
		{func(c *Config) { c.Listen = []string{"127.0.0.1"} }, "not a number from 1"},
		{func(c *Config) { c.Listen = []string{"127.0.0.1:"} }, "not a number from 1"},
		{func(c *Config) { c.Listen = []string{""} }, "not a number from 1"},
		{func(c *Config) { c.Listen = []string{"0"} }, "not a number from 1"},
		{func(c *Config) { c.Listen = []string{"080"} }, "not a number from 1"},
		{func(c *Config) { c.Listen = []string{"65536"} }, "not a number from 1"},
		{func(c *Config) { c.Listen = []string{"80 ssl"} }, "not a number from 1"},
		{func(c *Config) { c.Listen = []string{"::1:80"} }, "too many colons"},
		{func(c *Config) { c.Listen = []string{"[127.0.0.1]:80"} }, "stands in brackets"},
		{func(c *Config) { c.Listen = []string{"[fe80::1%eth0]:80"} }, "not an IP address"},
		{func(c *Config) { c.Listen = []string{"example.org:80"} }, "not an IP address"},
		{func(c *Config) { c.Listen = []string{"1.2.3.4;}:80"} }, "not an IP address"},
		{func(c *Config) { c.Listen = []string{"8080", "127.0.0.1:8080"} }, "given twice"},
		{func(c *Config) { c.Mount = "" }, "mount: no path given"},
		{func(c *Config) { c.Mount = "srv" }, "not an absolute path"},
		{func(c *Config) { c.Mount = `/srv"; evil` }, `contains '"'`},
		{func(c *Config) { c.Mount = "/srv\nevil" }, `contains '\n'`},
		{func(c *Config) { c.Mount = "/srv/$uri" }, `contains '$'`},
		{func(c *Config) { c.Mount = `/srv\` }, `contains '\\'`},
		{func(c *Config) { c.Mount = "/srv\xff" }, "not UTF-8"},
		{func(c *Config) { c.APISocket = "/run/'" }, `contains '\''`},
		{func(c *Config) { c.APISocket = "/" + strings.Repeat("x", 107) }, "has at most 107"},
		{func(c *Config) { c.RunDir = "/run/{" }, `contains '{'`},
		{func(c *Config) { c.RunDir = "/srv/isofs/run" }, "lies inside the mount"},
		{func(c *Config) { c.RunDir = "/srv/isofs" }, "lies inside the mount"},
		{func(c *Config) { c.AccessLog = "/srv/isofs/../isofs/log" }, "lies inside the mount"},
		{func(c *Config) { c.AccessLog = "on" }, "not an absolute path"},
		{func(c *Config) { c.AccessLog = "/var/log/x;" }, `contains ';'`},
		{func(c *Config) { c.User = "www data" }, "not of the form"},
		{func(c *Config) { c.User = "root;" }, "not of the form"},
		{func(c *Config) { c.User = "a:b:c" }, "not of the form"},
		{func(c *Config) { c.Profile = "fast" }, `neither "direct" nor "page-cache"`},
		{func(c *Config) { c.TrustedProxies = []string{"all"} }, "neither an IP address"},
		{func(c *Config) { c.TrustedProxies = []string{"10.0.0.0/33"} }, "neither an IP address"},
		{func(c *Config) { c.Workers = -1 }, "workers -1"},
		{func(c *Config) { c.Threads = 4097 }, "threads 4097"},
		{func(c *Config) { c.Limits.Connections = 65536 }, "connections per client 65536"},
		{func(c *Config) { c.Limits.RequestsPerSecond = -1 }, "requests per second -1"},
		{func(c *Config) { c.Limits.Burst = -1 }, "burst -1"},
		{func(c *Config) { c.Limits.BytesPerSecond = -1 }, "bytes per second -1"},
	}
	for _, tt := range tests {
		c := smallConfig()
		tt.change(&c)
		err := c.Validate()
		if err == nil || !strings.Contains(err.Error(), tt.want) || !errors.Is(err, fault.Invalid) {
			t.Errorf("%+v: %v, want %q", c, err, tt.want)
		} else if lines := strings.Count(err.Error(), "\n"); lines != 0 {
			t.Errorf("%+v: more than one complaint: %v", c, err)
		}
	}
}

func TestValidateTellsAll(t *testing.T) {
	err := Config{Listen: []string{"x"}, Mount: "m", APISocket: "a", RunDir: "r", AccessLog: "l", User: "u u", Profile: "p", Workers: -1, TrustedProxies: []string{"t"}}.Validate()
	for _, want := range []string{"listen", "mount", "API socket", "run directory", "access log", "user", "profile", "workers", "trusted proxy"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("no word of %s in %v", want, err)
		}
	}
}

func TestSpacesAreFine(t *testing.T) {
	c := smallConfig()
	c.Mount, c.RunDir, c.APISocket, c.AccessLog = "/srv/my isofs", "/run/my isofs", "/run/my isofs/#1 ä.sock", "/var/log/x y"
	if err := c.Validate(); err != nil {
		t.Error(err)
	}
	// A neighbour of the mount is not inside it.
	c.Mount, c.RunDir = "/srv/isofs", "/srv/isofs-run"
	if err := c.Validate(); err != nil {
		t.Error(err)
	}
}

// Values that Validate accepts leave the structure of the configuration as it
// is: as many statements, blocks and quotes as with harmless values.
func FuzzRender(f *testing.F) {
	f.Add("8080", "/srv/isofs", "/run/a.sock", "/run", "/log", "www-data", "10.0.0.0/8")
	f.Add("[::1]:80", "/srv/i s", "/run/ä", "/r#", "off", "a:b", "::1")
	f.Add("*:1", "/s'", "/\"", "/;}", "/$x\\", "a;", "1;")
	harmless := fullConfig()
	harmless.Listen, harmless.TrustedProxies = []string{"8080"}, []string{"::1"}
	f.Fuzz(func(t *testing.T, listen, mount, socket, run, log, user, proxy string) {
		c := harmless
		c.Listen, c.TrustedProxies = []string{listen}, []string{proxy}
		c.Mount, c.APISocket, c.RunDir, c.AccessLog, c.User = mount, socket, run, log, user
		got, err := Render(c)
		if err != nil {
			if !errors.Is(err, fault.Invalid) {
				t.Errorf("not invalid: %v", err)
			}
			return
		}
		h := harmless
		if !c.logs() {
			h.AccessLog = "off"
		}
		if user == "" {
			h.User = ""
		}
		want, err := Render(h)
		if err != nil {
			t.Fatal(err)
		}
		for _, sign := range []string{"\n", ";", "{", "}", `"`, "'", `\`, "$", "\t"} {
			if strings.Count(string(got), sign) != strings.Count(string(want), sign) {
				t.Errorf("%q occurs another number of times\n%s", sign, got)
			}
		}
	})
}

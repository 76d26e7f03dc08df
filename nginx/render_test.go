package nginx

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"aesthetic.computer/isofs/integration/testkit"
)

var update = flag.Bool("update", false, "write the golden files of testdata again")

// fullConfig has every optional part.
func fullConfig() Config {
	return Config{
		Listen: []string{"127.0.0.1:8080", "[::1]:8080", ":8081", "8082"}, Mount: "/srv/is ofs/", APISocket: "/run/isofs/api.sock",
		RunDir: "/run/isofs/nginx", AccessLog: "/dev/stdout", User: "www-data:www-data", Profile: Direct, Workers: 2, Threads: 16,
		Limits:         Limits{Connections: 8, Network: 16, TotalConnections: 500, RequestsPerSecond: 20, Burst: 40, BytesPerSecond: 50 << 20, CostlyPerSecond: 5, CostlyBurst: 10},
		TrustedProxies: []string{"127.0.0.1", "10.0.0.0/8", "fd00::/8"},
	}
}

// secureConfig is a host with HTTPS.
func secureConfig() Config {
	c := fullConfig()
	c.Listen = []string{"443", "[::]:443"}
	c.Host = Host{
		Names: []string{"images.example", "*.images.example"}, Certificate: "/etc/tls/full chain.pem", Key: "/etc/tls/key.pem",
		Redirect: []string{":80", "[::]:80"}, Challenges: "/var/www/html",
	}
	return c
}

// smallConfig has only the required parts.
func smallConfig() Config {
	return Config{Listen: []string{"127.0.0.1:8080"}, Mount: "/srv/isofs", APISocket: "/run/isofs/api.sock", RunDir: "/run/isofs/nginx", Profile: PageCache}
}

func TestGolden(t *testing.T) {
	for name, text := range map[string]func() ([]byte, error){
		"direct":     func() ([]byte, error) { return Render(fullConfig()) },
		"page-cache": func() ([]byte, error) { return Render(smallConfig()) },
		"site":       func() ([]byte, error) { return RenderSite(fullConfig()) },
		"site-tls":   func() ([]byte, error) { return RenderSite(secureConfig()) },
	} {
		t.Run(name, func(t *testing.T) {
			got, err := text()
			if err != nil {
				t.Fatal(err)
			}
			path := filepath.Join("testdata", name+".golden")
			if *update {
				write(t, path, string(got))
			}
			want, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(got, want) {
				t.Errorf("differs from %s; if that is meant, run go test -update and read the difference\n%s", path, got)
			}
		})
	}
}

// nginx itself judges every variant, and the output of RenderSite inside
// another configuration.
func TestEveryVariantIsValid(t *testing.T) {
	testkit.NeedTool(t, "nginx", "nginx-light")
	base := configIn(t, t.TempDir())
	if err := os.MkdirAll(base.RunDir, 0o755); err != nil {
		t.Fatal(err)
	}
	conf := filepath.Join(base.RunDir, confFile)
	check := func(name string, text []byte) {
		write(t, conf, string(text))
		if err := Check(within(t, time.Minute), "nginx", conf); err != nil {
			t.Errorf("%s: %v\n%s", name, err, text)
		}
	}
	for n := range 128 {
		c := base
		if n&1 != 0 {
			c.Profile = PageCache
		}
		if n&2 != 0 {
			c.Limits.Connections = 1
		}
		if n&4 != 0 {
			c.Limits.RequestsPerSecond = maxRate
		}
		if n&8 != 0 {
			c.Limits.Burst, c.Limits.BytesPerSecond = 1, 1
		}
		if n&16 != 0 {
			c.TrustedProxies = []string{"::1", "10.0.0.0/8"}
		}
		if n&32 != 0 {
			c.AccessLog, c.Workers, c.Threads, c.Limits.TotalConnections = "off", 3, 1, 1
		}
		if n&64 != 0 {
			c.Limits.CostlyPerSecond, c.Limits.CostlyBurst = 1, n&1
		}
		text, err := Render(c)
		if err != nil {
			t.Fatal(err)
		}
		check(fmt.Sprintf("%+v", c), text)
	}
	c := base
	c.Listen = []string{"[::1]:8080", "*:8081", "localhost:8082", ":8083", "8084"}
	c.AccessLog = "/dev/stdout"
	text, err := Render(c)
	if err != nil {
		t.Fatal(err)
	}
	check("addresses", text)

	site, err := RenderSite(base)
	if err != nil {
		t.Fatal(err)
	}
	var threads string // the line that the site's first comment asks for
	for line := range strings.Lines(string(site)) {
		if _, after, ok := strings.Cut(line, "#       "); ok {
			threads = after
		}
	}
	check("site", fmt.Appendf(nil, "%s pid %q; events {} http { include /etc/nginx/mime.types; gzip on; sendfile on;\n%s}\n", threads, filepath.Join(base.RunDir, "x.pid"), site))
}

// Defaults are filled in, and optional parts are absent.
func TestRenderDefaults(t *testing.T) {
	c := smallConfig()
	c.Profile = ""
	got, err := Render(c)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"sendfile off;", "output_buffers 2 1016k;", "threads=32 ", "worker_processes auto;", "access_log off;"} {
		if !strings.Contains(string(got), want) {
			t.Errorf("no %q", want)
		}
	}
	for _, absent := range []string{"\nuser ", "limit_conn", "limit_req", "limit_rate ", "real_ip", "geo ", "log_format", "sendfile_max_chunk", "<no value>", "{{"} {
		if strings.Contains(string(got), absent) {
			t.Errorf("%q is there", absent)
		}
	}
	if _, err := Render(Config{}); err == nil {
		t.Error("an empty Config was rendered")
	}
	if _, err := RenderSite(Config{}); err == nil {
		t.Error("an empty Config was rendered as a site")
	}
}

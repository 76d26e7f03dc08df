package nginx

import (
	"context"
	"errors"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"aesthetic.computer/isofs/fault"
	"aesthetic.computer/isofs/integration/testkit"
)

func TestParseVersion(t *testing.T) {
	const threads = "\nconfigure arguments: --with-threads"
	tests := []struct{ text, want, wrong string }{
		{"nginx version: nginx/1.22.1\nbuilt with OpenSSL" + threads, "1.22.1", ""},
		{"nginx version: nginx/1.29.3 (Ubuntu)" + threads, "1.29.3", ""},
		{"nginx: [warn] odd\nnginx version: nginx/2.0" + threads, "2.0", ""},
		{"nginx version: nginx/1.21.6" + threads, "", "older than 1.22"},
		{"nginx version: nginx/0.99.9" + threads, "", "older than 1.22"},
		{"nginx version: openresty/1.25.3.1" + threads, "1.25.3.1", ""},
		{"nginx version: nginx/1.22.1", "", "--with-threads"},
		{"Apache/2.4\nmore", "", `-V says "Apache/2.4"`},
		{"", "", "not nginx"},
	}
	for _, tt := range tests {
		got, err := parseVersion(tt.text)
		if got != tt.want || (err == nil) != (tt.wrong == "") || err != nil && (!strings.Contains(err.Error(), tt.wrong) || !errors.Is(err, fault.Invalid)) {
			t.Errorf("%q: %q, %v", tt.text, got, err)
		}
	}
}

func TestVersion(t *testing.T) {
	testkit.NeedTool(t, "nginx", "nginx-light")
	if v, err := Version(within(t, time.Minute), "nginx"); err != nil || !strings.Contains(v, ".") {
		t.Errorf("%q, %v", v, err)
	}
	t.Setenv("PATH", "/nonexistent") // as of a user without /usr/sbin
	if _, err := Version(within(t, time.Minute), "nginx"); err != nil {
		t.Errorf("without $PATH: %v", err)
	}
}

// Every function that runs the program returns the same error if the program is missing or
// wrong.
func TestBadBinary(t *testing.T) {
	ctx := within(t, time.Minute)
	c := configIn(t, t.TempDir())
	starts := func(binary string) map[string]error {
		_, version := Version(ctx, binary)
		_, start := Start(ctx, binary, c, slog.New(slog.DiscardHandler))
		return map[string]error{"Version": version, "Start": start}
	}
	for name, err := range starts("/nonexistent/nginx") {
		if !errors.Is(err, fault.NotFound) || !strings.Contains(err.Error(), "apt-get install nginx-light") {
			t.Errorf("%s without a program: %v", name, err)
		}
	}
	for name, err := range starts(script(t, "echo nginx version: nginx/1.18.0 >&2")) {
		if !errors.Is(err, fault.Invalid) || !strings.Contains(err.Error(), "older than") {
			t.Errorf("%s with an old program: %v", name, err)
		}
	}
	for name, err := range starts(script(t, "exit 3")) {
		if !errors.Is(err, fault.Unavailable) {
			t.Errorf("%s with a broken program: %v", name, err)
		}
	}
	if err := Check(ctx, "/nonexistent/nginx", "/x"); !errors.Is(err, fault.NotFound) {
		t.Errorf("Check without a program: %v", err)
	}
}

func TestCheck(t *testing.T) {
	testkit.NeedTool(t, "nginx", "nginx-light")
	conf := filepath.Join(t.TempDir(), "nginx.conf")
	write(t, conf, "events {}\nnonsense on;\n")
	err := Check(within(t, time.Minute), "nginx", conf)
	if !errors.Is(err, fault.Invalid) || !strings.Contains(err.Error(), `unknown directive "nonsense" in `+conf+":2") {
		t.Errorf("nginx's words are missing: %v", err)
	}
	ended, cancel := context.WithCancel(context.Background())
	cancel()
	if err := Check(ended, "nginx", conf); !errors.Is(err, context.Canceled) || !errors.Is(err, fault.Unavailable) || errors.Is(err, fault.Invalid) {
		t.Errorf("cancelled: %v", err)
	}
}

package nginx

import (
	"log/slog"
	"strings"
	"testing"

	"aesthetic.computer/isofs/integration/testkit"
)

func TestParseLogLine(t *testing.T) {
	tests := []struct {
		line  string
		level slog.Level
		want  string
	}{
		{"2026/01/02 03:04:05 [error] 12#13: *7 open() failed", slog.LevelError, "*7 open() failed"},
		{"2026/01/02 03:04:05 [alert] 12#13: x", slog.LevelError, "x"},
		{"2026/01/02 03:04:05 [warn] 12#13: x", slog.LevelWarn, "x"},
		{"2026/01/02 03:04:05 [notice] 12#13: x", slog.LevelInfo, "x"},
		{"2026/01/02 03:04:05 [debug] 12#13: x", slog.LevelDebug, "x"},
		{`nginx: [emerg] unknown directive "x"`, slog.LevelError, `unknown directive "x"`},
		{"nginx: error while loading shared libraries", slog.LevelWarn, "nginx: error while loading shared libraries"},
		{"", slog.LevelWarn, ""},
	}
	for _, tt := range tests {
		if level, got := parseLogLine(tt.line); level != tt.level || got != tt.want {
			t.Errorf("%q: %v %q, want %v %q", tt.line, level, got, tt.level, tt.want)
		}
	}
}

// The reason is the first emergency; a line without end does not stop the log.
func TestErrorLog(t *testing.T) {
	var logged testkit.Buffer
	e := &errorLog{log: slog.New(slog.NewTextHandler(&logged, nil))}
	e.copy(strings.NewReader("nginx: [warn] w\n\nnginx: [emerg] first\n" + strings.Repeat("nginx: [emerg] more\n", 100) + strings.Repeat("x", 1<<17) + "\nlost\n"))
	if reason, final := e.reason(); reason != "first" || !final {
		t.Errorf("reason: %q, final: %v", reason, final)
	}
	if n := strings.Count(logged.String(), "\n"); n != 102 || !strings.Contains(logged.String(), `level=WARN msg="nginx: w"`) {
		t.Errorf("%d lines: %s", n, logged.String())
	}
	if e.reset(); e.first != "" {
		t.Errorf("after reset: %q", e.first)
	}
	for _, step := range []struct {
		line  string
		final bool
	}{
		{"nginx: [emerg] bind() to 1.2.3.4:80 failed (98: in use)", false},
		{"nginx: [emerg] bind() to [::1]:80 failed (98: in use)", false},
		{"nginx: [emerg] still could not bind()", true},
	} {
		e.line(step.line)
		if reason, final := e.reason(); !strings.Contains(reason, "1.2.3.4") || final != step.final {
			t.Errorf("after %q: %q, final: %v", step.line, reason, final)
		}
	}
}

func TestExplain(t *testing.T) {
	for message, want := range map[string]string{
		"bind() to 127.0.0.1:80 failed (98: Address already in use)": "127.0.0.1:80 is in use by another program",
		"bind() to [::1]:80 failed (13: Permission denied)":          "CAP_NET_BIND_SERVICE",
		"bind() to 1.2.3.4:80 failed (99: Cannot assign)":            "bind() to 1.2.3.4:80 failed (99: Cannot assign)",
		"other": "other",
	} {
		if got := explain(message); !strings.Contains(got, want) || !strings.Contains(got, message) {
			t.Errorf("%q: %q", message, got)
		}
	}
}

func FuzzParseLogLine(f *testing.F) {
	f.Add("2026/01/02 03:04:05 [error] 12#13: *7 open() failed")
	f.Add("nginx: [emerg] bind() to 127.0.0.1:80 failed (98: in use)")
	f.Fuzz(func(t *testing.T, line string) {
		if _, message := parseLogLine(line); !strings.HasSuffix(line, message) {
			t.Errorf("%q became %q", line, message)
		}
		explain(line)
		parseVersion(line)
	})
}

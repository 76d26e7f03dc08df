package nginx

import (
	"bufio"
	"context"
	"io"
	"log/slog"
	"regexp"
	"strings"
	"sync"
)

// "2026/01/02 03:04:05 [warn] 12#12: text" of a running nginx, and
// "nginx: [emerg] text" of one that has not opened its log yet.
var logLine = regexp.MustCompile(`^(?:nginx: |\d{4}/\d\d/\d\d \d\d:\d\d:\d\d )\[([a-z]+)\] (?:\d+#\d+: )?(.*)$`)

// parseLogLine splits a line of nginx's error log into its level and its
// message. Lines of another form, such as the dynamic linker's, are warnings.
func parseLogLine(line string) (slog.Level, string) {
	m := logLine.FindStringSubmatch(line)
	if m == nil {
		return slog.LevelWarn, line
	}
	switch m[1] {
	case "debug":
		return slog.LevelDebug, m[2]
	case "info", "notice":
		return slog.LevelInfo, m[2]
	case "warn":
		return slog.LevelWarn, m[2]
	}
	return slog.LevelError, m[2] // error, crit, alert, emerg
}

// An errorLog passes nginx's standard error on to slog, line by line, and
// remembers why nginx refused to start or to reload.
type errorLog struct {
	log *slog.Logger

	mu    sync.Mutex // guards emerg
	emerg []string   // the [emerg] messages since the last reset, each once
}

// keepEmerg bounds what is remembered: bind is tried five times per address.
const keepEmerg = 20

// copy reads r to its end.
func (e *errorLog) copy(r io.Reader) {
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		e.line(lines.Text())
	}
	// nginx's lines have at most 2 KiB. Whatever wrote a longer one must not
	// block on a full pipe.
	io.Copy(io.Discard, r)
}

func (e *errorLog) line(line string) {
	level, message := parseLogLine(line)
	if message == "" {
		return
	}
	e.log.Log(context.Background(), level, "nginx: "+message)
	if !strings.Contains(line, "[emerg]") {
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if len(e.emerg) < keepEmerg && (len(e.emerg) == 0 || e.emerg[len(e.emerg)-1] != message) {
		e.emerg = append(e.emerg, message)
	}
}

func (e *errorLog) reset() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.emerg = nil
}

// reason returns the first thing that nginx could not do, or "".
func (e *errorLog) reason() string {
	e.mu.Lock()
	defer e.mu.Unlock()
	if len(e.emerg) == 0 {
		return ""
	}
	return e.emerg[0]
}

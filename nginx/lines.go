package nginx

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log/slog"
	"regexp"
	"strings"
	"sync"
	"syscall"
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

	mu          sync.Mutex // guards all below
	first, last string     // [emerg] messages since the last reset
}

// copy reads r to its end.
func (e *errorLog) copy(r io.Reader) {
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		e.line(lines.Text())
	}
	// nginx's lines have at most 2 KiB. A program that wrote a longer one must
	// not block on a full pipe.
	_, _ = io.Copy(io.Discard, r)
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
	if e.first == "" {
		e.first = message
	}
	e.last = message
}

func (e *errorLog) reset() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.first, e.last = "", ""
}

// reason returns the first failure of nginx, or "". Failures to bind are final
// only when another message follows: nginx tries five times.
func (e *errorLog) reason() (first string, final bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.first, e.first != "" && !bindFailure.MatchString(e.last)
}

var bindFailure = regexp.MustCompile(`bind\(\) to (\S+) failed \((\d+): `)

// explain adds to nginx's message what a person can do about it.
func explain(message string) string {
	m := bindFailure.FindStringSubmatch(message)
	switch {
	case m == nil:
		return message
	case m[2] == fmt.Sprint(int(syscall.EADDRINUSE)):
		return fmt.Sprintf("%s is in use by another program; stop that one, or listen elsewhere (nginx: %s)", m[1], message)
	case m[2] == fmt.Sprint(int(syscall.EACCES)):
		return fmt.Sprintf("%s needs a right we do not have; listen on a port above 1023, or give CAP_NET_BIND_SERVICE (nginx: %s)", m[1], message)
	}
	return message
}

package vfs

import (
	"context"
	"log"
	"log/slog"
	"strings"
	"sync"
	"time"
)

const (
	// quiet is how long a failure is not logged again.
	quiet = 10 * time.Second
	// mostKeys bounds the failures that have their own entry.
	mostKeys = 256
)

// A faultLog writes failures to a log, each kind at most once per quiet: a dead
// CDN fails a thousand reads a second. It is safe for concurrent use.
type faultLog struct {
	log *slog.Logger
	now func() time.Time

	mu   sync.Mutex // guards seen
	seen map[string]*burst
}

// A burst is the record of one failure.
type burst struct {
	until  time.Time // logged again after this
	unsaid int       // failures since it was logged
}

func newFaultLog(l *slog.Logger) *faultLog {
	return &faultLog{log: l, now: time.Now, seen: make(map[string]*burst)}
}

// report logs message, unless one of the same key was logged a moment ago.
func (l *faultLog) report(level slog.Level, key, message string, args ...any) {
	unsaid, say := l.admit(key)
	if !say {
		return
	}
	if unsaid > 0 {
		args = append(args, "more_like_it", unsaid)
	}
	l.log.Log(context.Background(), level, message, args...)
}

func (l *faultLog) admit(key string) (unsaid int, say bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.now()
	b := l.seen[key]
	if b == nil {
		if len(l.seen) >= mostKeys {
			l.forget(now)
		}
		if len(l.seen) >= mostKeys {
			// So many different failures at once count as one. The shared key
			// is one more than mostKeys.
			key = ""
			b = l.seen[key]
		}
	}
	if b == nil {
		b = &burst{}
		l.seen[key] = b
	}
	if now.Before(b.until) {
		b.unsaid++
		return 0, false
	}
	unsaid, b.unsaid, b.until = b.unsaid, 0, now.Add(quiet)
	return unsaid, true
}

// forget drops the bursts that are over. The caller holds mu.
func (l *faultLog) forget(now time.Time) {
	for key, b := range l.seen {
		if !now.Before(b.until) {
			delete(l.seen, key)
		}
	}
}

// library returns a logger for go-fuse's own remarks, such as answers that the
// kernel no longer wanted.
func (l *faultLog) library() *log.Logger { return log.New(libraryWriter{l}, "", 0) }

type libraryWriter struct{ log *faultLog }

func (w libraryWriter) Write(line []byte) (int, error) {
	text := strings.TrimSpace(string(line))
	about, _, _ := strings.Cut(text, ":")
	w.log.report(slog.LevelDebug, "go-fuse "+about, "go-fuse: "+text)
	return len(line), nil
}

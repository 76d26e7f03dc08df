package upstream

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"strings"
	"testing"
)

// A stopper ends a context at the first line of the log.
type stopper struct {
	slog.Handler
	stop func(error)
}

func (s stopper) Handle(_ context.Context, r slog.Record) error {
	if r.Level >= slog.LevelWarn {
		s.stop(errors.New(r.Message))
	}
	return nil
}

// TestFirstFailureOfABaseIsLogged: an operator who waits for half a minute sees the
// reason from the beginning, also where only warnings are logged.
func TestFirstFailureOfABaseIsLogged(t *testing.T) {
	ctx, stop := context.WithCancelCause(t.Context())
	log := slog.New(stopper{slog.NewTextHandler(io.Discard, &slog.HandlerOptions{Level: slog.LevelWarn}), stop})
	b := newRegistry(Config{Dir: t.TempDir(), Log: log})
	// It would try for 30 s if nothing were logged.
	_, err := b.read(ctx, places{"http://127.0.0.1:1/base"})
	if err == nil || context.Cause(ctx) == nil || !strings.Contains(context.Cause(ctx).Error(), "trying again") {
		t.Errorf("%v; logged: %v", err, context.Cause(ctx))
	}
}

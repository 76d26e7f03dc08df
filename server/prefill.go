package server

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"aesthetic.computer/isofs/cache"
	"aesthetic.computer/isofs/fault"
	"aesthetic.computer/isofs/upstream"
)

// prefillPause is the pause after an origin failed.
const prefillPause = time.Minute

// prefiller returns a function that fills the server's cache with a base in the
// background, and stops filling with the base before. Only one call may run at a
// time.
func prefiller(ctx context.Context, log *slog.Logger) func(*upstream.Base) {
	stop := func() {}
	return func(b *upstream.Base) {
		stop()
		var within context.Context
		within, stop = context.WithCancel(ctx)
		go prefill(within, b.File, log)
	}
}

// prefill fills the server's cache until it has the whole base, the disk takes no
// more, or ctx ends.
func prefill(ctx context.Context, bytes *cache.File, log *slog.Logger) {
	for {
		tenths := int64(0)
		err := bytes.Fill(ctx, func(done, total int64) {
			if now := done * 10 / total; now > tenths {
				tenths = now
				log.Info("filling the cache", "percent", 10*now, "bytes", done)
			}
		})
		switch {
		case ctx.Err() != nil:
			return
		case err == nil:
			log.Info("the cache has all of the base")
			return
		case errors.Is(err, cache.ErrFull), !errors.Is(err, fault.Unavailable):
			log.Warn("the cache is not filled further", "err", err)
			return
		}
		log.Warn("filling the cache was interrupted and goes on later", "in", prefillPause, "err", err)
		select {
		case <-ctx.Done():
			return
		case <-time.After(prefillPause):
		}
	}
}

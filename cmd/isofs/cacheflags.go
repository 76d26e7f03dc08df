package main

import (
	"fmt"
	"log/slog"
	"path/filepath"

	"github.com/spf13/cobra"

	"aesthetic.computer/isofs/cache"
	"aesthetic.computer/isofs/settings"
)

// inMemory is the value of --cache for a cache without a directory.
const inMemory = "memory"

// Bounds on the cache without --cache-size.
const (
	diskCacheSize   settings.Size = 4 << 30
	memoryCacheSize settings.Size = 256 << 20
)

// cacheFlags describe the block cache.
type cacheFlags struct {
	where string
	limit settings.Size // 0: the default for where
	scrub settings.Size // a second; only serve and mount have the flag
}

func (o *cacheFlags) register(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringVar(&o.where, "cache", "", "directory of the block cache, or the word memory (default STATE/cache)")
	flags.Var(&o.limit, "cache-size", fmt.Sprintf("bound on the block cache (default %s, or %s in memory)", diskCacheSize, memoryCacheSize))
}

func (o *cacheFlags) registerScrub(cmd *cobra.Command) {
	o.scrub = 10 << 20
	cmd.Flags().Var(&o.scrub, "scrub-rate", "bytes a second of the cache that are read again from disk and compared, once an hour; 0: none")
}

// complete fills in the default that depends on where.
func (o *cacheFlags) complete() {
	if o.limit == 0 {
		o.limit = diskCacheSize
		if o.where == inMemory {
			o.limit = memoryCacheSize
		}
	}
}

// dir returns the directory of the cache, empty if it is in memory.
func (o *cacheFlags) dir(state string) string {
	switch o.where {
	case inMemory:
		return ""
	case "":
		return filepath.Join(state, "cache")
	}
	return o.where
}

// cacheConfig returns the Config of the cache that the flags describe.
func (o *stackFlags) cacheConfig(log *slog.Logger) cache.Config {
	return cache.Config{
		Dir: o.cache.dir(o.state), Memory: o.cache.where == inMemory, MaxBytes: int64(o.cache.limit),
		Fetches: o.fetches, ScrubRate: int64(o.cache.scrub), Log: log,
	}
}

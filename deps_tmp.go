//go:build never

// Package isofs temporarily keeps the libraries in go.mod.
package isofs

import (
	_ "github.com/BurntSushi/toml"
	_ "github.com/diskfs/go-diskfs"
	_ "github.com/google/renameio/v2"
	_ "github.com/hanwen/go-fuse/v2/fs"
	_ "github.com/hashicorp/golang-lru/v2/simplelru"
	_ "github.com/rogpeppe/go-internal/testscript"
	_ "github.com/schollz/progressbar/v3"
	_ "github.com/spf13/cobra"
	_ "golang.org/x/sync/singleflight"
	_ "golang.org/x/sys/unix"
	_ "golang.org/x/term"
)

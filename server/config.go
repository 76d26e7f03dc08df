// Package server is a running isofs. Run opens the layers from the origin to the
// catalog (a Stack), mounts their images, and runs nginx and what is beside the
// mount (Services): the API, the metrics, the probes, the channel, the filling of
// the cache. OpenStack opens the layers alone. Where root starts a server, RunParent
// mounts and starts nginx, and has a child of another user call RunChild.
//
// Its Configs have plain values. The methods of Services change what can change
// while it runs.
//
// The package does not decide where the values come from and how a child receives
// them: cmd/isofs does.
package server

import (
	"fmt"
	"log/slog"
	"time"

	"github.com/xhit/go-str2duration/v2"

	"aesthetic.computer/isofs/bundle"
	"aesthetic.computer/isofs/cache"
	"aesthetic.computer/isofs/catalog"
	"aesthetic.computer/isofs/fault"
	"aesthetic.computer/isofs/signature"
	"aesthetic.computer/isofs/upstream"
)

// Embedded is the word in Pieces.Sources for the pieces in the program itself.
const Embedded = "embedded"

// The values of the Configs that can be wrong, in errors (fault.SettingError).
// Those of StackConfig.Bases are in package upstream.
const (
	SettingState     = "state directory"
	SettingFetches   = "fetches"
	SettingDensity   = "pixel density"
	SettingTimeout   = "oven timeout"
	SettingPieces    = "pieces"
	SettingOven      = "oven"
	SettingRefresh   = "refresh age"
	SettingRetain    = "retention"
	SettingMetrics   = "metrics address"
	SettingPublicURL = "public URL"
	SettingWatchers  = "watchers"
	SettingUser      = "user to serve as"
	SettingRun       = "directory of sockets"
	SettingCacheSize = "cache size"
	SettingAdminKey  = "admin key"
	SettingPeers     = "peer URLs"
	SettingPages     = "page-cache limit"
)

// StackConfig says what a Stack consists of.
type StackConfig struct {
	State    string          // directory of what must survive; OpenStack makes and locks it
	Bases    upstream.Config // OpenStack sets Blocks and Log
	Cache    cache.Config    // OpenStack sets Fetched and Log
	Pieces   Pieces
	Limits   catalog.Limits
	Signer   *signature.Signer      // signs images; nil: they are not signed
	Sidecars []catalog.SidecarMaker // of files beside the images, besides the catalog's own and the signature
	Log      *slog.Logger           // nil: nothing is logged
}

// Pieces say where bundles come from.
type Pieces struct {
	Sources []string      // folders of *.html, or the word Embedded, in order of preference
	Oven    string        // URL of the oven that packs what is in none of them; "": none
	Density int           // pixel density that it packs for, 1 to 16
	Timeout time.Duration // how long it may take, 1 s to 90 s
	Refresh time.Duration // age at which it is asked again, more than 0
}

// Validate returns all that is wrong with the values as fault.SettingErrors, or nil.
// It reads no file and sends no request.
func (c *StackConfig) Validate() error {
	var wrong fault.SettingErrors
	wrong = append(wrong, fault.AsSettings(c.Bases.Validate())...)
	if c.Cache.Fetches < 1 || c.Cache.Fetches > 256 {
		wrong.Addf(SettingFetches, "%d is not between 1 and 256", c.Cache.Fetches)
	}
	if c.Cache.MaxBytes < minCache {
		wrong.Addf(SettingCacheSize, "is less than 1MiB")
	}
	c.Pieces.validate(&wrong)
	if c.Limits.Retain <= 0 {
		wrong.Addf(SettingRetain, "%s is not more than 0", str2duration.String(c.Limits.Retain))
	}
	return wrong.Err()
}

// minCache is the smallest size of a block cache.
const minCache = 1 << 20

func (p *Pieces) validate(wrong *fault.SettingErrors) {
	if p.Density < 1 || p.Density > 16 {
		wrong.Addf(SettingDensity, "%d is not between 1 and 16", p.Density)
	}
	// The catalog gives up a fetch after 90 s, and nginx a request after 120.
	if p.Timeout < time.Second || p.Timeout > 90*time.Second {
		wrong.Addf(SettingTimeout, "%s is not between 1s and 90s", str2duration.String(p.Timeout))
	}
	if len(p.Sources) == 0 && p.Oven == "" {
		wrong.Addf(SettingPieces, "is empty, and --oven is, too: there is nothing to serve")
	}
	if p.Refresh <= 0 {
		wrong.Addf(SettingRefresh, "%s is not more than 0", str2duration.String(p.Refresh))
	}
}

// source returns where bundles come from: the folders in order, then the oven.
func (p *Pieces) source(measured *meters) (bundle.Source, error) {
	var sources []bundle.Source
	for _, where := range p.Sources {
		if where == Embedded {
			sources = append(sources, bundle.Embedded())
			continue
		}
		dir, err := bundle.NewDir(where)
		if err != nil {
			return nil, &fault.SettingError{Setting: SettingPieces, Err: err}
		}
		sources = append(sources, dir)
	}
	if p.Oven != "" {
		oven, err := bundle.NewOven(p.Oven, bundle.OvenOptions{
			Density: p.Density, Refresh: p.Refresh, Timeout: p.Timeout, HeaderTimeout: p.Timeout,
		})
		if err != nil {
			return nil, &fault.SettingError{Setting: SettingOven, Err: err}
		}
		sources = append(sources, measuredOven{oven, measured})
	}
	if len(sources) == 0 {
		return nil, fmt.Errorf("no source of pieces: %w", fault.Invalid)
	}
	return bundle.Sources(sources...), nil
}

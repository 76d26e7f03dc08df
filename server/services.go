package server

import (
	"context"
	"crypto/rand"
	"errors"
	"log/slog"
	"net"
	"net/url"
	"sync"
	"sync/atomic"
	"time"

	"aesthetic.computer/isofs/api"
	"aesthetic.computer/isofs/catalog"
	"aesthetic.computer/isofs/fault"
	"aesthetic.computer/isofs/signature"
	"aesthetic.computer/isofs/upstream"
	"aesthetic.computer/isofs/vfs"
)

// ServicesConfig says what runs beside a mount.
type ServicesConfig struct {
	Socket    net.Listener    // where the API answers
	Stopping  <-chan struct{} // ends the API's streams when it is closed
	PublicURL string          // what absolute links begin with; "": the address that the client used
	Peers     []string        // what addresses at other servers of the same images begin with; .meta4 names them
	Watchers  int             // clients of /os?format=stream at once, 1 to 100,000
	AdminKey  string          // that /admin/ demands; "": /admin/ is closed
	Metrics   string          // address for Prometheus, host:port; "": there are no metrics
	Prefill   bool            // fill the cache with the whole base in the background
	Web       Web             // our nginx, to be probed
	// Explain turns an error of a setting into one that names it as the operator
	// does, for answers to /admin/; nil: they are left as they are.
	Explain func(error) error
	Log     *slog.Logger // nil: nothing is logged
}

// Validate returns all that is wrong with the values as fault.SettingErrors, or
// nil.
func (c *ServicesConfig) Validate() error {
	var wrong fault.SettingErrors
	if c.PublicURL != "" && !beginsLinks(c.PublicURL) {
		wrong.Addf(SettingPublicURL, "%q is not an address like https://images.example", c.PublicURL)
	}
	for _, peer := range c.Peers {
		if !beginsLinks(peer) {
			wrong.Addf(SettingPeers, "%q is not an address like https://other.example", peer)
		}
	}
	if c.Watchers < 1 || c.Watchers > 100_000 {
		wrong.Addf(SettingWatchers, "%d is not between 1 and 100000", c.Watchers)
	}
	if _, _, err := net.SplitHostPort(c.Metrics); c.Metrics != "" && err != nil {
		wrong.Addf(SettingMetrics, "%q is not an address like 127.0.0.1:9180", c.Metrics)
	}
	return wrong.Err()
}

// beginsLinks reports whether an address is an http or https URL behind which
// paths can be put: without user, query and fragment.
func beginsLinks(address string) bool {
	u, err := url.Parse(address)
	return err == nil && (u.Scheme == "http" || u.Scheme == "https") && u.Host != "" && u.User == nil && u.RawQuery == "" && u.Fragment == ""
}

// Web says where our nginx answers. The zero value means that there is no nginx.
type Web struct {
	Scheme string // http or https
	Listen string // an address as nginx takes it
}

// Services are what runs beside a mount: the API, the metrics, the probes, the
// pruning of superseded snapshots, the channel and the prefill. Its methods are
// safe for concurrent use.
type Services struct {
	ctx      context.Context // ends with the server
	stack    *Stack
	adminKey atomic.Pointer[string]
	trust    atomic.Pointer[api.Trust]
	explain  func(error) error
	stop     func() // ends the API and the metrics
	log      *slog.Logger

	following sync.Mutex           // held while the channel is followed
	prefill   func(*upstream.Base) // fills the cache with a base; nil: nothing does
}

// StartServices starts all that runs beside the mount of a stack's images. The
// API and the metrics run until Stop, all else until ctx ends. An error of a
// value of the Config is a fault.SettingError, another is of package signature.
func StartServices(ctx context.Context, c ServicesConfig, s *Stack, mounted *vfs.Server) (*Services, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	run := &Services{ctx: ctx, stack: s, explain: c.Explain, log: c.Log}
	run.SetAdminKey(c.AdminKey)
	if err := run.renewTrust(); err != nil {
		return nil, err
	}
	if c.Prefill {
		run.prefill = prefiller(ctx, c.Log)
		run.prefill(s.serving.Load().Base)
	}
	instance := rand.Text()
	stopAPI := startAPI(c.Socket, api.Config{
		Catalog: s.Catalog, Log: c.Log, Instance: instance,
		Healthy: func() error { return mountGone(mounted) }, Ready: c.startProbes(ctx, s, mounted, instance),
		PublicURL: c.PublicURL, BaseURL: func() string { return publicBase(s.serving.Load().Address) },
		Watchers: c.Watchers, Watched: s.meters.watched, Stopping: c.Stopping,
		Admin:   api.Admin{Key: func() string { return *run.adminKey.Load() }, SetBase: run.setBase, Follow: run.follow},
		Observe: s.meters.answered, Trust: run.trust.Load,
	}, c.Log)
	stopMetrics, err := startMetrics(c.Metrics, s, mounted, c.Log)
	if err != nil {
		stopAPI()
		return nil, err
	}
	run.stop = func() { stopMetrics(); stopAPI() }
	go keepPruned(ctx, s)
	go watchExpiry(ctx, s.keys, c.Log)
	run.startFollowing()
	return run, nil
}

// Stop ends the API and the metrics. Requests under way have a second.
func (s *Services) Stop() { s.stop() }

// renewTrust makes the API serve the present keys.
func (s *Services) renewTrust() error {
	t, err := trustOf(s.stack.keys.get())
	if err == nil {
		s.trust.Store(t)
	}
	return err
}

// setBase is Stack.setBase for the operator.
func (s *Services) setBase(ctx context.Context, address string) error {
	err := s.stack.setBase(ctx, address)
	if err != nil && s.explain != nil {
		return s.explain(err)
	}
	return err
}

// SetAdminKey changes the key that /admin/ demands from the next request on; "":
// it is closed.
func (s *Services) SetAdminKey(key string) { s.adminKey.Store(&key) }

// SetKeyring changes the keyring that checks manifests and channels.
func (s *Services) SetKeyring(ring *signature.Keyring) { s.stack.bases.SetKeyring(ring) }

// SetLimits changes the limits of the catalog.
func (s *Services) SetLimits(limits catalog.Limits) error { return s.stack.Catalog.SetLimits(limits) }

// SetSigner changes the keys that sign images, from the next image on, and all
// that is signed on demand, from the next request on. Whether anything is signed
// cannot change: that is an error.
func (s *Services) SetSigner(signer *signature.Signer) error {
	if (signer == nil) != (s.stack.keys.get() == nil) {
		return errors.New("whether anything is signed changes only with a restart")
	}
	s.stack.keys.now.Store(signer)
	s.stack.Catalog.ForgetSidecars(SignatureSuffix)
	return s.renewTrust()
}

// LookAtChannel starts a look at the channel, and returns its address without
// secrets; ok is false if no channel is followed.
func (s *Services) LookAtChannel() (channel string, ok bool) {
	f := s.stack.bases.Follower()
	if f == nil {
		return "", false
	}
	f.LookAgain()
	return f.String(), true
}

// pruneEvery is the pause between two rounds of pruning.
const pruneEvery = 10 * time.Minute

// keepPruned prunes the snapshots at intervals, until ctx ends.
func keepPruned(ctx context.Context, s *Stack) {
	tick := time.NewTicker(pruneEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			s.Catalog.Prune()
		}
	}
}

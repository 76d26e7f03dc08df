package main

import (
	"context"
	"crypto/rand"
	"errors"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"

	"aesthetic.computer/isofs/api"
	"aesthetic.computer/isofs/upstream"
	"aesthetic.computer/isofs/vfs"
)

// services are what runs beside the mount: the API, the metrics, the probes,
// the care for superseded snapshots, the channel and the prefill.
type services struct {
	ctx   context.Context // ends with the server
	stack *stack
	key   adminKey
	trust atomic.Pointer[api.Trust]
	stop  func() // ends the API and the metrics
	log   *slog.Logger

	following sync.Mutex           // held while the channel is followed
	prefill   func(*upstream.Base) // fills the cache with a base; nil: nothing does
}

// startServices starts them. The API answers at socket; its streams end when
// stopping is closed. What else runs ends with ctx.
func startServices(ctx context.Context, o *serveFlags, s *stack, mounted *vfs.Server, socket net.Listener, stopping <-chan struct{}, log *slog.Logger) (*services, error) {
	run := &services{ctx: ctx, stack: s, log: log}
	if err := run.key.renew(&o.admin); err != nil {
		return nil, err
	}
	if err := run.renewTrust(); err != nil {
		return nil, err
	}
	if o.prefill {
		run.prefill = prefiller(ctx, log)
		run.prefill(s.serving.Load().Base)
	}
	instance := rand.Text()
	stopAPI := startAPI(socket, api.Config{
		Catalog: s.catalog, Log: log, Instance: instance,
		Healthy: func() error { return mountGone(mounted) }, Ready: startProbes(ctx, o, s, mounted, instance, log),
		PublicURL: o.api.publicURL, BaseURL: func() string { return publicBase(s.serving.Load().Address) },
		Watchers: o.api.watchers, Watched: s.meters.watched, Stopping: stopping,
		Admin:   api.Admin{Key: run.key.get, SetBase: s.setBase, Follow: run.follow},
		Observe: s.meters.answered, Trust: run.trust.Load,
	}, log)
	stopMetrics, err := startMetrics(o.metrics, s, mounted, log)
	if err != nil {
		stopAPI()
		return nil, err
	}
	run.stop = func() { stopMetrics(); stopAPI() }
	go keepPruned(ctx, s)
	go watchExpiry(ctx, s.keys, log)
	run.startFollowing()
	return run, nil
}

// renewTrust has the API serve the keys of now.
func (s *services) renewTrust() error {
	t, err := trustOf(s.stack.keys.get())
	if err == nil {
		s.trust.Store(t)
	}
	return err
}

// reload takes over what settings and files say now. What fails stays as it
// was, and the log says so.
func (s *services) reload(o *serveFlags) {
	for _, part := range []struct {
		what  string
		renew func(*serveFlags) error
	}{
		{"the admin key", func(o *serveFlags) error { return s.key.renew(&o.admin) }},
		{"the signing keys", s.renewKeys},
		{"the keyring", s.renewKeyring},
		{"the limits", func(o *serveFlags) error { return s.stack.catalog.SetLimits(o.stack.limits.catalog()) }},
	} {
		if err := part.renew(o); err != nil {
			s.log.Error("SIGHUP: not read again: "+part.what, "err", err)
		} else {
			s.log.Info("SIGHUP: read again: " + part.what)
		}
	}
	if f := s.stack.bases.Follower(); f != nil {
		f.LookAgain()
		s.log.Info("SIGHUP: looking at the channel", "channel", f.String())
	}
}

// renewKeys has images signed by the keys of now, from the next one on, and
// what is signed on demand from the next request on.
func (s *services) renewKeys(o *serveFlags) error {
	signer, err := o.stack.sign.open()
	if err != nil {
		return err
	}
	if (signer == nil) != (s.stack.keys.get() == nil) {
		return errors.New("whether anything is signed changes only with a restart")
	}
	s.stack.keys.now.Store(signer)
	s.stack.catalog.ForgetSidecars(ascSuffix)
	return s.renewTrust()
}

func (s *services) renewKeyring(o *serveFlags) error {
	ring, err := openKeyring(o.stack.keyring)
	if err == nil {
		s.stack.bases.SetKeyring(ring)
	}
	return err
}

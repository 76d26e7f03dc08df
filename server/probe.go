package server

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"aesthetic.computer/isofs/api"
	"aesthetic.computer/isofs/fault"
	"aesthetic.computer/isofs/nginx"
	"aesthetic.computer/isofs/vfs"
)

const (
	// ProbeTime bounds one look at something that serving depends on.
	ProbeTime = 5 * time.Second
	// probeAgain is the pause after a look that failed.
	probeAgain = 2 * time.Second
)

// A probe looks at one thing that serving depends on, again and again. So a request
// for its state never waits.
type probe struct {
	name  string
	every time.Duration
	// look returns a text that strangers may read, and an error if the thing does
	// not work. It may outlast its context: the last answer is then too old.
	look func(ctx context.Context) (string, error)

	mu    sync.Mutex // guards all below
	found api.Check
	at    time.Time
}

// run looks until ctx ends.
func (p *probe) run(ctx context.Context, log *slog.Logger) {
	for {
		once, cancel := context.WithTimeout(ctx, ProbeTime)
		text, err := p.look(once)
		cancel()
		if ctx.Err() != nil {
			return
		}
		if p.note(api.Check{Name: p.name, OK: err == nil, Text: text}) {
			log.Info("readiness changed", "of", p.name, "ok", err == nil, "err", err)
		}
		pause := p.every
		if err != nil {
			pause = min(pause, probeAgain)
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(pause):
		}
	}
}

// note keeps the result of a look, and reports whether it differs from before.
func (p *probe) note(found api.Check) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	news := p.at.IsZero() || found.OK != p.found.OK
	p.found, p.at = found, time.Now()
	return news
}

// state returns the last result, unless that is too old.
func (p *probe) state() api.Check {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.at.IsZero():
		return api.Check{Name: p.name, Text: "it has not been looked at yet"}
	case time.Since(p.at) > 3*p.every+ProbeTime:
		return api.Check{Name: p.name, Text: "it has not been looked at for a while"}
	}
	return p.found
}

// startProbes starts all probes, until ctx ends, and returns a function that returns
// their last results.
func (c ServicesConfig) startProbes(ctx context.Context, s *Stack, mounted *vfs.Server, instance string) func() []api.Check {
	probes := []*probe{probeBase(s)}
	if c.Web != (Web{}) {
		probes = append(probes, probeNginx(c.Web, instance))
	}
	if s.keys.get() != nil {
		probes = append(probes, probeKeys(s.keys))
	}
	for _, p := range probes {
		go p.run(ctx, c.Log)
	}
	return func() []api.Check {
		checks := []api.Check{{Name: "mount", OK: true, Text: "the images can be read"}}
		if err := mountGone(mounted); err != nil {
			checks[0] = api.Check{Name: "mount", Text: err.Error()}
		}
		for _, p := range probes {
			checks = append(checks, p.state())
		}
		return checks
	}
}

// mountGone returns an error if the mount was removed.
func mountGone(mounted *vfs.Server) error {
	select {
	case <-mounted.Done():
		return errors.New("the mount is gone")
	default:
		return nil
	}
}

// probeBase reads a byte from the base's origin. Once the cache has all that images
// have of the base, an origin that does not answer is not a failure.
func probeBase(s *Stack) *probe {
	return &probe{name: "base", every: 30 * time.Second, look: func(ctx context.Context) (string, error) {
		now := s.serving.Load() // the operator may have set another
		var one [1]byte
		err := now.Origin.Fetch(ctx, one[:], 0)
		if err == nil {
			return "its origin answers", nil
		}
		missing := now.File.Missing(now.Manifest.PiecePartitionOffset)
		if missing == 0 {
			return "its origin does not answer, and is not needed: all of it is here", nil
		}
		return "its origin does not answer, and not all of it is here", fmt.Errorf("%d bytes of the base are not in the cache: %w", missing, err)
	}}
}

// probeNginx checks that our nginx answers at the first address that it listens on,
// and not another program.
func probeNginx(web Web, instance string) *probe {
	return &probe{name: "nginx", every: 10 * time.Second, look: func(ctx context.Context) (string, error) {
		got, err := InstanceAt(ctx, web.Scheme+"://"+nginx.DialAddress(web.Listen), nil)
		if err != nil {
			return "it does not answer", err
		}
		if got != instance && got != Busy {
			return "it does not answer: its address is another program's", fmt.Errorf("%s is not our nginx: %w", web.Listen, fault.Unavailable)
		}
		return "it answers", nil
	}}
}

// Busy is what InstanceAt returns of an isofs that refuses a request because it is
// busy.
const Busy = "busy"

// InstanceAt asks the isofs at an address, scheme://host:port, which instance it is,
// and returns "" if another program answers there. dial may make the connection
// elsewhere; nil: it does not. An error is fault.Unavailable.
func InstanceAt(ctx context.Context, address string, dial func(ctx context.Context, network, address string) (net.Conn, error)) (string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address+"/healthz", nil)
	if err != nil {
		return "", err
	}
	client := &http.Client{
		Transport: &http.Transport{
			DialContext: dial, DisableKeepAlives: true, MaxResponseHeaderBytes: 64 << 10,
			// The request goes to this machine's own address, which is in no
			// certificate, for a number that is not secret.
			TLSClientConfig: &tls.Config{InsecureSkipVerify: true},
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	resp, err := client.Do(req)
	if err != nil {
		return "", fmt.Errorf("%w: %w", fault.Unavailable, err)
	}
	resp.Body.Close()
	if resp.StatusCode == http.StatusTooManyRequests {
		return Busy, nil
	}
	return resp.Header.Get(api.InstanceHeader), nil
}

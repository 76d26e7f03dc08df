package nginx

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"aesthetic.computer/isofs/fault"
)

// reloadTime suffices for nginx -t and the five times, half a second apart, that
// nginx tries to bind a new address.
const reloadTime = 15 * time.Second

// Refresh makes nginx run with c, as Reload does, if that changes anything, its
// certificate included, and reports whether it does. In any case nginx opens its
// log again by its name, as is needed after the file was renamed.
func (s *Server) Refresh(c Config) (changed bool, err error) {
	next, err := digest(withoutUser(c))
	if err != nil {
		return false, err
	}
	s.mu.Lock()
	now := s.running
	s.mu.Unlock()
	if next == now {
		if c := s.current(); !c.hasExited() {
			c.signal(syscall.SIGUSR1)
		}
		return false, nil
	}
	return true, s.Reload(c)
}

// digest is over all that nginx reads as it starts or reloads.
func digest(c Config) (sum [sha256.Size]byte, err error) {
	text, err := Render(c)
	if err != nil {
		return sum, err
	}
	h := sha256.New()
	h.Write(text)
	for _, path := range []string{c.Host.Certificate, c.Host.Key} {
		if path == "" {
			continue
		}
		content, err := os.ReadFile(path)
		if err != nil {
			return sum, fmt.Errorf("read what TLS needs: %w: %w", fault.Invalid, err)
		}
		fmt.Fprintf(h, "%d %s", len(content), content)
	}
	return [sha256.Size]byte(h.Sum(nil)), nil
}

// Reload makes nginx run with c without cutting a download: the workers that
// have some finish them under the old configuration. If we or nginx refuse c,
// the old one stays. RunDir cannot change. Errors wrap fault.Invalid or
// fault.Unavailable.
func (s *Server) Reload(c Config) error {
	s.reloading <- struct{}{}
	defer func() { <-s.reloading }()
	if err := c.Validate(); err != nil {
		return err
	}
	if filepath.Clean(c.RunDir) != s.runDir {
		return fmt.Errorf("reload nginx: %w: the run directory cannot change from %s to %s; restart isofs instead", fault.Invalid, s.runDir, c.RunDir)
	}
	c = withoutUser(c)
	sum, err := digest(c)
	if err != nil {
		return fmt.Errorf("reload nginx: %w", err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), reloadTime)
	defer cancel()
	conf := filepath.Join(s.runDir, confFile)
	old, err := os.ReadFile(conf)
	if err != nil {
		return fmt.Errorf("reload nginx: %w: %w", fault.Unavailable, err)
	}
	if err := s.install(ctx, c); err != nil {
		return fmt.Errorf("reload nginx: %w", err)
	}
	if err := s.exchangeWorkers(ctx, s.current()); err != nil {
		// The next restart must not meet what nginx has just refused.
		return fmt.Errorf("reload nginx: %w: %w", fault.Unavailable, errors.Join(err, os.WriteFile(conf, old, 0o644)))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.config, s.running = c, sum
	return nil
}

// exchangeWorkers makes the master read its configuration again, and waits for
// the first worker that runs with it, or for nginx's complaint. If the child has
// died, its successor reads the new file anyway.
func (s *Server) exchangeWorkers(ctx context.Context, c *child) error {
	if s.isStopping() {
		return errStopping
	}
	if c.hasExited() {
		return nil
	}
	before := workersOf(c.master.Pid)
	s.errs.reset()
	c.signal(syscall.SIGHUP)
	for {
		for pid := range workersOf(c.master.Pid) {
			if !before[pid] {
				return nil
			}
		}
		if reason, final := s.errs.reason(); final {
			return errors.New(explain(reason))
		}
		select {
		case <-c.exited:
			return nil
		case <-ctx.Done():
			return fmt.Errorf("no worker with the new configuration came up within %v", reloadTime)
		case <-time.After(pollInterval):
		}
	}
}

// awaitListening returns nil when c has opened its addresses and answers there.
func (s *Server) awaitListening(ctx context.Context, c *child) error {
	for pid := filepath.Join(s.runDir, pidFile); readPID(pid) != c.master.Pid; {
		select {
		case <-c.exited:
			if reason, _ := s.errs.reason(); reason != "" {
				return errors.New(explain(reason))
			}
			return fmt.Errorf("it ended at once: %w", c.err)
		case <-ctx.Done():
			return fmt.Errorf("it does not listen yet: %w", ctx.Err())
		case <-time.After(pollInterval):
		}
	}
	var dialer net.Dialer
	for _, l := range slices.Concat(s.config.Listen, s.config.Host.Redirect) {
		conn, err := dialer.DialContext(ctx, "tcp", DialAddress(l))
		if err != nil {
			return fmt.Errorf("it does not listen on %s: %w", l, err)
		}
		conn.Close()
	}
	return nil
}

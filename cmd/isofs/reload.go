package main

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"aesthetic.computer/isofs/nginx"
)

// A hangup (SIGHUP) has a server read its settings again: arguments,
// environment and file are resolved once more, by the same code as at the
// start. Those that can change while it runs do; the log names the others.

// reloadable are the settings that a running server takes over. What the files
// named by them contain is read again in any case.
var reloadable = []string{
	"sign-key", "sign-passphrase-file", "keyring", "admin-key-file", "access-log", "retain", "server-name", "tls-cert", "tls-key", "acme-webroot",
	"limit-connections", "limit-network", "limit-requests", "limit-burst", "limit-rate", "limit-total", "limit-costly", "limit-costly-burst",
	"limit-new", "limit-new-burst", "limit-new-total", "limit-new-total-burst", "limit-snapshots",
}

// A reload resolves the settings once more.
type reload struct {
	running settings // what the server runs with
	restart []string // settings that have changed and wait for a restart
	flags   *serveFlags
	now     settings // what it is to run with
}

type reloadKey struct{}

// reloadIn returns the reload that a command is run for, instead of serving.
func reloadIn(ctx context.Context) *reload {
	r, _ := ctx.Value(reloadKey{}).(*reload)
	return r
}

// resolveAgain resolves the settings of cmd, which runs with running, once
// more. If anything in them is wrong they are refused as a whole.
func resolveAgain(cmd *cobra.Command, running settings) (*reload, error) {
	r := &reload{running: running}
	root := newRoot()
	root.SetArgs(os.Args[1:])
	_, err := execute(context.WithValue(cmd.Context(), reloadKey{}, r), root)
	return r, err
}

// resolved is called with the command and its flags as they are resolved now.
// It puts back what only a restart can change.
func (r *reload) resolved(cmd *cobra.Command, o *serveFlags) error {
	var failed error
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		was, now := r.running[f.Name], settingOf(f)
		if was.equals(now) || slices.Contains(reloadable, f.Name) || f.Name == "config" {
			return
		}
		r.restart = append(r.restart, f.Name)
		if err := setFlag(f, was); err != nil && failed == nil {
			failed = err
		}
	})
	if failed == nil {
		failed = o.complete()
	}
	r.flags, r.now = o, settingsOf(cmd.Flags())
	return failed
}

// changed are the settings of a list that differ from those that run.
func (r *reload) changed(names ...string) []string {
	return slices.DeleteFunc(slices.Clone(names), func(name string) bool {
		return r.running[name].equals(r.now[name])
	})
}

// reloadWeb has nginx take over what changed for it, and reopen its log.
func reloadWeb(web *nginx.Server, o *serveFlags, log *slog.Logger) {
	if web == nil {
		return
	}
	if err := errors.Join(o.makeDirectories(), o.prepareWeb(log)); err != nil {
		log.Error("nginx stays as it was", "err", err)
		return
	}
	changed, err := web.Refresh(o.nginxConfig())
	switch {
	case err != nil:
		log.Error("nginx stays as it was", "err", err)
	case changed:
		log.Info("nginx has new settings and opened its log again", "access_log", o.web.accessLog)
	default:
		log.Info("nginx opened its log again", "access_log", o.web.accessLog)
	}
}

// report says what will be done.
func (r *reload) report(log *slog.Logger) {
	if len(r.restart) > 0 {
		log.Warn("SIGHUP: these settings have changed and need a restart", "settings", strings.Join(r.restart, ", "))
	}
	log.Info("SIGHUP: reading settings, keys and the channel again", "changed", strings.Join(r.changed(reloadable...), ", "))
}

// reload obeys a hangup: nginx here, the rest in the child.
func (p *parent) reload(web *nginx.Server) {
	r, err := resolveAgain(p.cmd, p.running)
	if err != nil {
		p.log.Error("SIGHUP: the settings are wrong, and stay as they were", "err", err)
		return
	}
	r.report(p.log)
	p.running = r.now // the next child begins with them, too
	p.flags.web = r.flags.web
	reloadWeb(web, p.flags, p.log)
	if err := p.child.send(p.running); err != nil {
		p.log.Error("SIGHUP: the serving process does not take the settings", "err", err)
	}
}

// reloadAt obeys hangups where there is one process.
func (s *services) reloadAt(hangups <-chan os.Signal, cmd *cobra.Command, web *nginx.Server) {
	running := settingsOf(cmd.Flags())
	for {
		select {
		case <-s.ctx.Done():
			return
		case <-hangups:
		}
		r, err := resolveAgain(cmd, running)
		if err != nil {
			s.log.Error("SIGHUP: the settings are wrong, and stay as they were", "err", err)
			continue
		}
		r.report(s.log)
		running = r.now
		reloadWeb(web, r.flags, s.log)
		s.reload(r.flags)
	}
}

// reloadByParent takes over what the parent sends after a hangup.
func (s *services) reloadByParent(cmd *cobra.Command) {
	for running := settingsOf(cmd.Flags()); ; {
		r, err := resolveAgain(cmd, running)
		if errors.Is(err, errHandover) {
			return // the parent has ended
		}
		if err != nil {
			s.log.Error("SIGHUP: the settings stay as they were", "err", err)
			continue
		}
		running = r.now
		s.reload(r.flags)
	}
}

package main

import (
	"context"
	"log/slog"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"aesthetic.computer/isofs/nginx"
	"aesthetic.computer/isofs/server"
	"aesthetic.computer/isofs/settings"
	"aesthetic.computer/isofs/signature"
)

// A hangup (SIGHUP) makes a server read its settings again. The same code as at the start
// resolves arguments, environment and file. Settings that can change while it runs do; the
// log names the others.

// reloadable are the settings that a running server takes over. It always reads the files
// that they name again.
var reloadable = []string{
	"sign-key", "sign-passphrase-file", "keyring", "admin-key-file", "access-log", "retain", "server-name", "tls-cert", "tls-key", "acme-webroot",
	"limit-connections", "limit-network", "limit-requests", "limit-burst", "limit-rate", "limit-total", "limit-costly", "limit-costly-burst",
	"limit-new", "limit-new-burst", "limit-new-total", "limit-new-total-burst", "limit-snapshots",
}

// A reload resolves the settings again.
type reload struct {
	running settings.Values // what the server runs with
	restart []string        // settings that have changed and wait for a restart
	flags   *serveFlags
	now     settings.Values // what it shall run with
}

type reloadKey struct{}

// reloadIn returns the reload for which a command runs instead of serving.
func reloadIn(ctx context.Context) *reload {
	r, _ := ctx.Value(reloadKey{}).(*reload)
	return r
}

// resolveAgain resolves again the settings of cmd, which runs with running. If anything in
// them is wrong it refuses them as a whole.
func resolveAgain(cmd *cobra.Command, running settings.Values) (*reload, error) {
	r := &reload{running: running}
	root := newRoot()
	root.SetArgs(os.Args[1:])
	_, err := execute(context.WithValue(cmd.Context(), reloadKey{}, r), root)
	return r, err
}

// resolved gets the command and its flags as they resolve now. It puts back what only a
// restart can change.
func (r *reload) resolved(cmd *cobra.Command, o *serveFlags) error {
	if err := o.complete(); err != nil {
		return err
	}
	var failed error
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		was, now := r.running[f.Name], settings.ValueOf(f)
		if was.Equal(now) || slices.Contains(reloadable, f.Name) || f.Name == "config" {
			return
		}
		r.restart = append(r.restart, f.Name)
		if err := was.Set(f); err != nil && failed == nil {
			failed = err
		}
	})
	if failed == nil {
		failed = o.validate()
	}
	r.flags, r.now = o, settings.ValuesOf(cmd.Flags())
	return failed
}

// report says what will be done.
func (r *reload) report(log *slog.Logger) {
	if len(r.restart) > 0 {
		log.Warn("SIGHUP: these settings have changed and need a restart", "settings", strings.Join(r.restart, ", "))
	}
	changed := slices.DeleteFunc(slices.Clone(reloadable), func(name string) bool { return r.running[name].Equal(r.now[name]) })
	log.Info("SIGHUP: reading settings, keys and the channel again", "changed", strings.Join(changed, ", "))
}

// A reloader takes over settings in a process of a server.
type reloader struct {
	cmd     *cobra.Command
	running settings.Values // what the server runs with, and children are started with
	child   *server.Child   // the present one, in root's process
	log     *slog.Logger
}

// reload resolves the settings. nginx, the services and the child of this process take them
// over (server.Process).
func (r *reloader) reload(s *server.Services, web *nginx.Server) error {
	again, err := resolveAgain(r.cmd, r.running)
	if err != nil {
		return err
	}
	if !server.IsChild() {
		again.report(r.log)
	}
	r.running = again.now
	config := again.flags.config(r.log)
	config.RefreshWeb(web)
	if s != nil {
		renew(s, again.flags, r.log)
		return nil
	}
	if err := r.child.Send(r.running); err != nil {
		r.log.Error("SIGHUP: the serving process does not take the settings", "err", err)
	}
	return nil
}

// renew makes the services take over the present settings and the content of the files. If a
// part fails, that part stays as it was, and the log says so.
func renew(s *server.Services, o *serveFlags, log *slog.Logger) {
	for _, part := range []struct {
		what  string
		renew func() error
	}{
		{"the admin key", func() error {
			key, err := o.admin.read()
			if err == nil {
				s.SetAdminKey(key)
			}
			return err
		}},
		{"the signing keys", func() error {
			signer, err := o.stack.sign.open()
			if err == nil {
				err = s.SetSigner(signer)
			}
			return err
		}},
		{"the keyring", func() error {
			ring, err := signature.OpenKeyring(o.stack.keyring)
			if err == nil {
				s.SetKeyring(ring)
			}
			return err
		}},
		{"the limits", func() error { return s.SetLimits(o.stack.limits.catalog()) }},
	} {
		if err := blameFlags(part.renew()); err != nil {
			log.Error("SIGHUP: not read again: "+part.what, "err", err)
		} else {
			log.Info("SIGHUP: read again: " + part.what)
		}
	}
	if channel, ok := s.LookAtChannel(); ok {
		log.Info("SIGHUP: looking at the channel", "channel", channel)
	}
}

package main

import (
	"context"
	"log/slog"

	"aesthetic.computer/isofs/server"
	"aesthetic.computer/isofs/vfs"
)

// services are those of a server, whose settings SIGHUP reads again.
type services struct {
	*server.Services
	ctx context.Context // ends with the server
	log *slog.Logger
}

// servicesConfig is the Config of what runs beside the mount, as far as the flags
// describe it.
func (o *serveFlags) servicesConfig() server.ServicesConfig {
	config := server.ServicesConfig{
		PublicURL: o.api.publicURL, Watchers: o.api.watchers, Metrics: o.metrics, Prefill: o.prefill, Explain: blameSettings,
	}
	if o.web.enabled && len(o.web.listen) > 0 {
		config.Web = server.Web{Scheme: o.web.host.scheme(), Listen: o.web.listen[0]}
	}
	return config
}

// config is the Config of a server that the flags describe, without what depends
// on the process that runs it: the socket, who may read the mount, and nginx. It
// reads the keys and the keyring.
func (o *serveFlags) config(log *slog.Logger) (server.Config, error) {
	stack, err := o.stack.readConfig(log)
	if err != nil {
		return server.Config{}, err
	}
	stack.Sidecars = server.Sidecars(o.api.publicURL, o.api.peers)
	services := o.servicesConfig()
	services.Log = log
	services.AdminKey, err = o.admin.read()
	return server.Config{
		Stack: stack, Services: services, Log: log,
		Mount: vfs.Config{Mountpoint: o.mount, Profile: vfs.Profile(o.profile), PageLimit: int64(o.pages), Log: log},
	}, err
}

// webConfig says how nginx is run; nil if it is not.
func (o *serveFlags) webConfig() *server.WebConfig {
	if !o.web.enabled {
		return nil
	}
	return &server.WebConfig{Binary: o.web.binary, Nginx: o.nginxConfig(), Grace: o.web.grace}
}

// reload takes over what settings and files say now. What fails stays as it
// was, and the log says so.
func (s *services) reload(o *serveFlags) {
	for _, part := range []struct {
		what  string
		renew func(*serveFlags) error
	}{
		{"the admin key", s.renewAdminKey},
		{"the signing keys", s.renewKeys},
		{"the keyring", s.renewKeyring},
		{"the limits", func(o *serveFlags) error { return s.SetLimits(o.stack.limits.catalog()) }},
	} {
		if err := part.renew(o); err != nil {
			s.log.Error("SIGHUP: not read again: "+part.what, "err", err)
		} else {
			s.log.Info("SIGHUP: read again: " + part.what)
		}
	}
	if channel, ok := s.LookAtChannel(); ok {
		s.log.Info("SIGHUP: looking at the channel", "channel", channel)
	}
}

func (s *services) renewAdminKey(o *serveFlags) error {
	key, err := o.admin.read()
	if err == nil {
		s.SetAdminKey(key)
	}
	return err
}

func (s *services) renewKeys(o *serveFlags) error {
	signer, err := o.stack.sign.open()
	if err != nil {
		return err
	}
	return s.SetSigner(signer)
}

func (s *services) renewKeyring(o *serveFlags) error {
	ring, err := openKeyring(o.stack.keyring)
	if err == nil {
		s.SetKeyring(ring)
	}
	return err
}

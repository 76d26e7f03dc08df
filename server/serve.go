package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"time"

	"aesthetic.computer/isofs/nginx"
	"aesthetic.computer/isofs/vfs"
)

// An UnmountedError means that something else removed the mount.
type UnmountedError struct {
	Dir string // that was mounted on, where there was a web server; else ""
}

// Error implements error.
func (e *UnmountedError) Error() string {
	if e.Dir == "" {
		return "the mount was taken away"
	}
	return fmt.Sprintf("the mount at %s was taken away", e.Dir)
}

// serve opens the layers, mounts the images and serves them until ctx ends. listen returns where
// the API answers; ready is called once everything serves.
func (c *Config) serve(ctx context.Context, listen func() (net.Listener, error), ready func(*Services, *nginx.Server) error) error {
	c.Stack.Sidecars = sidecars(c.Services.PublicURL, c.Services.Peers)
	s, err := OpenStack(ctx, c.Stack)
	if err != nil {
		return err
	}
	defer s.Close()
	mounted, err := vfs.Mount(c.Mount, catalogTree{s.Catalog})
	if err != nil {
		return err
	}
	if c.Mount.Device == nil {
		defer unmount(mounted, c.Mount.Mountpoint, c.Log)
	}
	if c.Services.Socket, err = listen(); err != nil {
		return err
	}
	services, err := StartServices(ctx, c.Services, s, mounted)
	if err != nil {
		return err
	}
	defer services.Stop()
	if c.Web != nil && c.Mount.Device == nil {
		return c.serveWeb(ctx, mounted.Done(), func(web *nginx.Server) error { return ready(services, web) })
	}
	if c.Mount.Device == nil {
		c.Log.Info("mounted", "dir", c.Mount.Mountpoint, "pieces", len(s.Catalog.Pieces(ctx)))
	}
	if err := ready(services, nil); err != nil {
		return err
	}
	select {
	case <-ctx.Done():
		return nil
	case <-mounted.Done():
		return &UnmountedError{}
	}
}

// serveWeb runs nginx until ctx or the mount ends.
func (c *Config) serveWeb(ctx context.Context, unmounted <-chan struct{}, ready func(*nginx.Server) error) error {
	web, err := nginx.Start(ctx, c.Web.Binary, c.Web.Nginx, c.Log)
	if err != nil {
		return err
	}
	err = ready(web)
	c.Log.Info("serving", "listen", c.Web.Nginx.Listen, "mount", c.Mount.Mountpoint, "profile", c.Mount.Profile)
	if err == nil {
		select {
		case <-ctx.Done():
		case <-unmounted:
			err = &UnmountedError{c.Mount.Mountpoint}
		case <-web.Done():
			return fmt.Errorf("nginx ended: %w", web.Err())
		}
	}
	grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), c.Web.Grace)
	defer cancel()
	return errors.Join(err, web.Stop(grace))
}

// UnmountTimeout bounds the wait for a busy mount.
const UnmountTimeout = 5 * time.Second

// unmount removes the mount, if needed from under its readers: a mount that is not served would
// hang them for ever.
func unmount(mounted *vfs.Server, dir string, log *slog.Logger) {
	ctx, cancel := context.WithTimeout(context.Background(), UnmountTimeout)
	defer cancel()
	if err := mounted.Unmount(ctx); err != nil {
		log.Warn("the mount is busy; it is detached, and goes when the last reader leaves", "dir", dir, "err", err)
		if err := mounted.Detach(); err != nil {
			log.Error("not unmounted", "dir", dir, "err", err)
		}
	}
}

package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"time"

	"aesthetic.computer/isofs/fault"
	"aesthetic.computer/isofs/nginx"
	"aesthetic.computer/isofs/vfs"
)

// Config says what Run runs.
type Config struct {
	Stack StackConfig
	// Mount says where and how the images are mounted. With a Device, which
	// another process mounted, Run leaves the mount to that process at its end.
	Mount vfs.Config
	// Listen returns where the API answers. It is called once the images are
	// mounted.
	Listen   func() (net.Listener, error)
	Services ServicesConfig // Run sets Socket
	Web      *WebConfig     // nil: no nginx is started
	// Started is called once everything serves, with web nil if there is none; an
	// error of it ends Run. It may be nil.
	Started func(s *Services, web *nginx.Server) error
	Log     *slog.Logger // nil: nothing is logged
}

// Validate returns all that is wrong with the Configs of the layers and the
// services as fault.SettingErrors, and nil if nothing is.
func (c *Config) Validate() error {
	return append(fault.AsSettings(c.Stack.Validate()), fault.AsSettings(c.Services.Validate())...).Err()
}

// WebConfig says how nginx is run.
type WebConfig struct {
	Binary string // name or path
	Nginx  nginx.Config
	Grace  time.Duration // how long running downloads go on after a stop
}

// An UnmountedError says that somebody took the mount away.
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

// Run opens the layers, mounts the images and serves them until ctx ends, which
// is no error. It returns an *UnmountedError if the mount is taken away, an error
// if nginx ends by itself, and those of OpenStack, vfs.Mount and StartServices.
func Run(ctx context.Context, c Config) error {
	if err := c.Validate(); err != nil {
		return err
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
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
	if c.Services.Socket, err = c.Listen(); err != nil {
		return err
	}
	services, err := StartServices(ctx, c.Services, s, mounted)
	if err != nil {
		return err
	}
	defer services.Stop()
	if c.Web != nil {
		return c.serveWeb(ctx, services, mounted.Done())
	}
	if c.Mount.Device == nil {
		c.Log.Info("mounted", "dir", c.Mount.Mountpoint, "pieces", len(s.Catalog.Pieces(ctx)))
	}
	if err := c.started(services, nil); err != nil {
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
func (c *Config) serveWeb(ctx context.Context, services *Services, unmounted <-chan struct{}) error {
	web, err := nginx.Start(ctx, c.Web.Binary, c.Web.Nginx, c.Log)
	if err != nil {
		return err
	}
	err = c.started(services, web)
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

func (c *Config) started(s *Services, web *nginx.Server) error {
	if c.Started == nil {
		return nil
	}
	return c.Started(s, web)
}

// UnmountTimeout is how long a busy mount is waited for.
const UnmountTimeout = 5 * time.Second

// unmount takes the mount away, if need be from under its readers: a mount that
// is not served would hang them for ever.
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

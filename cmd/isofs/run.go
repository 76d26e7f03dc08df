package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"runtime/debug"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"aesthetic.computer/isofs/border"
	"aesthetic.computer/isofs/nginx"
	"aesthetic.computer/isofs/server"
	"aesthetic.computer/isofs/vfs"
)

// runServe runs cmd until ctx ends: in one process, or in two when root started it.
func runServe(cmd *cobra.Command, args []string, o *serveFlags) error {
	if err := o.complete(); err != nil {
		return err
	}
	ctx := cmd.Context()
	if r := reloadIn(ctx); r != nil {
		return r.resolved(cmd, o)
	}
	// Before all else, since both end a process that does not listen: a hangup,
	// and a log that is read no more.
	hangups := make(chan os.Signal, 1)
	signal.Notify(hangups, syscall.SIGHUP)
	defer signal.Stop(hangups)
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE)
	collectOften()
	if device := inheritedDevice(); device != nil {
		return serveUnprivileged(ctx, cmd, o, device)
	}
	as, err := lookupUser(o.stack.user)
	if err != nil {
		return err
	}
	if err := o.makeDirectories(); err != nil {
		return err
	}
	if err := o.prepareWeb(slog.Default()); err != nil {
		return err
	}
	lock, err := server.Lock(o.run, settingRun)
	if err != nil {
		return blameSettings(err)
	}
	defer lock.Close()
	if err := vfs.Recover(o.mount); err != nil {
		return err
	}
	if o.web.enabled {
		if err := nginx.Available(ctx, o.nginxConfig(), slog.Default()); err != nil {
			return err
		}
	}
	if os.Geteuid() == 0 && !as.isRoot() {
		err = newParent(cmd, args, o, as).run(ctx, hangups)
	} else {
		err = serveAlone(ctx, cmd, o, hangups)
	}
	if ctx.Err() != nil && errors.Is(err, context.Canceled) {
		// A stop in the middle of the start is what was asked for, no failure.
		slog.Info("stopped before it served", "err", err)
		return nil
	}
	return err
}

// collectOften has the garbage collector run when the heap grew by a quarter,
// unless the environment says otherwise: most of it is buffers of 1 MiB, which
// their pools give up after two collections only, and what else there is costs
// little to look through. With Go's default sixteen downloads of what is cached
// took 91 to 114 MiB, with this 25 to 113, mostly 75.
func collectOften() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(25)
	}
}

// makeDirectories makes those that whoever starts isofs keeps: root's stay
// root's, below no directory that others can write to.
func (o *serveFlags) makeDirectories() error {
	dirs := []string{o.run}
	if o.web.enabled {
		dirs = append(dirs, o.nginxConfig().RunDir)
	}
	if log := o.logDirectory(); log != "" {
		dirs = append(dirs, log)
	}
	for _, dir := range dirs {
		if os.Geteuid() == 0 {
			if err := border.Own(dir); err != nil {
				return err
			}
		} else if err := os.MkdirAll(dir, 0o755); err != nil {
			return fmt.Errorf("make a directory: %w", err)
		}
	}
	return nil
}

// prepareWeb looks at what nginx reads as it starts or reloads.
func (o *serveFlags) prepareWeb(log *slog.Logger) error {
	if !o.web.enabled {
		return nil
	}
	until, err := o.web.host.check()
	if err != nil {
		return err
	}
	o.web.host.report(until, log)
	return nil
}

// logDirectory is that of the access log, "" if that is no file.
func (o *serveFlags) logDirectory() string {
	log := o.web.accessLog
	if !o.web.enabled || !filepath.IsAbs(log) || strings.HasPrefix(log, "/dev/") {
		return ""
	}
	return filepath.Dir(log)
}

// serveAlone does everything in this process.
func serveAlone(ctx context.Context, cmd *cobra.Command, o *serveFlags, hangups <-chan os.Signal) error {
	log := slog.Default()
	s, err := o.stack.openStack(ctx, log, server.Sidecars(o.api.publicURL, o.api.peers)...)
	if err != nil {
		return err
	}
	defer s.Close()
	mounted, err := vfs.Mount(vfs.Config{
		Mountpoint: o.mount, Profile: vfs.Profile(o.profile), PageLimit: int64(o.pages),
		AllowOther: os.Geteuid() == 0, Log: log,
	}, vfs.FromCatalog(s.Catalog))
	if err != nil {
		return err
	}
	defer unmount(mounted, o.mount, log)
	api, err := listenAPI(o.socket())
	if err != nil {
		return err
	}
	services, err := o.startServices(ctx, s, mounted, api, ctx.Done(), log)
	if err != nil {
		return err
	}
	defer services.Stop()
	if !o.web.enabled {
		log.Info("mounted", "dir", o.mount, "pieces", len(s.Catalog.Pieces(ctx)))
		go services.reloadAt(hangups, cmd, nil)
		return waitFor(ctx, mounted.Done())
	}
	return serveWeb(ctx, o, log, mounted.Done(), func(web *nginx.Server) { services.reloadAt(hangups, cmd, web) })
}

// serveWeb runs nginx, and reload beside it, until ctx or the mount ends.
func serveWeb(ctx context.Context, o *serveFlags, log *slog.Logger, unmounted <-chan struct{}, reload func(*nginx.Server)) error {
	web, err := nginx.Start(ctx, o.web.binary, o.nginxConfig(), log)
	if err != nil {
		return err
	}
	go reload(web)
	log.Info("serving", "listen", o.web.listen, "mount", o.mount, "profile", o.profile)
	select {
	case <-ctx.Done():
	case <-unmounted:
		err = fmt.Errorf("the mount at %s was taken away", o.mount)
	case <-web.Done():
		return fmt.Errorf("nginx ended: %w", web.Err())
	}
	grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), o.web.grace)
	defer cancel()
	return errors.Join(err, web.Stop(grace))
}

// waitFor waits for the end that is asked for, or the one that is not.
func waitFor(ctx context.Context, unmounted <-chan struct{}) error {
	select {
	case <-ctx.Done():
		return nil
	case <-unmounted:
		return errors.New("the mount was taken away")
	}
}

// unmountPatience is how long a busy mount is waited for.
const unmountPatience = 5 * time.Second

// unmount takes the mount away, if need be from under those who hold it: a
// mount that nobody serves would hang them for ever.
func unmount(mounted *vfs.Server, dir string, log *slog.Logger) {
	ctx, cancel := context.WithTimeout(context.Background(), unmountPatience)
	defer cancel()
	if err := mounted.Unmount(ctx); err != nil {
		log.Warn("the mount is busy; it is detached, and goes when the last reader leaves", "dir", dir, "err", err)
		if err := mounted.Detach(); err != nil {
			log.Error("not unmounted", "dir", dir, "err", err)
		}
	}
}

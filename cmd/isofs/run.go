package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"runtime/debug"
	"strings"
	"syscall"

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
	if isChild() {
		return serveAsChild(ctx, cmd, o)
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
	config, err := o.config(slog.Default())
	if err != nil {
		return err
	}
	config.Mount.AllowOther = os.Geteuid() == 0
	config.Listen = func() (net.Listener, error) { return server.ListenAPI(o.socket()) }
	config.Services.Stopping = ctx.Done()
	config.Web = o.webConfig()
	config.Started = func(s *server.Services, web *nginx.Server) error {
		go (&services{s, ctx, config.Log}).reloadAt(hangups, cmd, web)
		return nil
	}
	return blameSettings(server.Run(ctx, config))
}

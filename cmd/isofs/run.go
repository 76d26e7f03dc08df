package main

import (
	"context"
	"log/slog"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"aesthetic.computer/isofs/server"
	"aesthetic.computer/isofs/settings"
)

// runServe serves until the context of cmd ends.
func runServe(cmd *cobra.Command, args []string, o *serveFlags) error {
	ctx := cmd.Context()
	if r := reloadIn(ctx); r != nil {
		return r.resolved(cmd, o)
	}
	if err := o.validate(); err != nil {
		return err
	}
	// Before all else, since both end a process that does not listen: a hangup, and a
	// log whose reader has ended.
	hangups := make(chan os.Signal, 1)
	signal.Notify(hangups, syscall.SIGHUP)
	defer signal.Stop(hangups)
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE)
	as, err := server.LookupUser(o.stack.user)
	if err != nil {
		return err
	}
	log := slog.Default()
	config := o.config(log)
	if os.Geteuid() != 0 || as.IsRoot() { // else only the child reads keys
		if config, err = o.readConfig(log); err != nil {
			return err
		}
	}
	if len(args) > 0 {
		args = []string{o.mount} // absolute now
	}
	r := &reloader{cmd: cmd, running: settings.ValuesOf(cmd.Flags()), log: log}
	config.User = as
	config.Process = server.Process{Hangups: hangups, Reload: r.reload, StartChild: func(files ...*os.File) (*server.Child, error) {
		var err error
		r.child, err = startChild(cmd, as, o.stack.state, args, r.running, files...)
		return r.child, err
	}}
	return server.Run(ctx, config)
}

// startChild starts this program again as a user, to do the work of cmd with these
// arguments and settings.
func startChild(cmd *cobra.Command, as server.Identity, state string, args []string, values settings.Values, files ...*os.File) (*server.Child, error) {
	c, err := server.StartChild(as, state, append(strings.Fields(cmd.CommandPath())[1:], args...), files...)
	if err != nil {
		return nil, err
	}
	if err := c.Send(values); err != nil {
		_ = c.Process.Kill() // it may have ended; then its error is the better one
	}
	return c, nil
}

// asUser makes --user do the work of cmd, with files as its descriptors from 3 on, if
// this process is root's. Otherwise it returns that it did not, and the caller does
// the work.
func (o *stackFlags) asUser(ctx context.Context, cmd *cobra.Command, args []string, files ...*os.File) (done bool, err error) {
	if os.Geteuid() != 0 || server.IsChild() {
		return false, nil
	}
	as, err := server.LookupUser(o.user)
	if err != nil || as.IsRoot() {
		return err != nil, err
	}
	if err := as.Give(o.state, o.cache.dir(o.state), slog.Default()); err != nil {
		return true, err
	}
	c, err := startChild(cmd, as, o.state, args, settings.ValuesOf(cmd.Flags()), files...)
	if err != nil {
		return true, err
	}
	select {
	case <-c.Done:
	case <-ctx.Done():
		_ = c.Process.Signal(syscall.SIGTERM) // it may have ended
		<-c.Done
	}
	return true, c.Err()
}

package main

import (
	"context"
	"log/slog"
	"os"

	"github.com/spf13/cobra"

	"aesthetic.computer/isofs/nginx"
	"aesthetic.computer/isofs/server"
	"aesthetic.computer/isofs/vfs"
)

// serveAsChild is the child of a server that root started.
func serveAsChild(ctx context.Context, cmd *cobra.Command, o *serveFlags) error {
	config, err := o.config(slog.Default())
	if err != nil {
		return err
	}
	config.Started = func(s *server.Services, _ *nginx.Server) error {
		go (&services{s, ctx, config.Log}).reloadByParent(cmd)
		return nil
	}
	return blameSettings(server.RunChild(ctx, config))
}

// A parent is the process with root's rights. It hands its children the settings.
type parent struct {
	cmd   *cobra.Command
	args  []string
	flags *serveFlags
	as    identity
	log   *slog.Logger

	running settings  // what children are started with; a hangup may change it
	child   *handover // to the present one
}

func newParent(cmd *cobra.Command, args []string, o *serveFlags, as identity) *parent {
	if len(args) > 0 {
		args = []string{o.mount} // absolute now
	}
	return &parent{cmd: cmd, args: args, flags: o, as: as, log: slog.Default(), running: settingsOf(cmd.Flags())}
}

// run has a child serve until ctx ends.
func (p *parent) run(ctx context.Context, hangups <-chan os.Signal) error {
	stack := &p.flags.stack
	if err := stack.giveDirectories(p.as); err != nil {
		return err
	}
	if err := p.flags.usable(stack.state); err != nil {
		return blame("state", err)
	}
	config := server.ParentConfig{
		Mount: p.flags.mount, Profile: vfs.Profile(p.flags.profile), Socket: p.flags.socket(),
		User: p.as.credential(), UserName: p.as.name, UserDirs: []string{stack.state},
		Web: p.flags.webConfig(), StartChild: p.startChild, Hangups: hangups, Log: p.log,
	}
	if cache := stack.cache.dir(stack.state); cache != "" {
		config.UserDirs = append(config.UserDirs, cache)
	}
	return server.RunParent(ctx, config, p.reload)
}

// startChild starts a child and sends it the settings.
func (p *parent) startChild(files ...*os.File) (*server.Child, error) {
	again, settings, err := p.flags.stack.command(p.cmd, p.as, p.args...)
	if err != nil {
		return nil, err
	}
	again.ExtraFiles = files
	c, err := server.StartChild(again)
	if err != nil {
		return nil, err
	}
	p.child = settings
	// If that fails it has ended, and its own error is the better one.
	_ = settings.send(p.running)
	return c, nil
}

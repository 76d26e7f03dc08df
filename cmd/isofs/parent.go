package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"aesthetic.computer/isofs/nginx"
	"aesthetic.computer/isofs/server"
	"aesthetic.computer/isofs/vfs"
)

// When root starts isofs there are two processes. The parent keeps root's
// rights and does what needs them: it opens /dev/fuse, mounts it, listens for
// the API, starts nginx and unmounts. The child has the user's rights and does
// all else. The parent hands it its settings (handover.go), the device as
// descriptor 3 and the API's socket as 5, and reads from descriptor 4 when it is
// ready. If the child dies or hangs, the parent mounts once more and starts
// another; nginx goes on meanwhile, and its requests wait at the socket.

const (
	deviceFD = 3
	readyFD  = 4
	apiFD    = 5
)

// endStreams tells the child that nginx is about to be stopped, which waits for
// the streams of the child's API.
const endStreams = syscall.SIGUSR1

// ready is what the child writes when it serves.
const ready = "ready\n"

// inheritedDevice returns the /dev/fuse that the parent handed down, or nil.
func inheritedDevice() *os.File {
	if !isChild() {
		return nil
	}
	return os.NewFile(deviceFD, "/dev/fuse")
}

// serveUnprivileged is the child. It ends when the parent unmounts, or ends.
func serveUnprivileged(ctx context.Context, cmd *cobra.Command, o *serveFlags, device *os.File) error {
	signal.Ignore(syscall.SIGHUP) // the parent's to obey
	// Before anybody can send it, since it ends a process that does not listen.
	streams, end := signal.NotifyContext(ctx, endStreams)
	defer end()
	syscall.CloseOnExec(readyFD)
	toParent := os.NewFile(readyFD, "parent")
	config, err := o.config(slog.Default())
	if err != nil {
		return err
	}
	config.Mount.Device, config.Mount.AllowOther = device, true
	config.Listen = inheritedAPI
	config.Services.Stopping = streams.Done()
	config.Started = func(s *server.Services, _ *nginx.Server) error {
		go (&services{s, ctx, config.Log}).reloadByParent(cmd)
		if _, err := io.WriteString(toParent, ready); err != nil {
			return fmt.Errorf("tell the parent: %w", err)
		}
		return toParent.Close()
	}
	err = server.Run(ctx, config)
	if _, ok := errors.AsType[*server.UnmountedError](err); ok {
		config.Log.Debug("child ends", "why", err)
		return nil
	}
	return blameSettings(err)
}

// A parent is the process with root's rights.
type parent struct {
	cmd   *cobra.Command
	args  []string
	flags *serveFlags
	as    identity
	api   *os.File // listens; it outlives a child
	log   *slog.Logger

	running settings // what children are started with; a hangup may change it
}

func newParent(cmd *cobra.Command, args []string, o *serveFlags, as identity) *parent {
	if len(args) > 0 {
		args = []string{o.mount} // absolute now
	}
	return &parent{cmd: cmd, args: args, flags: o, as: as, log: slog.Default(), running: settingsOf(cmd.Flags())}
}

// run serves until ctx ends. It gives up only if the first child never gets
// ready; a later one is replaced.
func (p *parent) run(ctx context.Context, hangups <-chan os.Signal) error {
	if err := p.prepare(); err != nil {
		return err
	}
	child, err := p.startChild(ctx)
	if err != nil {
		return err
	}
	// Closing a channel of errors cannot carry the cause twice, so nginx's end
	// and the children's are watched in one loop.
	var web *nginx.Server
	webDone := make(<-chan struct{})
	if p.flags.web.enabled {
		if web, err = nginx.Start(ctx, p.flags.web.binary, p.flags.nginxConfig(), p.log); err != nil {
			return errors.Join(err, p.stop(child, nil))
		}
		webDone = web.Done()
	}
	p.log.Info("serving", "mount", p.flags.mount, "listen", p.flags.web.listen, "profile", p.flags.profile, "user", p.as.name)
	hung := p.watch(ctx, child)
	for {
		select {
		case <-hangups:
			p.reload(child, web)
			continue
		case <-ctx.Done():
			return p.stop(child, web)
		case <-webDone:
			return errors.Join(fmt.Errorf("nginx ended: %w", web.Err()), p.stop(child, nil))
		case err := <-hung:
			p.log.Error("the serving process does not answer; starting another", "err", err)
			p.end(child, syscall.SIGKILL)
		case <-child.done:
			p.log.Error("the serving process ended; starting another", "err", child.err)
		}
		if child, err = p.restart(ctx); err != nil {
			return errors.Join(err, p.stop(nil, web))
		}
		hung = p.watch(ctx, child)
	}
}

// prepare makes the directories, those of the user too, and listens for the API.
func (p *parent) prepare() error {
	if err := p.flags.stack.giveDirectories(p.as); err != nil {
		return err
	}
	if err := p.flags.usable(p.flags.stack.state); err != nil {
		return blame("state", err)
	}
	l, err := listenAPI(p.flags.socket())
	if err != nil {
		return err
	}
	l.SetUnlinkOnClose(false)
	defer l.Close()
	// Not through a link, which could only be root's own.
	if err := os.Lchown(p.flags.socket(), p.as.uid, p.as.gid); err != nil {
		return fmt.Errorf("give the API's socket to %s: %w", p.as.name, err)
	}
	if p.api, err = l.File(); err != nil {
		return fmt.Errorf("hold the API's socket: %w", err)
	}
	return nil
}

// startChild mounts and starts a child, and waits until it is ready.
func (p *parent) startChild(ctx context.Context) (*child, error) {
	device, err := vfs.OpenDevice(p.flags.mount, p.as.uid, p.as.gid, true)
	if err != nil {
		return nil, err
	}
	defer device.Close()
	fromChild, toParent, err := os.Pipe()
	if err != nil {
		return nil, errors.Join(err, vfs.DetachPath(p.flags.mount))
	}
	defer fromChild.Close()
	c, err := p.spawn(device, toParent)
	toParent.Close()
	if err != nil {
		return nil, errors.Join(err, vfs.DetachPath(p.flags.mount))
	}
	answer := make(chan string, 1)
	go func() {
		line, _ := bufio.NewReader(fromChild).ReadString('\n')
		answer <- line
	}()
	select {
	case line := <-answer:
		if line == ready {
			p.raiseReadAhead()
			return c, nil
		}
		<-c.done
		// The child has said why on stderr, which it shares.
		return nil, errors.Join(&childError{c.err}, vfs.DetachPath(p.flags.mount))
	case <-ctx.Done():
		return nil, errors.Join(ctx.Err(), p.stop(c, nil))
	}
}

// raiseReadAhead does for the child what only root may.
func (p *parent) raiseReadAhead() {
	if p.flags.profile != string(vfs.PageCache) {
		return
	}
	if err := vfs.RaiseReadAhead(p.flags.mount); err != nil {
		p.log.Warn("read-ahead not raised: the page-cache profile will be slower", "err", err)
	}
}

// spawn starts the child.
func (p *parent) spawn(device, toParent *os.File) (*child, error) {
	again, settings, err := p.flags.stack.command(p.cmd, p.as, p.args...)
	if err != nil {
		return nil, err
	}
	again.ExtraFiles = []*os.File{device, toParent, p.api}
	c, err := startProcess(again, settings)
	if err != nil {
		return nil, err
	}
	// If that fails it has ended, and its own error is the better one.
	_ = settings.send(p.running)
	return c, nil
}

// restartPause keeps a child that dies at once from taking the machine.
const restartPause = time.Second

// restart replaces a child that died: at once, then, if that fails, every
// second. It tries until ctx ends; that is its only error.
func (p *parent) restart(ctx context.Context) (*child, error) {
	for {
		p.clearMount()
		p.awaitDirectories(ctx)
		c, err := p.startChild(ctx)
		if err == nil {
			return c, nil
		}
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		p.log.Error("not restarted; trying again", "err", strings.TrimSpace(err.Error()))
		select {
		case <-time.After(restartPause):
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// clearMount takes away a mount without a server, from under those who wait
// for it, too.
func (p *parent) clearMount() {
	if err := errors.Join(vfs.AbortPath(p.flags.mount), vfs.DetachPath(p.flags.mount)); err != nil {
		p.log.Warn("dead mount not removed", "err", err)
	}
}

// stop ends nginx, unmounts and ends the child, in this order: nobody is left
// waiting for a mount that is not served.
func (p *parent) stop(c *child, web *nginx.Server) error {
	var errs []error
	if web != nil {
		if c != nil {
			_ = c.cmd.Process.Signal(endStreams) // it may have ended
		}
		ctx, cancel := context.WithTimeout(context.Background(), p.flags.web.grace)
		errs = append(errs, web.Stop(ctx))
		cancel()
	}
	ctx, cancel := context.WithTimeout(context.Background(), server.UnmountTimeout)
	defer cancel()
	if err := vfs.UnmountPath(ctx, p.flags.mount); err != nil {
		p.log.Warn("the mount is busy; it is detached, and its readers get errors from now on", "dir", p.flags.mount, "err", err)
		errs = append(errs, vfs.DetachPath(p.flags.mount))
	}
	if c != nil && !p.end(c, syscall.SIGTERM) {
		errs = append(errs, vfs.AbortPath(p.flags.mount))
	}
	if p.api != nil {
		_ = os.Remove(p.flags.socket())
		p.api.Close()
	}
	return errors.Join(errs...)
}

const (
	// childPatience is how long the child may take to end.
	childPatience = 10 * time.Second
	// killPatience is how long the kernel may take to end what was killed. It
	// cannot while a read of a file system that does not answer is under way.
	killPatience = 3 * time.Second
)

// end ends a child by a signal, or else by force, and reports whether it is gone.
func (p *parent) end(c *child, signal syscall.Signal) bool {
	_ = c.cmd.Process.Signal(signal) // it may have ended
	patience := childPatience
	if signal == syscall.SIGKILL {
		patience = 0
	}
	select {
	case <-c.done:
		return true
	case <-time.After(patience):
	}
	if signal != syscall.SIGKILL {
		p.log.Warn("the serving process does not end; killing it")
	}
	_ = c.cmd.Process.Kill()
	select {
	case <-c.done:
		return true
	case <-time.After(killPatience):
		p.log.Error("the serving process was killed and waits for a file system that does not answer; it ends when that does", "process", c.cmd.Process.Pid)
		return false
	}
}

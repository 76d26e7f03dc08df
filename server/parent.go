package server

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"
	"time"

	"aesthetic.computer/isofs/fault"
	"aesthetic.computer/isofs/nginx"
	"aesthetic.computer/isofs/vfs"
)

// When root starts isofs there are two processes. The parent keeps root's rights and does
// what needs them: it opens /dev/fuse, mounts it, listens for the API, starts nginx and
// unmounts. The child has the user's rights and does all else. It gets the device as
// descriptor 3 and the API's socket as 5, and reports on descriptor 4 that it is ready.
// If the child dies or hangs, the parent mounts again and starts another. nginx runs on
// meanwhile, and its requests wait at the socket.

const (
	deviceFD = 3
	readyFD  = 4
	apiFD    = 5
)

// endStreams tells the child that nginx is about to stop: nginx waits for the streams of
// the child's API.
const endStreams = syscall.SIGUSR1

// ready is what the child writes when it serves.
const ready = "ready\n"

// A parent is the process with root's rights.
type parent struct {
	*Config
	api *os.File // listens; it outlives a child
}

// runParent mounts, starts a child and nginx, and replaces a child that ends or hangs,
// until ctx ends. It gives up only if the first child never gets ready. The error is then
// a *ChildError.
func (c *Config) runParent(ctx context.Context) error {
	state, cache := c.Stack.State, c.Stack.Cache.Dir
	if err := c.User.Give(state, cache, c.Log); err != nil {
		return err
	}
	if err := c.User.MayUse(state); err != nil {
		return &fault.SettingError{Setting: SettingState, Err: err}
	}
	p := &parent{Config: c}
	if err := p.listen(); err != nil {
		return err
	}
	return p.run(ctx)
}

// run serves until ctx ends.
func (p *parent) run(ctx context.Context) error {
	child, err := p.startChild(ctx)
	if err != nil {
		return err
	}
	// Closing a channel of errors cannot carry the cause twice, so one loop watches the
	// ends of nginx and of the children.
	var web *nginx.Server
	webDone := make(<-chan struct{})
	if p.Web != nil {
		if web, err = nginx.Start(ctx, p.Web.Binary, p.Web.Nginx, p.Log); err != nil {
			return errors.Join(err, p.stop(child, nil))
		}
		webDone = web.Done()
	}
	p.Log.Info("serving", "mount", p.dir(), "listen", p.listens(), "profile", p.Mount.Profile, "user", p.User.Name)
	hung := p.watch(ctx, child)
	for {
		select {
		case <-p.Process.Hangups:
			if err := p.Process.Reload(nil, web); err != nil {
				p.Log.Error("SIGHUP: the settings are wrong, and stay as they were", "err", err)
			}
			continue
		case <-ctx.Done():
			return p.stop(child, web)
		case <-webDone:
			return errors.Join(fmt.Errorf("nginx ended: %w", web.Err()), p.stop(child, nil))
		case err := <-hung:
			p.Log.Error("the serving process does not answer; starting another", "err", err)
			p.end(child, syscall.SIGKILL)
		case <-child.Done:
			p.Log.Error("the serving process ended; starting another", "err", child.err)
		}
		if child, err = p.restart(ctx); err != nil {
			return errors.Join(err, p.stop(nil, web))
		}
		hung = p.watch(ctx, child)
	}
}

// dir returns the directory to mount on.
func (p *parent) dir() string { return p.Mount.Mountpoint }

// userDirs returns the directories that the child works with. Their file systems must
// answer.
func (p *parent) userDirs() []string {
	dirs := []string{p.Stack.State}
	if cache := p.Stack.Cache.Dir; cache != "" {
		dirs = append(dirs, cache)
	}
	return dirs
}

// listens returns where nginx listens; nil without nginx.
func (p *parent) listens() []string {
	if p.Web == nil {
		return nil
	}
	return p.Web.Nginx.Listen
}

// listen listens for the API, for all children.
func (p *parent) listen() error {
	l, err := ListenAPI(p.socket())
	if err != nil {
		return err
	}
	l.SetUnlinkOnClose(false)
	defer l.Close()
	// Not through a link, which could only be root's own.
	if err := os.Lchown(p.socket(), p.User.UID, p.User.GID); err != nil {
		return fmt.Errorf("give the API's socket to %s: %w", p.User.Name, err)
	}
	if p.api, err = l.File(); err != nil {
		return fmt.Errorf("hold the API's socket: %w", err)
	}
	return nil
}

// startChild mounts and starts a child, and waits until it is ready.
func (p *parent) startChild(ctx context.Context) (*Child, error) {
	device, err := vfs.OpenDevice(p.dir(), p.User.UID, p.User.GID, true)
	if err != nil {
		return nil, err
	}
	defer device.Close()
	fromChild, toParent, err := os.Pipe()
	if err != nil {
		return nil, errors.Join(err, vfs.DetachPath(p.dir()))
	}
	defer fromChild.Close()
	c, err := p.Process.StartChild(device, toParent, p.api)
	toParent.Close()
	if err != nil {
		return nil, errors.Join(err, vfs.DetachPath(p.dir()))
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
		<-c.Done
		// The child has said why on stderr, which it shares.
		return nil, errors.Join(&ChildError{c.err}, vfs.DetachPath(p.dir()))
	case <-ctx.Done():
		return nil, errors.Join(ctx.Err(), p.stop(c, nil))
	}
}

// raiseReadAhead raises the read-ahead for the child, which only root may do.
func (p *parent) raiseReadAhead() {
	if p.Mount.Profile != vfs.PageCache {
		return
	}
	if err := vfs.RaiseReadAhead(p.dir()); err != nil {
		p.Log.Warn("read-ahead not raised: the page-cache profile will be slower", "err", err)
	}
}

// restartPause prevents a child that dies at once from using up the machine.
const restartPause = time.Second

// restart replaces a child that died: at once, then, if that fails, every second. It
// tries until ctx ends; that is its only error.
func (p *parent) restart(ctx context.Context) (*Child, error) {
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
		p.Log.Error("not restarted; trying again", "err", strings.TrimSpace(err.Error()))
		select {
		case <-time.After(restartPause):
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// clearMount removes a mount without a server, also while readers wait for it.
func (p *parent) clearMount() {
	if err := errors.Join(vfs.AbortPath(p.dir()), vfs.DetachPath(p.dir())); err != nil {
		p.Log.Warn("dead mount not removed", "err", err)
	}
}

// stop ends nginx, unmounts and ends the child, in this order, so that no reader
// waits for a mount that is not served.
func (p *parent) stop(c *Child, web *nginx.Server) error {
	var errs []error
	if web != nil {
		if c != nil {
			_ = c.Process.Signal(endStreams) // it may have ended
		}
		ctx, cancel := context.WithTimeout(context.Background(), p.Web.Grace)
		errs = append(errs, web.Stop(ctx))
		cancel()
	}
	ctx, cancel := context.WithTimeout(context.Background(), UnmountTimeout)
	defer cancel()
	if err := vfs.UnmountPath(ctx, p.dir()); err != nil {
		p.Log.Warn("the mount is busy; it is detached, and its readers get errors from now on", "dir", p.dir(), "err", err)
		errs = append(errs, vfs.DetachPath(p.dir()))
	}
	if c != nil && !p.end(c, syscall.SIGTERM) {
		errs = append(errs, vfs.AbortPath(p.dir()))
	}
	if p.api != nil {
		_ = os.Remove(p.socket())
		p.api.Close()
	}
	return errors.Join(errs...)
}

const (
	// childPatience is how long the child may take to end.
	childPatience = 10 * time.Second
	// killPatience is how long the kernel may take to end a killed process. It cannot
	// during a read of a file system that does not answer.
	killPatience = 3 * time.Second
)

// end ends a child by a signal, or else by force, and reports whether it has ended.
func (p *parent) end(c *Child, signal syscall.Signal) bool {
	_ = c.Process.Signal(signal) // it may have ended
	patience := childPatience
	if signal == syscall.SIGKILL {
		patience = 0
	}
	select {
	case <-c.Done:
		return true
	case <-time.After(patience):
	}
	if signal != syscall.SIGKILL {
		p.Log.Warn("the serving process does not end; killing it")
	}
	_ = c.Process.Kill()
	select {
	case <-c.Done:
		return true
	case <-time.After(killPatience):
		p.Log.Error("the serving process was killed and waits for a file system that does not answer; it ends when that does", "process", c.Process.Pid)
		return false
	}
}

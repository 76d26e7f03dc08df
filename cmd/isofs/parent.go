package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"strings"
	"syscall"
	"time"

	"aesthetic.computer/isofs/nginx"
	"aesthetic.computer/isofs/vfs"
)

// When root starts isofs there are two processes. The parent keeps root's
// rights and does what needs them: it opens /dev/fuse, mounts it, starts nginx
// and unmounts. The child has the user's rights and does all else. The parent
// hands it the device as descriptor 3 and reads from descriptor 4 when it is
// ready. If the child dies, the parent mounts anew and starts another; nginx
// goes on meanwhile.

// childMark tells a process that it is the child.
const childMark = "ISOFS_CHILD_OF_ROOT"

const (
	deviceFD = 3
	readyFD  = 4
)

// endStreams tells the child that nginx is about to be stopped, which waits for
// the streams of the child's API.
const endStreams = syscall.SIGUSR1

// ready is what the child writes when it serves.
const ready = "ready\n"

// inheritedDevice returns the /dev/fuse that the parent handed down, or nil.
func inheritedDevice() *os.File {
	if os.Getenv(childMark) == "" {
		return nil
	}
	return os.NewFile(deviceFD, "/dev/fuse")
}

// serveUnprivileged is the child. It ends when the parent unmounts, or ends.
func serveUnprivileged(ctx context.Context, o *serveFlags, device *os.File) error {
	log := slog.Default()
	// Before anybody can send it, since it ends a process that does not listen.
	streams, end := signal.NotifyContext(ctx, endStreams)
	defer end()
	syscall.CloseOnExec(readyFD)
	toParent := os.NewFile(readyFD, "parent")
	s, err := openStack(ctx, &o.stack, log, o.sidecars()...)
	if err != nil {
		return err
	}
	defer s.Close()
	mounted, err := vfs.Mount(vfs.Config{
		Mountpoint: o.mount, Device: device, Profile: vfs.Profile(o.profile), PageLimit: int64(o.pages),
		AllowOther: true, Log: log,
	}, vfs.FromCatalog(s.catalog))
	if err != nil {
		return err
	}
	stopServices, err := startServices(ctx, o, s, mounted, streams.Done(), log)
	if err != nil {
		return err
	}
	defer stopServices()
	if _, err := io.WriteString(toParent, ready); err != nil {
		return fmt.Errorf("tell the parent: %w", err)
	}
	toParent.Close()
	if err := waitFor(ctx, mounted.Done()); err != nil {
		log.Debug("child ends", "why", err)
	}
	return nil
}

// A parent is the process with root's rights.
type parent struct {
	flags *serveFlags
	as    identity
	log   *slog.Logger
}

func newParent(o *serveFlags, as identity) *parent {
	return &parent{flags: o, as: as, log: slog.Default()}
}

// restartPause keeps a child that dies at once from taking the machine.
const restartPause = time.Second

// run serves until ctx ends. It gives up only if the first child never gets
// ready; a later one is replaced.
func (p *parent) run(ctx context.Context) error {
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
	p.log.Info("serving", "mount", p.flags.mount, "listen", p.flags.web.listen, "profile", p.flags.profile, "user", p.flags.user)
	var hangups chan os.Signal
	if p.flags.admin.keyFile != "" || p.flags.stack.channel.address != "" {
		hangups = make(chan os.Signal, 1)
		signal.Notify(hangups, syscall.SIGHUP)
		defer signal.Stop(hangups)
	}
	for {
		select {
		case <-hangups:
			_ = child.cmd.Process.Signal(syscall.SIGHUP) // it may have ended
		case <-ctx.Done():
			return p.stop(child, web)
		case <-webDone:
			return errors.Join(fmt.Errorf("nginx ended: %w", web.Err()), p.stop(child, nil))
		case <-child.done:
			p.log.Error("the serving process ended; starting another", "err", child.err)
			if child, err = p.restart(ctx); err != nil {
				return errors.Join(err, p.stop(nil, web))
			}
		}
	}
}

// prepare makes the directories and gives the user those that it writes to.
func (p *parent) prepare() error {
	cacheDir := p.flags.stack.cache.dir(p.flags.stack.state)
	for _, dir := range []string{p.flags.stack.state, cacheDir, p.flags.run} {
		if dir == "" {
			continue // the cache is in memory
		}
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return fmt.Errorf("make a directory: %w", err)
		}
		// Only the directory itself: what is in it was written by the user, or
		// is a mistake that the child reports.
		if err := os.Chown(dir, p.as.uid, p.as.gid); err != nil {
			if dir == cacheDir {
				// Nothing that is served depends on the cache.
				p.log.Warn("the cache's directory cannot be given to the user", "user", p.flags.user, "err", err)
				continue
			}
			return fmt.Errorf("give %s to %s: %w", dir, p.flags.user, err)
		}
	}
	return nil
}

// A child is a started serving process.
type child struct {
	cmd  *exec.Cmd
	done chan struct{}
	err  error // set before done is closed
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

// A childError says that the child could not start; it has reported why.
type childError struct{ err error }

func (e *childError) Error() string {
	return fmt.Sprintf("not started (%v), for the reason above", e.err)
}

// Unwrap gives the child's exit.
func (e *childError) Unwrap() error { return e.err }

// status is the child's exit status, which tells the kind of failure; -1 if it
// was killed.
func (e *childError) status() int {
	if exit, ok := errors.AsType[*exec.ExitError](e.err); ok {
		return exit.ExitCode()
	}
	return -1
}

// spawn starts this program again as the user, with the same arguments.
func (p *parent) spawn(device, toParent *os.File) (*child, error) {
	// Not by its name: the user may not be allowed to look into the folder that
	// it lies in.
	const self = "/proc/self/exe"
	cmd := exec.Command(self, os.Args[1:]...)
	cmd.Env = append(os.Environ(), childMark+"=1", "HOME="+p.flags.stack.state)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.ExtraFiles = []*os.File{device, toParent}
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Credential: &syscall.Credential{Uid: uint32(p.as.uid), Gid: uint32(p.as.gid)},
		// A terminal's ctrl-C is for the parent, which stops the child in order.
		Setpgid: true,
		// If the parent is killed the child ends too, and at once: one that took
		// its time, or was stuck, would still hold the state and answer for the
		// mount when the next start looks.
		Pdeathsig: syscall.SIGKILL,
	}
	c := &child{cmd: cmd, done: make(chan struct{})}
	started := make(chan error)
	go func() {
		// Pdeathsig is sent when the thread that started the process ends.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			c.err = cmd.Wait()
			close(c.done)
		}
	}()
	if err := <-started; err != nil {
		return nil, fmt.Errorf("start %s as %s: %w", self, p.flags.user, err)
	}
	return c, nil
}

// restart replaces a child that died. It tries until ctx ends; that is its only
// error.
func (p *parent) restart(ctx context.Context) (*child, error) {
	for {
		if err := vfs.DetachPath(p.flags.mount); err != nil {
			p.log.Warn("dead mount not removed", "err", err)
		}
		select {
		case <-time.After(restartPause):
		case <-ctx.Done():
			return nil, ctx.Err()
		}
		c, err := p.startChild(ctx)
		if err == nil {
			return c, nil
		}
		if ctx.Err() != nil {
			return nil, err
		}
		p.log.Error("not restarted; trying again", "err", strings.TrimSpace(err.Error()))
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
	ctx, cancel := context.WithTimeout(context.Background(), unmountPatience)
	defer cancel()
	if err := vfs.UnmountPath(ctx, p.flags.mount); err != nil {
		p.log.Warn("the mount is busy; it is detached, and its readers get errors from now on", "dir", p.flags.mount, "err", err)
		errs = append(errs, vfs.DetachPath(p.flags.mount))
	}
	if c != nil {
		if err := c.cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
			errs = append(errs, err)
		}
		select {
		case <-c.done:
		case <-time.After(childPatience):
			p.log.Warn("the serving process does not end; killing it")
			errs = append(errs, c.cmd.Process.Kill())
			<-c.done
		}
	}
	return errors.Join(errs...)
}

// childPatience is how long the child may take to end.
const childPatience = 10 * time.Second

package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"runtime/debug"

	"aesthetic.computer/isofs/border"
	"aesthetic.computer/isofs/fault"
	"aesthetic.computer/isofs/nginx"
	"aesthetic.computer/isofs/vfs"
)

// Config says what Run runs.
type Config struct {
	Stack    StackConfig
	Mount    vfs.Config // where and how; Run sets Device and AllowOther
	RunDir   string     // directory of sockets and of nginx's files
	User     Identity   // whom to serve as
	Services ServicesConfig
	Web      *WebConfig // nil: no nginx is started
	Process  Process
	Log      *slog.Logger // nil: nothing is logged
}

// Process is what Run needs of the program around it.
type Process struct {
	// StartChild starts this program again as Config.User, with these files as its descriptors
	// from 3 on, and makes it call Run (StartChild of this package). Root's process needs it,
	// if User is not root.
	StartChild func(files ...*os.File) (*Child, error)
	// Hangups are the hangups to obey, in all processes but a child.
	Hangups <-chan os.Signal
	// Reload takes over new settings at each hangup. In root's process s is nil, since a child
	// has the services, and without nginx web is nil. A child calls Reload in a loop. It waits
	// for the parent's settings (Receive), until it returns ErrParentGone.
	Reload func(s *Services, web *nginx.Server) error
}

// Validate returns all that is wrong with the Configs of the layers, the services and nginx as
// fault.SettingErrors, or nil.
func (c *Config) Validate() error {
	wrong := append(fault.AsSettings(c.Stack.Validate()), fault.AsSettings(c.Services.Validate())...)
	if c.Mount.PageLimit < minPageLimit {
		wrong.Addf(SettingPages, "is less than %d bytes", minPageLimit)
	}
	if c.Web != nil {
		wrong = append(wrong, fault.AsSettings(c.Web.Nginx.Validate())...)
	}
	return wrong.Err()
}

// minPageLimit is the smallest bound on what the kernel keeps of all images.
const minPageLimit = 16 << 20

// Run serves until ctx ends, which is not an error. Where root calls it and User is another
// one, this process mounts and starts nginx, and a child does all else (parent.go). In that
// child Run serves with the descriptors that the parent passes on (child.go).
//
// It returns an *UnmountedError if the mount is removed, an error if nginx ends by itself, and
// those of OpenStack, vfs.Mount and StartServices.
func Run(ctx context.Context, c Config) error {
	if err := c.complete(); err != nil {
		return err
	}
	tuneGC()
	if IsChild() {
		return c.runChild(ctx)
	}
	lock, err := c.prepare(ctx)
	if err != nil {
		return err
	}
	defer lock.Close()
	if os.Geteuid() == 0 && !c.User.IsRoot() {
		err = c.runParent(ctx)
	} else {
		err = c.runAlone(ctx)
	}
	if ctx.Err() != nil && errors.Is(err, context.Canceled) {
		c.Log.Info("stopped before it served", "err", err) // as it was asked to
		return nil
	}
	return err
}

// complete validates the Config and fills in defaults.
func (c *Config) complete() error {
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	return c.Validate()
}

// prepare makes the directories. It makes sure that no other server uses them, that nothing
// dead is mounted, and that nginx can listen.
func (c *Config) prepare(ctx context.Context) (lock *os.File, err error) {
	if err := c.makeDirectories(); err != nil {
		return nil, err
	}
	if err := c.checkCertificate(); err != nil {
		return nil, err
	}
	if lock, err = Lock(c.RunDir, SettingRun); err != nil {
		return nil, err
	}
	if err = vfs.Recover(c.Mount.Mountpoint); err == nil && c.Web != nil {
		err = nginx.Available(ctx, c.Web.Nginx, c.Log)
	}
	if err != nil {
		return nil, errors.Join(err, lock.Close())
	}
	return lock, nil
}

// makeDirectories makes the directories of the user that starts isofs. Root's stay root's,
// below no directory that others can write to.
func (c *Config) makeDirectories() error {
	dirs := []string{c.RunDir}
	if c.Web != nil {
		dirs = append(dirs, c.Web.Nginx.RunDir)
		if log := c.Web.LogDir(); log != "" {
			dirs = append(dirs, log)
		}
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

// tuneGC makes the garbage collector run when the heap grew by a quarter, unless the
// environment says otherwise. Most of the heap is buffers of 1 MiB, which their pools release
// only after two collections, and the rest is quick to scan. With Go's default, sixteen
// downloads of cached images took 91 to 114 MiB; with this, 25 to 113, mostly 75.
func tuneGC() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(25)
	}
}

// runAlone serves in this process, which mounts and listens itself.
func (c *Config) runAlone(ctx context.Context) error {
	c.Mount.AllowOther = os.Geteuid() == 0
	c.Services.Stopping = ctx.Done()
	return c.serve(ctx, func() (net.Listener, error) { return ListenAPI(c.socket()) }, func(s *Services, web *nginx.Server) error {
		go c.obeyHangups(ctx, s, web)
		return nil
	})
}

// obeyHangups reloads at each hangup until ctx ends.
func (c *Config) obeyHangups(ctx context.Context, s *Services, web *nginx.Server) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-c.Process.Hangups:
			if err := c.Process.Reload(s, web); err != nil {
				c.Log.Error("SIGHUP: the settings stay as they were", "err", err)
			}
		}
	}
}

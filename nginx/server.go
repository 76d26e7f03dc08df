package nginx

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"aesthetic.computer/isofs/fault"
)

// Names within RunDir.
const (
	confFile = "nginx.conf"
	pidFile  = "nginx.pid"
	lockFile = "supervisor.lock"
)

// A Server is a supervised stock nginx: a child process that is started again
// when it dies, and that dies with this process.
type Server struct {
	binary string
	runDir string
	log    *slog.Logger
	errs   *errorLog
	stdout io.Writer // of nginx
	policy restarts

	done      chan struct{} // closed when nginx is stopped, or given up
	stopping  chan struct{} // closed by the first Stop
	reloading chan struct{} // holds one token while a Reload runs

	state // mutable, with its own lock
}

// state is the part of a Server that changes.
type state struct {
	mu      sync.Mutex        // guards all below
	config  Config            // what nginx runs with
	running [sha256.Size]byte // digest of that
	child   *child            // the latest; it may have exited
	lock    *os.File          // held on RunDir while the Server lives
	stopped bool              // stopping is closed
	err     error             // why nginx was given up
}

// restarts says how often, and after what pause, a dying nginx is started
// again.
type restarts struct {
	first, longest time.Duration // the pause doubles
	most           int           // times in a row
	steady         time.Duration // one that lived for so long begins a new row
}

var usualRestarts = restarts{first: 100 * time.Millisecond, longest: 5 * time.Second, most: 8, steady: 30 * time.Second}

// Start checks binary and c, ends what a killed run left behind in RunDir, and
// returns when nginx listens on all its addresses. ctx limits the starting
// only. Errors wrap fault.Invalid (configuration, version), fault.NotFound (no
// such program) or fault.Unavailable (an address is in use, RunDir is in use).
func Start(ctx context.Context, binary string, c Config, log *slog.Logger) (*Server, error) {
	s := &Server{binary: binary, log: log, stdout: os.Stdout, policy: usualRestarts}
	if err := s.start(ctx, c); err != nil {
		return nil, err
	}
	return s, nil
}

// start completes a Server that has its binary, log, stdout and policy, and
// starts it.
func (s *Server) start(ctx context.Context, c Config) error {
	if err := c.Validate(); err != nil {
		return err
	}
	if _, err := Version(ctx, s.binary); err != nil {
		return err
	}
	var err error
	if s.binary, err = find(s.binary); err != nil {
		return err
	}
	s.runDir, s.errs = filepath.Clean(c.RunDir), &errorLog{log: s.log}
	s.done, s.stopping, s.reloading = make(chan struct{}), make(chan struct{}), make(chan struct{}, 1)
	if err := s.takeRunDir(); err != nil {
		return err
	}
	first, err := s.bringUp(ctx, withoutUser(c))
	if err != nil {
		s.lock.Close()
		return err
	}
	go s.supervise(first)
	return nil
}

// Available ends what a killed run left behind in RunDir, and checks that nginx
// could open its addresses. It comes before all else that a start does. The
// caller must have locked RunDir. Errors wrap fault.Invalid or
// fault.Unavailable.
func Available(ctx context.Context, c Config, log *slog.Logger) error {
	if err := c.Validate(); err != nil {
		return err
	}
	if err := stopOrphans(ctx, filepath.Clean(c.RunDir), log); err != nil {
		return err
	}
	for _, l := range slices.Concat(c.Listen, c.Host.Redirect) {
		host, port, err := splitListen(l)
		if err != nil {
			return err
		}
		// Like nginx, for one family alone.
		family := "tcp4"
		if host == "" || host == "*" {
			host = "0.0.0.0"
		} else if strings.Contains(host, ":") {
			family = "tcp6"
		}
		socket, err := net.Listen(family, net.JoinHostPort(host, port))
		if errors.Is(err, syscall.EADDRINUSE) {
			return fmt.Errorf("start nginx: %w: %s is in use by another program; stop that one, or listen elsewhere", fault.Unavailable, net.JoinHostPort(host, port))
		}
		if err == nil {
			socket.Close()
		} // else nginx finds better words
	}
	return nil
}

// withoutUser removes the user when we are not root: the workers then run as
// this process's user.
func withoutUser(c Config) Config {
	if os.Geteuid() != 0 {
		c.User = ""
	}
	return c
}

// takeRunDir makes RunDir and locks it, so that no second isofs takes our nginx
// for one that was left behind.
func (s *Server) takeRunDir() error {
	if err := os.MkdirAll(s.runDir, 0o755); err != nil {
		return fmt.Errorf("make nginx's run directory: %w: %w", fault.Unavailable, err)
	}
	f, err := os.OpenFile(filepath.Join(s.runDir, lockFile), os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return fmt.Errorf("lock nginx's run directory: %w: %w", fault.Unavailable, err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		f.Close()
		return fmt.Errorf("lock nginx's run directory %s: %w: another isofs runs nginx there; stop it, or choose another directory", s.runDir, fault.Unavailable)
	}
	s.lock = f
	return nil
}

// bringUp starts the first nginx and waits until it listens.
func (s *Server) bringUp(ctx context.Context, c Config) (*child, error) {
	if err := stopOrphans(ctx, s.runDir, s.log); err != nil {
		return nil, err
	}
	sum, err := digest(c)
	if err != nil {
		return nil, err
	}
	if err := s.install(ctx, c); err != nil {
		return nil, err
	}
	s.config, s.running = c, sum
	first, err := s.launch()
	if err != nil {
		return nil, err
	}
	if err := s.awaitListening(ctx, first); err != nil {
		first.kill()
		return nil, fmt.Errorf("start nginx: %w: %w", fault.Unavailable, err)
	}
	return first, nil
}

// install renders c, lets nginx test the result, and puts it in place. On
// failure the old file stays.
func (s *Server) install(ctx context.Context, c Config) error {
	text, err := Render(c)
	if err != nil {
		return err
	}
	conf := filepath.Join(s.runDir, confFile)
	if err := os.WriteFile(conf+".new", text, 0o644); err != nil {
		return fmt.Errorf("write nginx's configuration: %w: %w", fault.Unavailable, err)
	}
	if err := Check(ctx, s.binary, conf+".new"); err != nil {
		return err
	}
	if err := os.Rename(conf+".new", conf); err != nil {
		return fmt.Errorf("write nginx's configuration: %w: %w", fault.Unavailable, err)
	}
	return nil
}

// errStopping ends a launch that lost the race against Stop.
var errStopping = errors.New("nginx is being stopped")

// launch starts a child, unless Stop was called: under one lock, so that Stop
// either sees the child or prevents it.
func (s *Server) launch() (*child, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopped {
		return nil, errStopping
	}
	// nginx opens its addresses before it writes this file. The file with the
	// right number proves more than an answer at the port, which may be another
	// program's.
	os.Remove(filepath.Join(s.runDir, pidFile))
	s.errs.reset()
	c, err := spawn(s.binary, filepath.Join(s.runDir, confFile), s.stdout, s.errs)
	if err != nil {
		return nil, err
	}
	s.child = c
	return c, nil
}

// supervise waits for the end of c, and of those that it starts after it.
func (s *Server) supervise(c *child) {
	defer close(s.done)
	defer s.lock.Close()
	var err error
	for row, pause := 0, s.policy.first; ; {
		if c != nil {
			<-c.exited
			err = c.err
			if time.Since(c.started) >= s.policy.steady {
				row, pause = 0, s.policy.first
			}
		}
		if s.isStopping() {
			return
		}
		if row == s.policy.most {
			s.giveUp(row, err)
			return
		}
		s.log.Error("nginx ended unexpectedly; starting it again", "error", err, "in", pause)
		select {
		case <-s.stopping:
			return
		case <-time.After(pause):
		}
		row, pause = row+1, min(2*pause, s.policy.longest)
		if c, err = s.launch(); errors.Is(err, errStopping) {
			return
		}
	}
}

func (s *Server) giveUp(row int, err error) {
	if reason, _ := s.errs.reason(); reason != "" {
		err = errors.New(explain(reason))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.err = fmt.Errorf("run nginx: %w: given up after it ended %d times in a row: %w", fault.Unavailable, row+1, err)
	s.log.Error("nginx given up", "error", s.err)
}

func (s *Server) isStopping() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.stopped
}

// current returns the latest child.
func (s *Server) current() *child {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.child
}

// killAfter is how long nginx has to obey SIGTERM.
const killAfter = 5 * time.Second

// Stop lets running downloads finish, and refuses new ones, until ctx ends;
// then it cuts them. It returns nil when nginx has ended, which always happens.
// It may be called more than once.
func (s *Server) Stop(ctx context.Context) error {
	s.mu.Lock()
	c := s.child
	if !s.stopped {
		s.stopped = true
		close(s.stopping)
	}
	s.mu.Unlock()
	c.signal(syscall.SIGQUIT)
	select {
	case <-s.done:
		return nil
	case <-ctx.Done():
	}
	s.log.Warn("nginx: cutting the downloads that still run")
	c.signal(syscall.SIGTERM)
	select {
	case <-s.done:
	case <-time.After(killAfter):
		c.kill()
		<-s.done
	}
	return nil
}

// Done is closed when nginx has been stopped, or given up because it died again
// and again; Err says which.
func (s *Server) Done() <-chan struct{} { return s.done }

// Err returns why nginx was given up (it wraps fault.Unavailable), or nil while
// it runs and after Stop.
func (s *Server) Err() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}

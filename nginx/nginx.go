// Package nginx ... (contract; to be implemented)
package nginx

import (
	"context"
	"log/slog"
)

// A Profile is one of the two ways to read the mount.
type Profile string

const (
	Direct    Profile = "direct"
	PageCache Profile = "page-cache"
)

// Config is all that the configuration is rendered from.
type Config struct {
	Listen    []string // "127.0.0.1:8080", "[::1]:80", "8080"
	Mount     string   // the isofs mount; images are at Mount/s/<id>/<name>-os.iso
	APISocket string   // unix socket of isofs's API
	RunDir    string   // pid file, temporary paths, error log of the supervised nginx
	AccessLog string   // "off", a path, or "/dev/stdout"
	User      string   // of the workers; "" when not started by root
	Profile   Profile
	Workers   int // 0: auto
	Threads   int // of the pool that reads the mount
	Limits    Limits
}

// Limits are per client address; 0 means none.
type Limits struct {
	Connections       int   // limit_conn
	RequestsPerSecond int   // limit_req
	Burst             int   // limit_req burst
	BytesPerSecond    int64 // limit_rate, per connection
}

func (c Config) Validate() error                                      { panic("contract") }
func Render(c Config) ([]byte, error)                                 { panic("contract") }
func Check(ctx context.Context, binary string, confPath string) error { panic("contract") }

// A Server is a supervised stock nginx.
type Server struct{}

func Start(ctx context.Context, binary string, c Config, log *slog.Logger) (*Server, error) {
	panic("contract")
}
func (s *Server) Reload(c Config) error          { panic("contract") }
func (s *Server) Stop(ctx context.Context) error { panic("contract") }
func (s *Server) Done() <-chan struct{}          { panic("contract") }

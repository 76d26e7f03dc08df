package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"aesthetic.computer/isofs/api"
)

// apiHeaderTime bounds a client of the API that sends its header slowly. The
// only client is nginx.
const apiHeaderTime = 10 * time.Second

// SocketName is the name of the API's socket, in the directory of sockets.
const SocketName = "api.sock"

// socket returns the path of the API's socket.
func (c *Config) socket() string { return filepath.Join(c.RunDir, SocketName) }

// ListenAPI listens on a unix socket, replacing one left by a killed run. Its
// user and group may connect.
func ListenAPI(socket string) (*net.UnixListener, error) {
	if err := os.Remove(socket); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("remove the API's old socket: %w", err)
	}
	old := unix.Umask(0o117) // readable and writable by user and group
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: socket, Net: "unix"})
	unix.Umask(old)
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", socket, err)
	}
	return l, nil
}

// startAPI serves the API.
func startAPI(l net.Listener, c api.Config, log *slog.Logger) (stop func()) {
	server := &http.Server{
		Handler:           api.New(c),
		ReadHeaderTimeout: apiHeaderTime,
		MaxHeaderBytes:    64 << 10,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelWarn),
	}
	return startHTTP(server, l, "the API", log)
}

// startHTTP serves until stop, which gives running requests a second.
func startHTTP(server *http.Server, l net.Listener, what string, log *slog.Logger) (stop func()) {
	go func() {
		if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			log.Error(what+" ended", "err", err)
		}
	}()
	return func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		if err := server.Shutdown(ctx); err != nil {
			server.Close()
		}
	}
}

// publicBase returns the public part of a base's address: without secrets, and
// "" for a folder or a host that is not on the Internet.
func publicBase(address string) string {
	u, err := url.Parse(address)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" {
		return ""
	}
	host := u.Hostname()
	if ip, err := netip.ParseAddr(host); err == nil {
		if ip = ip.Unmap(); !ip.IsGlobalUnicast() || ip.IsPrivate() {
			return ""
		}
	} else if !strings.Contains(host, ".") || strings.HasSuffix(host, ".internal") || strings.HasSuffix(host, ".local") {
		return ""
	}
	u.User, u.RawQuery, u.ForceQuery, u.Fragment, u.RawFragment = nil, "", false, "", ""
	return strings.TrimRight(u.String(), "/")
}

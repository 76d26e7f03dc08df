package nginx

import (
	"errors"
	"fmt"
	"net/netip"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"aesthetic.computer/isofs/fault"
)

// Bounds that nginx itself sets, or beyond which a number is a typing error.
const (
	maxSocketPath  = 107 // sizeof(sockaddr_un.sun_path) less its terminating NUL
	maxWorkers     = 512
	maxThreads     = 4096
	maxConnections = 65535     // nginx: "connection limit must be less 65536"
	maxRate        = 1_000_000 // nginx counts thousandths of a request in 32 bits
)

var userName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_.-]*(:[A-Za-z_][A-Za-z0-9_.-]*)?$`)

// Validate returns all that is wrong with c at once, joined, or nil. The error
// wraps fault.Invalid. It touches no file: whether the paths exist is for nginx
// to say (see Check).
func (c Config) Validate() error {
	var wrong []error
	note := func(err error) {
		if err != nil {
			wrong = append(wrong, err)
		}
	}
	if len(c.Listen) == 0 {
		note(errors.New(`listen: no address given; "8080" or "127.0.0.1:8080" would do`))
	}
	seen := map[string]bool{}
	for _, l := range slices.Concat(c.Listen, c.Host.Redirect) {
		note(checkListen(l, seen))
	}
	note(c.Host.check())
	for _, p := range c.paths() {
		note(checkPath(p.what, p.path))
	}
	if len(c.APISocket) > maxSocketPath {
		note(fmt.Errorf("API socket %q: %d bytes, and a unix socket's path has at most %d", c.APISocket, len(c.APISocket), maxSocketPath))
	}
	note(c.checkOutsideMount())
	if c.User != "" && !userName.MatchString(c.User) {
		note(fmt.Errorf("user %q: not of the form name or name:group", c.User))
	}
	if p := c.Profile; p != "" && p != Direct && p != PageCache {
		note(fmt.Errorf("profile %q: neither %q nor %q", p, Direct, PageCache))
	}
	for _, p := range c.TrustedProxies {
		note(checkProxy(p))
	}
	note(checkRange("workers", int64(c.Workers), maxWorkers))
	note(checkRange("threads", int64(c.Threads), maxThreads))
	note(checkRange("connections per client", int64(c.Limits.Connections), maxConnections))
	note(checkRange("connections per network", int64(c.Limits.Network), maxConnections))
	note(checkRange("connections in total", int64(c.Limits.TotalConnections), maxConnections))
	note(checkRange("requests per second", int64(c.Limits.RequestsPerSecond), maxRate))
	note(checkRange("burst", int64(c.Limits.Burst), maxRate))
	note(checkRange("costly requests per second", int64(c.Limits.CostlyPerSecond), maxRate))
	note(checkRange("costly burst", int64(c.Limits.CostlyBurst), maxRate))
	note(checkRange("bytes per second", c.Limits.BytesPerSecond, 1<<40))
	if wrong != nil {
		return fmt.Errorf("configure nginx: %w: %w", fault.Invalid, errors.Join(wrong...))
	}
	return nil
}

type namedPath struct{ what, path string }

// paths lists those that must be absolute and quotable.
func (c Config) paths() []namedPath {
	p := []namedPath{{"mount", c.Mount}, {"API socket", c.APISocket}, {"run directory", c.RunDir}}
	if c.logs() {
		p = append(p, namedPath{"access log", c.AccessLog})
	}
	if c.Host.tls() {
		p = append(p, namedPath{"TLS certificate", c.Host.Certificate}, namedPath{"TLS key", c.Host.Key})
	}
	if c.Host.Challenges != "" {
		p = append(p, namedPath{"ACME challenges", c.Host.Challenges})
	}
	return p
}

func (c Config) logs() bool { return c.AccessLog != "" && c.AccessLog != "off" }

func checkPath(what, path string) error {
	switch {
	case path == "":
		return fmt.Errorf("%s: no path given", what)
	case !filepath.IsAbs(path):
		return fmt.Errorf("%s %q: not an absolute path", what, path)
	case !utf8.ValidString(path):
		return fmt.Errorf("%s %q: not UTF-8", what, path)
	}
	for _, r := range path {
		// Within nginx's double quotes a quote, a backslash and a dollar
		// have a meaning. The others have none there, but a path that looks
		// like configuration is more likely an attack than a directory.
		if unicode.IsControl(r) || strings.ContainsRune(`"'\$;{}`, r) {
			return fmt.Errorf("%s %q: contains %q, which nginx's configuration cannot carry; rename it", what, path, r)
		}
	}
	return nil
}

// checkOutsideMount refuses what nginx would write to, or connect to, inside
// the read-only mount.
func (c Config) checkOutsideMount() error {
	var wrong []error
	for _, p := range c.paths()[1:] {
		rel, err := filepath.Rel(c.Mount, p.path)
		if c.Mount != "" && err == nil && rel != ".." && !strings.HasPrefix(rel, "../") {
			wrong = append(wrong, fmt.Errorf("%s %q: lies inside the mount %q, which is read-only", p.what, p.path, c.Mount))
		}
	}
	return errors.Join(wrong...)
}

// checkListen accepts a port, or an IP address, "localhost" or "*" with a
// port. nginx would also resolve names, but does so once and while it starts.
func checkListen(l string, seen map[string]bool) error {
	host, port, err := splitListen(l)
	if err != nil {
		return fmt.Errorf("listen %q: %w", l, err)
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 || port[0] == '0' {
		return fmt.Errorf("listen %q: the port is not a number from 1 to 65535", l)
	}
	if host != "" && host != "*" && host != "localhost" {
		a, err := netip.ParseAddr(host)
		if err != nil || a.Zone() != "" {
			return fmt.Errorf("listen %q: %q is not an IP address", l, host)
		}
		if a.Is6() != strings.HasPrefix(l, "[") {
			return fmt.Errorf("listen %q: an IPv6 address, and only that, stands in brackets: [::1]:8080", l)
		}
	}
	address := DialAddress(l)
	if seen[address] {
		return fmt.Errorf("listen %q: given twice", l)
	}
	seen[address] = true
	return nil
}

// serverName is a host name, with a leading "*." at most, or an IP address.
var serverName = regexp.MustCompile(`^(\*\.)?[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?$|^\[[0-9A-Fa-f:.]+\]$`)

func (h Host) check() error {
	var wrong []error
	for _, name := range h.Names {
		if !serverName.MatchString(name) {
			wrong = append(wrong, fmt.Errorf("server name %q: not a host name such as images.example", name))
		}
	}
	switch {
	case (h.Certificate == "") != (h.Key == ""):
		wrong = append(wrong, errors.New("TLS: a certificate and a key are needed, and only one of them is given"))
	case h.Certificate == "" && len(h.Redirect) > 0:
		wrong = append(wrong, errors.New("redirect to https: there is no https without a certificate and a key"))
	case len(h.Redirect) == 0 && h.Challenges != "":
		wrong = append(wrong, errors.New("ACME challenges: they are answered by http, where nothing listens without a redirect to https"))
	}
	return errors.Join(wrong...)
}

func checkProxy(p string) error {
	if a, err := netip.ParseAddr(p); err == nil && a.Zone() == "" {
		return nil
	}
	if _, err := netip.ParsePrefix(p); err == nil {
		return nil
	}
	return fmt.Errorf("trusted proxy %q: neither an IP address nor a CIDR range such as 10.0.0.0/8", p)
}

func checkRange(what string, n, most int64) error {
	if n < 0 || n > most {
		return fmt.Errorf("%s %d: must be from 0 to %d", what, n, most)
	}
	return nil
}

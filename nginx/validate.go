package nginx

import (
	"errors"
	"net/netip"
	"path/filepath"
	"regexp"
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

// The values of a Config that can be wrong, in errors (fault.SettingError).
const (
	SettingListen      = "listen"
	SettingRedirect    = "redirect to https"
	SettingServerName  = "server name"
	SettingCertificate = "TLS certificate"
	SettingKey         = "TLS key"
	SettingChallenges  = "ACME challenges"
	SettingMount       = "mount"
	SettingSocket      = "API socket"
	SettingRunDir      = "run directory"
	SettingAccessLog   = "access log"
	SettingUser        = "user"
	SettingProfile     = "profile"
	SettingProxies     = "trusted proxy"
	SettingWorkers     = "workers"
	SettingThreads     = "threads"
	SettingClient      = "connections per client"
	SettingNetwork     = "connections per network"
	SettingTotal       = "connections in total"
	SettingRequests    = "requests per second"
	SettingBurst       = "burst"
	SettingCostly      = "costly requests per second"
	SettingCostlyBurst = "costly burst"
	SettingBytes       = "bytes per second"
)

// Validate returns all that is wrong with c as fault.SettingErrors, or nil. It touches no
// file: nginx checks whether the paths exist (see Check).
func (c Config) Validate() error {
	var wrong fault.SettingErrors
	if len(c.Listen) == 0 {
		wrong.Add(SettingListen, errors.New(`no address given; "8080" or "127.0.0.1:8080" would do`))
	}
	seen := map[string]bool{}
	for _, l := range c.Listen {
		checkListen(&wrong, SettingListen, l, seen)
	}
	for _, l := range c.Host.Redirect {
		checkListen(&wrong, SettingRedirect, l, seen)
	}
	c.Host.check(&wrong)
	for _, p := range c.paths() {
		checkPath(&wrong, p.setting, p.path)
	}
	if len(c.APISocket) > maxSocketPath {
		wrong.Addf(SettingSocket, "%q: %d bytes, and a unix socket's path has at most %d", c.APISocket, len(c.APISocket), maxSocketPath)
	}
	c.checkOutsideMount(&wrong)
	if c.User != "" && !userName.MatchString(c.User) {
		wrong.Addf(SettingUser, "%q: not of the form name or name:group", c.User)
	}
	if p := c.Profile; p != "" && p != Direct && p != PageCache {
		wrong.Addf(SettingProfile, "%q: neither %q nor %q", p, Direct, PageCache)
	}
	for _, p := range c.TrustedProxies {
		checkProxy(&wrong, p)
	}
	c.checkNumbers(&wrong)
	return wrong.Err()
}

func (c Config) checkNumbers(wrong *fault.SettingErrors) {
	for _, n := range []struct {
		setting     string
		value, most int64
	}{
		{SettingWorkers, int64(c.Workers), maxWorkers},
		{SettingThreads, int64(c.Threads), maxThreads},
		{SettingClient, int64(c.Limits.Connections), maxConnections},
		{SettingNetwork, int64(c.Limits.Network), maxConnections},
		{SettingTotal, int64(c.Limits.TotalConnections), maxConnections},
		{SettingRequests, int64(c.Limits.RequestsPerSecond), maxRate},
		{SettingBurst, int64(c.Limits.Burst), maxRate},
		{SettingCostly, int64(c.Limits.CostlyPerSecond), maxRate},
		{SettingCostlyBurst, int64(c.Limits.CostlyBurst), maxRate},
		{SettingBytes, c.Limits.BytesPerSecond, 1 << 40},
	} {
		if n.value < 0 || n.value > n.most {
			wrong.Addf(n.setting, "%d: must be from 0 to %d", n.value, n.most)
		}
	}
}

type namedPath struct{ setting, path string }

// paths lists the paths that must be absolute and quotable.
func (c Config) paths() []namedPath {
	p := []namedPath{{SettingMount, c.Mount}, {SettingSocket, c.APISocket}, {SettingRunDir, c.RunDir}}
	if c.logs() {
		p = append(p, namedPath{SettingAccessLog, c.AccessLog})
	}
	if c.Host.tls() {
		p = append(p, namedPath{SettingCertificate, c.Host.Certificate}, namedPath{SettingKey, c.Host.Key})
	}
	if c.Host.Challenges != "" {
		p = append(p, namedPath{SettingChallenges, c.Host.Challenges})
	}
	return p
}

func (c Config) logs() bool { return c.AccessLog != "" && c.AccessLog != "off" }

func checkPath(wrong *fault.SettingErrors, setting, path string) {
	switch {
	case path == "":
		wrong.Add(setting, errors.New("no path given"))
	case !filepath.IsAbs(path):
		wrong.Addf(setting, "%q: not an absolute path", path)
	case !utf8.ValidString(path):
		wrong.Addf(setting, "%q: not UTF-8", path)
	}
	for _, r := range path {
		// Within nginx's double quotes a quote, a backslash and a dollar
		// have a meaning. The others have none there, but a path that looks
		// like configuration is more likely an attack than a directory.
		if unicode.IsControl(r) || strings.ContainsRune(`"'\$;{}`, r) {
			wrong.Addf(setting, "%q: contains %q, which nginx's configuration cannot carry; rename it", path, r)
			return
		}
	}
}

// checkOutsideMount refuses paths inside the read-only mount that nginx would write to,
// or connect to.
func (c Config) checkOutsideMount(wrong *fault.SettingErrors) {
	for _, p := range c.paths()[1:] {
		rel, err := filepath.Rel(c.Mount, p.path)
		if c.Mount != "" && err == nil && rel != ".." && !strings.HasPrefix(rel, "../") {
			wrong.Addf(p.setting, "%q: lies inside the mount %q, which is read-only", p.path, c.Mount)
		}
	}
}

// checkListen accepts a port, or an IP address, "localhost" or "*" with a
// port. nginx would also resolve names, but does so once and while it starts.
func checkListen(wrong *fault.SettingErrors, setting, l string, seen map[string]bool) {
	host, port, err := splitListen(l)
	if err != nil {
		wrong.Addf(setting, "%q: %w", l, err)
		return
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 || port[0] == '0' {
		wrong.Addf(setting, "%q: the port is not a number from 1 to 65535", l)
		return
	}
	if host != "" && host != "*" && host != "localhost" {
		a, err := netip.ParseAddr(host)
		if err != nil || a.Zone() != "" {
			wrong.Addf(setting, "%q: %q is not an IP address", l, host)
			return
		}
		if a.Is6() != strings.HasPrefix(l, "[") {
			wrong.Addf(setting, "%q: an IPv6 address, and only that, stands in brackets: [::1]:8080", l)
			return
		}
	}
	address := DialAddress(l)
	if seen[address] {
		wrong.Addf(setting, "%q: given twice", l)
	}
	seen[address] = true
}

// serverName is a host name, with a leading "*." at most, or an IP address.
var serverName = regexp.MustCompile(`^(\*\.)?[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?$|^\[[0-9A-Fa-f:.]+\]$`)

func (h Host) check(wrong *fault.SettingErrors) {
	for _, name := range h.Names {
		if !serverName.MatchString(name) {
			wrong.Addf(SettingServerName, "%q: not a host name such as images.example", name)
		}
	}
	switch {
	case h.Certificate == "" && h.Key != "":
		wrong.Addf(SettingCertificate, "is needed: a key is given, and only one of them")
	case h.Certificate != "" && h.Key == "":
		wrong.Addf(SettingKey, "is needed: a certificate is given, and only one of them")
	case h.Certificate == "" && len(h.Redirect) > 0:
		wrong.Addf(SettingRedirect, "is given: there is no https without a certificate and a key")
	case h.Certificate != "" && len(h.Redirect) == 0 && h.Challenges != "":
		wrong.Addf(SettingChallenges, "are given: an authority asks for them by http, where nothing listens without a redirect to https")
	}
}

func checkProxy(wrong *fault.SettingErrors, p string) {
	if a, err := netip.ParseAddr(p); err == nil && a.Zone() == "" {
		return
	}
	if _, err := netip.ParsePrefix(p); err == nil {
		return
	}
	wrong.Addf(SettingProxies, "%q: neither an IP address nor a CIDR range such as 10.0.0.0/8", p)
}

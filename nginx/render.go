package nginx

import (
	"bytes"
	_ "embed"
	"fmt"
	"net"
	"path/filepath"
	"regexp"
	"strings"
	"text/template"
)

//go:embed nginx.conf.tmpl
var templateText string

// templates are parsed once; a mistake in them is ours.
var templates = template.Must(template.New("nginx.conf.tmpl").Option("missingkey=error").Parse(templateText))

// Render returns a complete nginx.conf for a supervised nginx (daemon off; see
// Start). The error is that of Validate.
func Render(c Config) ([]byte, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	v := newView(c)
	site, err := execute("site", v)
	if err != nil {
		return nil, err
	}
	v.Site = string(indented(site))
	return execute("main", v)
}

// RenderSite returns the http-level part alone, for /etc/nginx/conf.d/isofs.conf
// of an nginx that isofs does not run. Its first comment says what the main
// context needs besides. RunDir, User and Workers have no effect on it.
func RenderSite(c Config) ([]byte, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	v := newView(c)
	head, err := execute("site-head", v)
	if err != nil {
		return nil, err
	}
	site, err := execute("site", v)
	if err != nil {
		return nil, err
	}
	return append(head, site...), nil
}

func execute(name string, v view) ([]byte, error) {
	var b bytes.Buffer
	if err := templates.ExecuteTemplate(&b, name, v); err != nil {
		return nil, fmt.Errorf("render %s of nginx.conf.tmpl: %w", name, err)
	}
	return b.Bytes(), nil
}

// A view is what the template sees: Config with its defaults filled in.
type view struct {
	Config
	Logs    bool
	HTTPS   string // where Host.Redirect leads to: "https://$host:8443"
	Answers []answer
	Forms   []string // suffixes of an answer's locations: as text, as JSON
	Site    string   // the rendered http-level part, indented
}

func newView(c Config) view {
	c.Mount, c.RunDir = filepath.Clean(c.Mount), filepath.Clean(c.RunDir)
	c.User = strings.Replace(c.User, ":", " ", 1)
	if c.Profile == "" {
		c.Profile = Direct
	}
	if c.Threads == 0 {
		c.Threads = defaultThreads
	}
	c.Listen, c.Host.Redirect = withoutColon(c.Listen), withoutColon(c.Host.Redirect)
	https := "https://$host"
	if _, port, err := splitListen(c.Listen[0]); err == nil && port != "443" {
		https += ":" + port
	}
	return view{HTTPS: https, Config: c, Logs: c.logs(), Answers: answers(c.Limits), Forms: []string{"", "-json"}}
}

// withoutColon writes ":80" as nginx does, "80".
func withoutColon(listen []string) []string {
	list := make([]string, len(listen))
	for i, l := range listen {
		list[i] = strings.TrimPrefix(l, ":")
	}
	return list
}

// An answer is a text that nginx sends without the API. Text must contain
// neither quotes, backslashes nor dollars.
type answer struct {
	Name       string // of the named location
	Status     int
	RetryAfter int // seconds; 0: trying again does not help
	Text       string
}

func answers(l Limits) []answer {
	return []answer{
		{"limited", 429, 5, "Too many requests at once; there are at most " + l.words() + ". Try again in 5 seconds."},
		{"refused", 405, 0, "Only GET, HEAD, POST and OPTIONS are understood here."},
		{"unreadable", 503, 5, "This image cannot be read at the moment. Try again in 5 seconds; if that does not help, the operator finds the cause in the log."},
		{"api-down", 502, 5, "isofs does not answer; it may be starting. Try again in 5 seconds."},
		{"api-slow", 504, 30, "isofs took too long to prepare this. It may go on doing so: try again in 30 seconds."},
	}
}

// words names the limits that a client can exceed.
func (l Limits) words() string {
	var w []string
	if l.Connections > 0 {
		w = append(w, fmt.Sprintf("%d downloads at a time for each address", l.Connections))
	}
	if l.Network > 0 {
		w = append(w, fmt.Sprintf("%d downloads at a time for each network (IPv4 /24, IPv6 /64)", l.Network))
	}
	if l.TotalConnections > 0 {
		w = append(w, fmt.Sprintf("%d downloads at a time for all together", l.TotalConnections))
	}
	if l.RequestsPerSecond > 0 {
		w = append(w, fmt.Sprintf("%d requests a second for each address, with bursts of %d", l.RequestsPerSecond, l.Burst))
	}
	if l.CostlyPerSecond > 0 {
		w = append(w, fmt.Sprintf("%d requests a second for each address where images are made, with bursts of %d", l.CostlyPerSecond, l.CostlyBurst))
	}
	text := strings.Join(w, ", ")
	if l.Connections > 0 || l.Network > 0 || l.TotalConnections > 0 {
		text += "; as many pages as downloads"
	}
	return text
}

// indented moves the lines that are not empty one tab to the right.
func indented(text []byte) []byte {
	return regexp.MustCompile(`(?m)^.`).ReplaceAll(text, []byte("\t$0"))
}

// splitListen splits "8080", ":8080" and "host:8080".
func splitListen(l string) (host, port string, err error) {
	if !strings.Contains(l, ":") {
		return "", l, nil
	}
	return net.SplitHostPort(l)
}

// DialAddress returns where to connect to reach what listens at l, which is
// valid: loopback stands for all addresses.
func DialAddress(l string) string {
	host, port, err := splitListen(l)
	if err != nil {
		return l
	}
	switch host {
	case "", "*", "0.0.0.0":
		host = "127.0.0.1"
	case "::":
		host = "::1"
	}
	return net.JoinHostPort(host, port)
}

package main

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"aesthetic.computer/isofs/fault"
	"aesthetic.computer/isofs/nginx"
	"aesthetic.computer/isofs/vfs"
)

// serveFlags are those of serve beside stackFlags; mount has the first part.
type serveFlags struct {
	stack   stackFlags
	mount   string
	profile string
	pages   size
	run     string
	metrics string
	prefill bool
	api     apiFlags
	admin   adminFlags
	web     webFlags
}

// webFlags configure nginx.
type webFlags struct {
	enabled   bool
	binary    string
	listen    []string
	host      hostFlags
	accessLog string
	threads   int
	proxies   []string
	limits    nginx.Limits
	rate      size
	grace     time.Duration
}

func newServe() *cobra.Command {
	var o serveFlags
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Mount the images and serve them with nginx",
		Long: `serve mounts the directory of images and starts a stock nginx that serves it.

Started by root, it keeps a small process with root's rights, which mounts and starts
nginx, and does everything else as --user. Started by anybody else it needs fuse3
installed, and only that user can read the mount. isofs doctor tells what is missing.

SIGTERM or ctrl-C stops it: nginx lets running downloads go on for --grace, then the
directory is unmounted. A start after kill -9 cleans up and goes on where it was.`,
		Example: `  isofs serve --base bases/tiny/amd64/2026-11-01 --mount /srv/isofs
  isofs serve --base https://cdn.example/bases/tiny/amd64/2026-11-01 --oven https://oven.aesthetic.computer --listen 80
  isofs serve --channel https://cdn.example/channels/tiny-amd64.json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			o.web.enabled = true
			return runServe(cmd, nil, &o)
		},
	}
	o.register(cmd)
	return cmd
}

// register adds all that serve has.
func (o *serveFlags) register(cmd *cobra.Command) {
	o.stack.register(cmd)
	o.registerMount(cmd)
	cmd.Flags().StringVar(&o.mount, "mount", "", "directory to mount on (default /srv/isofs for root, else STATE/mnt)")
	o.web.register(cmd)
}

func newMount() *cobra.Command {
	var o serveFlags
	cmd := &cobra.Command{
		Use:   "mount DIR",
		Short: "Only mount the images, without a web server",
		Long: `mount shows the images in DIR until it is stopped. Read them with what you like:
cp, dd, QEMU. Names that are not listed are answered too, if the piece exists.`,
		Example: "  isofs mount --base bases/tiny/amd64/2026-11-01 /srv/isofs",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			o.mount = args[0]
			return runServe(cmd, args, &o)
		},
	}
	o.stack.register(cmd)
	o.registerMount(cmd)
	return cmd
}

func (o *serveFlags) registerMount(cmd *cobra.Command) {
	o.stack.cache.registerScrub(cmd)
	flags := cmd.Flags()
	o.stack.channel.register(flags)
	choiceVar(flags, &o.profile, "profile", string(vfs.Direct), []string{string(vfs.Direct), string(vfs.PageCache)}, "direct (one cache for all pieces) or page-cache (best when one piece is fetched by many)")
	o.pages = vfs.DefaultPageLimit
	flags.Var(&o.pages, "page-cache-limit", "bound on what the kernel keeps of all images in --profile page-cache")
	flags.StringVar(&o.metrics, "metrics-listen", "", "address for Prometheus, such as 127.0.0.1:9180; what it tells is not for the public")
	flags.BoolVar(&o.prefill, "prefill", false, "fetch all of the base in the background, while nobody waits for anything")
	o.api.register(cmd)
	o.admin.register(cmd)
	o.stack.limits.register(cmd)
	flags.StringVar(&o.run, "run", "", "directory of sockets and of nginx's files (default /run/isofs for root, else STATE/run)")
}

func (w *webFlags) register(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringVar(&w.binary, "nginx", "nginx", "nginx to run, 1.22 or later")
	flags.StringSliceVar(&w.listen, "listen", []string{"127.0.0.1:8080"}, "addresses that nginx listens on")
	w.host.register(flags)
	flags.StringVar(&w.accessLog, "access-log", "/dev/stdout", "file of nginx's access log, or off")
	flags.IntVar(&w.threads, "read-threads", 32, "threads of each nginx worker that read the mount and may wait for the base's origin")
	flags.StringSliceVar(&w.proxies, "trusted-proxy", nil, "addresses of proxies whose X-Forwarded-For is believed")
	flags.IntVar(&w.limits.Connections, "limit-connections", 64, "downloads of one client at once, an IPv4 address or an IPv6 /64, and as many pages; 0 is no limit")
	flags.IntVar(&w.limits.Network, "limit-network", 64, "the same of one network, an IPv4 /24 or an IPv6 /64; 0 is no limit")
	flags.IntVar(&w.limits.RequestsPerSecond, "limit-requests", 300, "requests a second of one client; 0 is no limit")
	flags.IntVar(&w.limits.Burst, "limit-burst", 3000, "requests that a client may make at once beyond --limit-requests")
	flags.IntVar(&w.limits.CostlyPerSecond, "limit-costly", 5, "requests a second of one client to /os, /api/os and /admin/; 0 is no limit")
	flags.IntVar(&w.limits.CostlyBurst, "limit-costly-burst", 50, "of those, how many a client may make at once beyond --limit-costly")
	flags.IntVar(&w.limits.TotalConnections, "limit-total", 300, "downloads of all clients at once, each of which may take 2 MB in nginx, and as many pages; 0 is no limit")
	flags.Var(&w.rate, "limit-rate", "bytes a second of one connection; 0 is no limit")
	durationVar(flags, &w.grace, "grace", 10*time.Second, "how long running downloads go on after a stop was asked for")
}

// complete fills in the defaults that depend on who runs and validates.
func (o *serveFlags) complete() error {
	root := os.Geteuid() == 0
	if o.mount == "" {
		o.mount = "/srv/isofs"
		if !root {
			o.mount = filepath.Join(o.stack.state, "mnt")
		}
	}
	if o.run == "" {
		o.run = "/run/isofs"
		if !root {
			o.run = filepath.Join(o.stack.state, "run")
		}
	}
	for _, path := range []*string{&o.mount, &o.run, &o.stack.state} {
		if err := absolute(path); err != nil {
			return err
		}
	}
	services := o.servicesConfig()
	wrong := []error{o.stack.validate(), o.stack.limits.validate(), blameSettings(services.Validate()), o.api.validate(), o.admin.validate()}
	if o.pages < 16<<20 {
		wrong = append(wrong, wrongFlag("page-cache-limit", "%s is less than 16MiB", o.pages))
	}
	if o.web.enabled {
		if err := o.web.host.complete(); err != nil {
			return err
		}
		o.web.limits.BytesPerSecond = int64(o.web.rate)
		wrong = append(wrong, blameNginx(o.nginxConfig().Validate()))
	}
	return usage(wrong...)
}

// socketName is the API's, in --run.
const socketName = "api.sock"

func (o *serveFlags) socket() string { return filepath.Join(o.run, socketName) }

func (o *serveFlags) nginxConfig() nginx.Config {
	c := nginx.Config{
		Listen: o.web.listen, Mount: o.mount, APISocket: o.socket(),
		RunDir: filepath.Join(o.run, "nginx"), AccessLog: o.web.accessLog,
		Profile: nginx.Profile(o.profile), Threads: o.web.threads, Limits: o.web.limits, Host: o.web.host.Host,
		TrustedProxies: o.web.proxies,
	}
	if os.Geteuid() == 0 {
		c.User = o.stack.user
	}
	return c
}

// nginxSettings are the flags that those settings come from which nginx's
// configuration calls by names of its own.
var nginxSettings = []struct{ what, flag string }{
	{"listen ", "listen"}, {"mount ", "mount"}, {"API socket ", "run"}, {"run directory ", "run"}, {"access log ", "access-log"},
	{"server name ", "server-name"}, {"TLS certificate ", "tls-cert"}, {"TLS key ", "tls-key"}, {"ACME challenges ", "acme-webroot"},
	{"user ", "user"}, {"trusted proxy ", "trusted-proxy"}, {"threads ", "read-threads"},
	{"connections per client ", "limit-connections"}, {"connections per network ", "limit-network"}, {"connections in total ", "limit-total"},
	{"requests per second ", "limit-requests"}, {"burst ", "limit-burst"},
	{"costly requests per second ", "limit-costly"}, {"costly burst ", "limit-costly-burst"}, {"bytes per second ", "limit-rate"},
}

// blameNginx says of which flags the errors are that nginx.Config.Validate joined.
func blameNginx(err error) error {
	if all, ok := any(err).(interface{ Unwrap() []error }); ok {
		var named []error
		for _, inner := range all.Unwrap() {
			named = append(named, blameNginx(inner))
		}
		return errors.Join(named...)
	}
	if err == nil || errors.Is(err, fault.Invalid) {
		return nil // that much usage says
	}
	for _, s := range nginxSettings {
		if rest, ok := strings.CutPrefix(err.Error(), s.what); ok {
			return wrongFlag(s.flag, "%s", rest)
		}
	}
	return err
}

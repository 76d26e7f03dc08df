package main

import (
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"aesthetic.computer/isofs/nginx"
	"aesthetic.computer/isofs/server"
	"aesthetic.computer/isofs/settings"
	"aesthetic.computer/isofs/vfs"
)

// serveFlags are the flags of serve beside stackFlags; mount has the first part.
type serveFlags struct {
	stack   stackFlags
	mount   string
	profile string
	pages   settings.Size
	run     string
	metrics string
	prefill bool
	api     apiFlags
	admin   adminFlags
	web     webFlags
}

// apiFlags are the flags of the API.
type apiFlags struct {
	publicURL string
	peers     []string
	watchers  int
}

func (a *apiFlags) register(flags *pflag.FlagSet) {
	flags.StringVar(&a.publicURL, "public-url", "", "what absolute links begin with, such as https://images.example (default: the address that the client used)")
	flags.StringSliceVar(&a.peers, "peer-url", nil, "what addresses at another server of the same pieces and base begin with (repeatable): .meta4 names it, too, if there is a --public-url")
	flags.IntVar(&a.watchers, "limit-watchers", 500, "clients of /os?format=stream at once")
}

// adminFlags say where the operator's key is.
type adminFlags struct{ keyFile string }

func (a *adminFlags) register(flags *pflag.FlagSet) {
	flags.StringVar(&a.keyFile, "admin-key-file", "",
		"file with the key for /admin/, readable by its owner only; SIGHUP reads it again (default: the environment's ISOFS_ADMIN_KEY or OS_BUILD_ADMIN_KEY)")
}

// read reads the key; "" without one.
func (a *adminFlags) read() (string, error) {
	if a.keyFile != "" {
		return server.ReadAdminKey(a.keyFile)
	}
	for _, name := range keyVariables {
		if key := os.Getenv(name); key != "" {
			if err := server.CheckAdminKey(key); err != nil {
				return "", fmt.Errorf("%s: %w", name, err)
			}
			return key, nil
		}
	}
	return "", nil
}

// webFlags configure nginx.
type webFlags struct {
	enabled   bool
	binary    string
	listen    []string
	host      nginx.Host
	accessLog string
	threads   int
	proxies   []string
	limits    nginx.Limits
	rate      settings.Size
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
installed, and only that user can read the mount. isofs doctor lists what is missing.

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

// register adds all flags of serve.
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
	settings.ChoiceVar(flags, &o.profile, "profile", string(vfs.Direct), []string{string(vfs.Direct), string(vfs.PageCache)}, "direct (one cache for all pieces) or page-cache (best when one piece is fetched by many)")
	o.pages = vfs.DefaultPageLimit
	flags.Var(&o.pages, "page-cache-limit", "bound on what the kernel keeps of all images in --profile page-cache")
	flags.StringVar(&o.metrics, "metrics-listen", "", "address for Prometheus, such as 127.0.0.1:9180; its metrics are not for the public")
	flags.BoolVar(&o.prefill, "prefill", false, "fetch all of the base in the background, while no client waits")
	o.api.register(flags)
	o.admin.register(flags)
	o.stack.limits.register(cmd)
	flags.StringVar(&o.run, "run", "", "directory of sockets and of nginx's files (default /run/isofs for root, else STATE/run)")
}

func (w *webFlags) register(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringVar(&w.binary, "nginx", "nginx", "nginx to run, 1.22 or later")
	flags.StringSliceVar(&w.listen, "listen", []string{"127.0.0.1:8080"}, "addresses that nginx listens on")
	flags.StringSliceVar(&w.host.Names, "server-name", nil, "host name that nginx answers to (repeatable; default every name)")
	flags.StringVar(&w.host.Certificate, "tls-cert", "", "file with the certificate and its chain (PEM): all of --listen is https then; read again at SIGHUP")
	flags.StringVar(&w.host.Key, "tls-key", "", "file with the private key of --tls-cert (PEM)")
	flags.StringSliceVar(&w.host.Redirect, "redirect-from", nil, "addresses where http is sent to https, such as 80")
	flags.StringVar(&w.host.Challenges, "acme-webroot", "", "folder of .well-known/acme-challenge, answered by http: what certbot calls --webroot-path")
	flags.StringVar(&w.accessLog, "access-log", "/dev/stdout", "file of nginx's access log, or off")
	flags.IntVar(&w.threads, "read-threads", 32, "threads of each nginx worker that read the mount and may wait for the base's origin")
	flags.StringSliceVar(&w.proxies, "trusted-proxy", nil, "addresses of proxies whose X-Forwarded-For is believed")
	flags.IntVar(&w.limits.Connections, "limit-connections", 64, "downloads of one client at once, an IPv4 address or an IPv6 /64, and as many pages; 0: no limit")
	flags.IntVar(&w.limits.Network, "limit-network", 64, "the same of one network, an IPv4 /24 or an IPv6 /64; 0: no limit")
	flags.IntVar(&w.limits.RequestsPerSecond, "limit-requests", 300, "requests a second of one client; 0: no limit")
	flags.IntVar(&w.limits.Burst, "limit-burst", 3000, "requests that a client may make at once beyond --limit-requests")
	flags.IntVar(&w.limits.CostlyPerSecond, "limit-costly", 5, "requests a second of one client to /os, /api/os and /admin/; 0: no limit")
	flags.IntVar(&w.limits.CostlyBurst, "limit-costly-burst", 50, "of those, how many a client may make at once beyond --limit-costly")
	flags.IntVar(&w.limits.TotalConnections, "limit-total", 300, "downloads of all clients at once, each of which may take 2 MB in nginx, and as many pages; 0: no limit")
	flags.Var(&w.rate, "limit-rate", "bytes a second of one connection; 0: no limit")
	settings.DurationVar(flags, &w.grace, "grace", 10*time.Second, "how long running downloads go on after a stop was asked for")
}

// complete fills in the defaults that depend on who runs.
func (o *serveFlags) complete() error {
	if err := o.stack.complete(); err != nil {
		return err
	}
	root := os.Geteuid() == 0
	if o.mount == "" {
		o.mount = "/srv/isofs"
		if !root {
			o.mount = filepath.Join(o.stack.state, "mnt")
		}
	}
	if o.run == "" {
		o.run = runDirectory(o.stack.state)
	}
	for _, path := range []*string{&o.mount, &o.run, &o.web.host.Certificate, &o.web.host.Key, &o.web.host.Challenges} {
		if err := absolute(path); err != nil {
			return err
		}
	}
	o.web.limits.BytesPerSecond = int64(o.web.rate)
	return nil
}

// runDirectory returns the default of --run.
func runDirectory(state string) string {
	if os.Geteuid() == 0 {
		return "/run/isofs"
	}
	return filepath.Join(state, "run")
}

// validate completes the flags and reports all that is wrong with them.
func (o *serveFlags) validate() error {
	if err := o.complete(); err != nil {
		return err
	}
	config := o.config(slog.Default())
	wrong := []error{o.stack.limits.validate(), blameFlags(config.Validate())}
	if o.admin.keyFile == "" {
		_, err := o.admin.read() // from the environment
		wrong = append(wrong, err)
	}
	return settings.Usage(wrong...)
}

// config returns the Config of a server that the flags describe, without the keys and the
// keyring.
func (o *serveFlags) config(log *slog.Logger) server.Config {
	c := server.Config{
		Stack: o.stack.config(nil, nil, log),
		Mount: vfs.Config{Mountpoint: o.mount, Profile: vfs.Profile(o.profile), PageLimit: int64(o.pages), Log: log},
		Services: server.ServicesConfig{
			PublicURL: o.api.publicURL, Peers: o.api.peers, Watchers: o.api.watchers, Metrics: o.metrics, Prefill: o.prefill, Explain: blameFlags, Log: log,
		},
		RunDir: o.run, Log: log,
	}
	if o.web.enabled {
		c.Web = &server.WebConfig{Binary: o.web.binary, Nginx: o.nginxConfig(), Grace: o.web.grace}
		if len(o.web.listen) > 0 {
			c.Services.Web = server.Web{Scheme: o.web.host.Scheme(), Listen: o.web.listen[0]}
		}
	}
	return c
}

// readConfig is config with the keys and the keyring that the flags name.
func (o *serveFlags) readConfig(log *slog.Logger) (c server.Config, err error) {
	c = o.config(log)
	if c.Stack, err = o.stack.readConfig(log); err != nil {
		return c, err
	}
	c.Services.AdminKey, err = o.admin.read()
	return c, err
}

func (o *serveFlags) nginxConfig() nginx.Config {
	c := nginx.Config{
		Listen: o.web.listen, Mount: o.mount, APISocket: filepath.Join(o.run, server.SocketName),
		RunDir: filepath.Join(o.run, "nginx"), AccessLog: o.web.accessLog,
		Profile: nginx.Profile(o.profile), Threads: o.web.threads, Limits: o.web.limits, Host: o.web.host,
		TrustedProxies: o.web.proxies,
	}
	if os.Geteuid() == 0 {
		c.User = o.stack.user
	}
	return c
}

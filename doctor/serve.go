package doctor

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"time"

	"aesthetic.computer/isofs/border"
	"aesthetic.computer/isofs/nginx"
	"aesthetic.computer/isofs/server"
	"aesthetic.computer/isofs/vfs"
)

// serverChecks look at what these settings of serve need of the machine, and
// whether the server that they describe runs.
func (d Doctor) serverChecks() []check {
	list := []check{
		{"serve", "/dev/fuse", openFuse, nil, "load the module: modprobe fuse; in a container, pass the device in; for a user, chmod 666 /dev/fuse"},
		{"serve", "rights to mount", canMount, []string{"fuse3"}, ""},
		{"serve", "nginx 1.22 or later with threads", d.nginxVersion, []string{"nginx-light"}, ""},
	}
	if os.Geteuid() == 0 {
		list = append(list, check{"serve", "the user " + d.User, func(context.Context) error {
			if _, err := server.LookupUser(d.User); err != nil {
				return errors.New("there is none")
			}
			return nil
		}, nil, "make it: " + server.AddUser + " " + d.User})
	}
	state, cache := d.Server.Stack.State, d.Server.Stack.Cache.Dir
	list = append(list,
		check{"serve", "the directory of --state, " + state, func(context.Context) error { return d.mayUse(state) }, nil, ""},
		check{"serve", "the directory of --run, " + d.Server.RunDir, func(context.Context) error { return rootsOrOurs(d.Server.RunDir) }, nil, ""},
		check{"serve", "the mount point, " + d.mount(), d.probeMount, nil, ""})
	if cache != "" {
		list = append(list, check{"serve", "the directory of --cache, " + cache, func(context.Context) error { return d.mayUse(cache) }, nil, ""})
	}
	if dir := d.Server.Web.LogDir(); dir != "" {
		list = append(list, check{"serve", "the directory of --access-log, " + dir, func(context.Context) error { return rootsOrOurs(dir) }, nil, ""})
	}
	return append(list, d.webChecks()...)
}

// webChecks look at the certificate and the addresses.
func (d Doctor) webChecks() (list []check) {
	host := d.Server.Web.Nginx.Host
	if host.Certificate != "" {
		list = append(list, check{"serve", "the certificate " + host.Certificate, d.probeCertificate, nil, ""})
	}
	address := func(scheme, listen, flag string) {
		list = append(list, check{"serve", "the address " + listen, func(ctx context.Context) error { return d.probeAddress(ctx, scheme, listen) }, nil,
			"stop the program that listens there, or choose another address with " + flag})
	}
	for _, listen := range d.Server.Web.Nginx.Listen {
		address(host.Scheme(), listen, "--listen")
	}
	for _, listen := range host.Redirect {
		address("http", listen, "--redirect-from")
	}
	return list
}

func (d Doctor) mount() string { return d.Server.Mount.Mountpoint }

// client returns a client of the server that listens in --run.
func (d Doctor) client() server.Client {
	return server.Client{Socket: filepath.Join(d.Server.RunDir, server.SocketName)}
}

func (d Doctor) nginxVersion(ctx context.Context) error {
	_, err := nginx.Version(ctx, d.Server.Web.Binary)
	return err
}

// mayUse checks that --user can write to a directory, or that isofs would give it to
// that user.
func (d Doctor) mayUse(dir string) error {
	as, err := server.LookupUser(d.User)
	if err != nil {
		return err
	}
	return as.MayUse(dir)
}

// probeCertificate checks that the certificate can be used, and for a while to come.
func (d Doctor) probeCertificate(context.Context) error {
	expires, err := server.Certificate(d.Server.Web.Nginx.Host)
	if err == nil && time.Until(expires) < server.CertificateSoon {
		err = fmt.Errorf("it expires, or expired, at %s: renew it, and send SIGHUP", expires)
	}
	return err
}

func openFuse(context.Context) error {
	f, err := os.OpenFile("/dev/fuse", os.O_RDWR, 0)
	if err != nil {
		return err
	}
	return f.Close()
}

// rootsOrOurs checks that a directory belongs to root or to the user that starts
// isofs.
func rootsOrOurs(dir string) error {
	if os.Geteuid() == 0 {
		return border.Check(filepath.Join(dir, "x"))
	}
	return server.Writable(dir)
}

// probeMount checks that the mount point is free or served by the server that these
// settings describe.
func (d Doctor) probeMount(ctx context.Context) error {
	mounted, alive, err := vfs.State(d.mount())
	switch {
	case err != nil:
		return err
	case mounted && !alive:
		return errors.New("the isofs that is mounted there does not answer; a start clears it away")
	case mounted && d.client().Instance(ctx) == "":
		return fmt.Errorf("an isofs that does not listen in %s is mounted there", d.Server.RunDir)
	case !mounted && os.Geteuid() == 0:
		return border.Check(filepath.Join(d.mount(), "x"))
	case !mounted:
		return server.Writable(d.mount())
	}
	return nil
}

// probeAddress checks that an address is free, or in use by the server that these
// settings describe.
func (d Doctor) probeAddress(ctx context.Context, scheme, listen string) error {
	ctx, cancel := context.WithTimeout(ctx, server.ProbeTime)
	defer cancel()
	at := nginx.DialAddress(listen)
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, "tcp", at)
	if err != nil {
		return nil // it is free
	}
	conn.Close()
	there, err := server.InstanceAt(ctx, scheme+"://"+at, nil)
	ours := d.client().Instance(ctx)
	switch {
	case err != nil || there == "":
		return errors.New("another program listens there, such as the nginx that Debian starts by itself (systemctl disable --now nginx)")
	case ours == "" || there != ours && there != server.Busy:
		return fmt.Errorf("another isofs listens there, not the one of %s", d.Server.RunDir)
	}
	return nil
}

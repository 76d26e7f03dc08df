package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"

	"aesthetic.computer/isofs/border"
	"aesthetic.computer/isofs/fault"
	"aesthetic.computer/isofs/nginx"
	"aesthetic.computer/isofs/server"
	"aesthetic.computer/isofs/vfs"
)

// serverChecks look at what these settings of serve need of the machine, and
// whether the server that they describe runs.
func serverChecks(o *serveFlags) []check {
	list := []check{
		{"serve", "/dev/fuse", openFuse, nil, "load the module: modprobe fuse; in a container, pass the device in; for a user, chmod 666 /dev/fuse"},
		{"serve", "rights to mount", canMount, []string{"fuse3"}, ""},
		{"serve", "nginx 1.22 or later with threads", func(ctx context.Context) error {
			_, err := nginx.Version(ctx, o.web.binary)
			return err
		}, []string{"nginx-light"}, ""},
	}
	if os.Geteuid() == 0 {
		list = append(list, check{"serve", "the user " + o.stack.user, func(context.Context) error {
			if _, err := lookupUser(o.stack.user); err != nil {
				return errors.New("there is none")
			}
			return nil
		}, nil, "make it: " + makeUser + " " + o.stack.user})
	}
	list = append(list,
		check{"serve", "the directory of --state, " + o.stack.state, func(context.Context) error { return o.usable(o.stack.state) }, nil, ""},
		check{"serve", "the directory of --run, " + o.run, func(context.Context) error { return rootsOrOurs(o.run) }, nil, ""},
		check{"serve", "the mount point, " + o.mount, func(ctx context.Context) error { return o.mountWell(ctx) }, nil, ""})
	if cache := o.stack.cache.dir(o.stack.state); cache != "" {
		list = append(list, check{"serve", "the directory of --cache, " + cache, func(context.Context) error { return o.usable(cache) }, nil, ""})
	}
	if dir := o.logDirectory(); dir != "" {
		list = append(list, check{"serve", "the directory of --access-log, " + dir, func(context.Context) error { return rootsOrOurs(dir) }, nil, ""})
	}
	if o.web.host.Certificate != "" {
		list = append(list, check{"serve", "the certificate " + o.web.host.Certificate, func(context.Context) error { return o.web.host.well() }, nil, ""})
	}
	address := func(scheme, listen, flag string) {
		list = append(list, check{"serve", "the address " + listen, func(ctx context.Context) error { return o.addressWell(ctx, scheme, listen) }, nil,
			"stop the program that listens there, or choose another address with " + flag})
	}
	for _, listen := range o.web.listen {
		address(o.web.host.scheme(), listen, "--listen")
	}
	for _, listen := range o.web.host.Redirect {
		address("http", listen, "--redirect-from")
	}
	return list
}

func openFuse(context.Context) error {
	f, err := os.OpenFile("/dev/fuse", os.O_RDWR, 0)
	if err != nil {
		return err
	}
	return f.Close()
}

// rootsOrOurs looks at a directory that the one who starts isofs keeps.
func rootsOrOurs(dir string) error {
	if os.Geteuid() == 0 {
		return border.Check(filepath.Join(dir, "x"))
	}
	return writable(dir)
}

// usable looks whether --user can write to a directory, or would be given it.
func (o *serveFlags) usable(dir string) error {
	if os.Geteuid() != 0 {
		return writable(dir)
	}
	as, err := lookupUser(o.stack.user)
	if err != nil || as.isRoot() {
		return err
	}
	var st unix.Stat_t
	err = unix.Stat(dir, &st)
	if errors.Is(err, unix.ENOENT) {
		return nil // it will be made
	}
	if err != nil || int(st.Uid) == as.uid || st.Mode&0o022 != 0 {
		return err
	}
	if entries, _ := os.ReadDir(dir); st.Uid == 0 && len(entries) == 0 {
		return nil // it will be given away
	}
	return fmt.Errorf("%s belongs to user %d, and isofs runs as %s: %w: chown -R --from=%d %s: %s",
		dir, st.Uid, as.name, fault.Invalid, st.Uid, as.name, dir)
}

// writable looks whether this user can write to a directory, or make it.
func writable(dir string) error {
	for {
		err := unix.Access(dir, unix.W_OK|unix.X_OK)
		if !errors.Is(err, syscall.ENOENT) || dir == "/" {
			return err
		}
		dir = filepath.Dir(dir)
	}
}

// instance is that of the server that listens in --run; "" if none runs.
func (o *serveFlags) instance(ctx context.Context) string {
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		var dialer net.Dialer
		return dialer.DialContext(ctx, "unix", o.socket())
	}
	ctx, cancel := context.WithTimeout(ctx, server.ProbeTime)
	defer cancel()
	name, _ := server.InstanceAt(ctx, "http://isofs", dial)
	return name
}

// mountWell looks whether the mount point is free or served by the server that
// these settings describe.
func (o *serveFlags) mountWell(ctx context.Context) error {
	mounted, alive, err := vfs.State(o.mount)
	switch {
	case err != nil:
		return err
	case mounted && !alive:
		return errors.New("the isofs that is mounted there does not answer; a start clears it away")
	case mounted && o.instance(ctx) == "":
		return fmt.Errorf("an isofs that does not listen in %s is mounted there", o.run)
	case !mounted && os.Geteuid() == 0:
		return border.Check(filepath.Join(o.mount, "x"))
	case !mounted:
		return writable(o.mount)
	}
	return nil
}

// addressWell looks whether an address is free, or the server's that these
// settings describe.
func (o *serveFlags) addressWell(ctx context.Context, scheme, listen string) error {
	ctx, cancel := context.WithTimeout(ctx, server.ProbeTime)
	defer cancel()
	at := nginx.DialAddress(listen)
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, "tcp", at)
	if err != nil {
		return nil // nobody is there
	}
	conn.Close()
	there, err := server.InstanceAt(ctx, scheme+"://"+at, nil)
	ours := o.instance(ctx)
	switch {
	case err != nil || there == "":
		return errors.New("another program listens there, such as the nginx that Debian starts by itself (systemctl disable --now nginx)")
	case ours == "" || there != ours && there != server.Busy:
		return fmt.Errorf("another isofs listens there, not the one of %s", o.run)
	}
	return nil
}

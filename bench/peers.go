package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
)

// A peer is one way to serve the image.
type peer struct {
	name string
	urls []string // of different pieces; or of one, if the peer has only one
	pids []int    // its server's processes, with all their descendants
	// part divides the number of measured bytes, for slow peers.
	part int64
	stop func()
}

// directReads is nginx's mode in isofs's direct profile.
const directReads = "sendfile off; aio threads; output_buffers 2 1016k;"

// nginx starts a stock nginx: site is the content of its server block, top of
// its http block.
func (l *lab) nginx(name, top, site string) (peer, error) {
	address, err := freeAddress()
	if err != nil {
		return peer{}, err
	}
	dir, err := os.MkdirTemp(l.dir, "nginx-")
	if err != nil {
		return peer{}, err
	}
	conf := fmt.Sprintf(`daemon off; worker_processes auto; pid %[1]s/pid; error_log stderr crit; user root;
events { worker_connections 1024; }
http { access_log off; client_body_temp_path %[1]s/b; proxy_temp_path %[1]s/p; fastcgi_temp_path %[1]s/f;
uwsgi_temp_path %[1]s/u; scgi_temp_path %[1]s/s; keepalive_requests 1000000; %[3]s
server { listen %[2]s; %[4]s } }
`, dir, address, top, site)
	path := filepath.Join(dir, "nginx.conf")
	if err := os.WriteFile(path, []byte(conf), 0o644); err != nil {
		return peer{}, err
	}
	pid, stop, err := l.start("nginx", "-p", dir, "-c", path)
	if err != nil {
		return peer{}, err
	}
	return peer{name: name, urls: []string{"http://" + address + "/" + filepath.Base(l.image)}, pids: []int{pid}, part: 1, stop: stop}, nil
}

func (l *lab) plain(name, mode string) (peer, error) {
	p, err := l.nginx(name, "", "root "+l.dir+"; "+mode)
	if err != nil {
		return p, err
	}
	return p, l.answers(p.urls[0])
}

// isofsServe starts isofs with an empty cache of a base.
func (l *lab) isofsServe(name, profile, base string, more ...string) (peer, error) {
	dir, err := os.MkdirTemp(l.dir, "isofs-")
	if err != nil {
		return peer{}, err
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		return peer{}, err
	}
	p, err := l.isofsIn(dir, name, profile, base, append(more, "--pieces", l.path("pieces"))...)
	if err != nil {
		return p, err
	}
	stop := p.stop
	p.stop = func() { stop(); os.RemoveAll(dir) }
	// This request makes the first image, and reads no byte of the base.
	return p, l.answers(p.urls[0])
}

// isofsIn starts isofs with all its files in dir. more must have --pieces.
func (l *lab) isofsIn(dir, name, profile, base string, more ...string) (peer, error) {
	address, err := freeAddress()
	if err != nil {
		return peer{}, err
	}
	l.unmountAtEnd(filepath.Join(dir, "mnt"))
	pid, stop, err := l.start(l.isofs, append([]string{
		"serve", "--base", base, "--profile", profile,
		"--state", filepath.Join(dir, "state"), "--mount", filepath.Join(dir, "mnt"), "--run", filepath.Join(dir, "run"),
		"--listen", address, "--access-log", "off", "--limit-requests", "0", "--limit-connections", "0", "--limit-network", "0", "--grace", "1s",
	}, more...)...)
	if err != nil {
		return peer{}, err
	}
	p := peer{name: name, pids: []int{pid}, part: 1, stop: stop}
	for i := range pieces {
		p.urls = append(p.urls, "http://"+address+"/"+pieceName(i)+"-os.iso")
	}
	return p, l.answers("http://" + address + "/healthz")
}

// sliceCache is nginx's own cache: slices of 1 MiB of an origin, kept on disk.
func (l *lab) sliceCache(origin, folder string) (peer, error) {
	dir := l.path(folder)
	p, err := l.nginx("nginx slice cache", "proxy_cache_path "+dir+" levels=1:2 keys_zone=s:10m max_size=8g use_temp_path=off;",
		`location / { slice 1m; proxy_cache s; proxy_cache_key $uri$slice_range; proxy_set_header Range $slice_range;
proxy_http_version 1.1; proxy_set_header Connection ""; proxy_cache_valid 200 206 1h; `+directReads+` proxy_pass `+origin+`; }`)
	if err != nil {
		return p, err
	}
	return p, l.answers(p.urls[0])
}

// overlayPeers are the Go handler, and the same behind nginx.
func (l *lab) overlayPeers() (direct, behind peer, err error) {
	address, err := freeAddress()
	if err != nil {
		return
	}
	self, err := os.Executable()
	if err != nil {
		return
	}
	pid, stop, err := l.start(self, overlayMode, address, filepath.Join(l.base, "base.iso"), l.image)
	if err != nil {
		return
	}
	direct = peer{name: "Go ServeContent", urls: []string{"http://" + address + "/x.iso"}, pids: []int{pid}, part: 1, stop: stop}
	if err = l.answers(direct.urls[0]); err != nil {
		return
	}
	behind, err = l.nginx("Go ServeContent behind nginx", "",
		"location / { proxy_pass http://"+address+"; proxy_http_version 1.1; proxy_set_header Connection \"\"; proxy_buffers 8 512k; proxy_buffer_size 512k; proxy_busy_buffers_size 1m; proxy_max_temp_file_size 0; proxy_set_header Range $http_range; }")
	if err != nil {
		return
	}
	behind.pids = append(behind.pids, pid)
	return direct, behind, l.answers(behind.urls[0])
}

// nbd mounts nbdkit's file plugin by nbdfuse, behind nginx.
func (l *lab) nbd() (peer, error) {
	dir := l.path("nbd")
	if err := os.Mkdir(dir, 0o755); err != nil {
		return peer{}, err
	}
	l.unmountAtEnd(dir)
	file := filepath.Join(dir, "p00-os.iso")
	pid, _, err := l.start("nbdfuse", "-r", file, "--command", "nbdkit", "-s", "--exit-with-parent", "file", l.image)
	if err != nil {
		return peer{}, err
	}
	return l.behind("nbdkit + nbdfuse", dir, pid)
}

// rclone mounts a local remote, behind nginx.
func (l *lab) rclone() (peer, error) {
	dir, remote := l.path("rclone"), l.path("remote")
	for _, d := range []string{dir, remote} {
		if err := os.Mkdir(d, 0o755); err != nil {
			return peer{}, err
		}
	}
	if err := os.Link(l.image, filepath.Join(remote, "p00-os.iso")); err != nil {
		return peer{}, err
	}
	l.unmountAtEnd(dir)
	pid, _, err := l.start("rclone", "mount", "--config", "/dev/null", "--read-only", "--vfs-cache-mode", "off", remote, dir)
	if err != nil {
		return peer{}, err
	}
	return l.behind("rclone mount", dir, pid)
}

func (l *lab) behind(name, dir string, pid int) (peer, error) {
	p, err := l.nginx(name, "", "root "+dir+"; "+directReads)
	if err != nil {
		return p, err
	}
	p.pids, p.part = append(p.pids, pid), 5
	if err := l.answers(p.urls[0]); err != nil {
		return p, fmt.Errorf("%s: %w", name, err)
	}
	return p, nil
}

// check compares each image of the peer with the file, once.
func (l *lab) check(ctx context.Context, p peer, want string) error {
	got, err := digest(ctx, p.urls[0])
	if err == nil && got != want {
		err = fmt.Errorf("its image has SHA-256 %s, the file %s", got, want)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", p.name, err)
	}
	return nil
}

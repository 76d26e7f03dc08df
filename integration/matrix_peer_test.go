package integration

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"aesthetic.computer/isofs/integration/testkit"
)

// A peer is a stock nginx between isofs and the origin that caches slices of a base. It is one
// process, so one kill ends it.
type peer struct {
	t    *testing.T
	dir  string
	addr string
	cmd  *exec.Cmd
}

const peerConfig = `
daemon off;
master_process off;
pid %[1]s/pid;
error_log %[1]s/error.log;
events { }
http {
    access_log off;
    client_body_temp_path %[1]s/body;
    proxy_temp_path %[1]s/temp;
    fastcgi_temp_path %[1]s/fastcgi;
    uwsgi_temp_path %[1]s/uwsgi;
    scgi_temp_path %[1]s/scgi;
    proxy_cache_path %[1]s/cache keys_zone=base:1m max_size=1g inactive=1d use_temp_path=off;
    server {
        listen %[2]s;
        location = /manifest.json { proxy_pass %[3]s; }
        location / {
            slice 1m;
            proxy_pass %[3]s;
            proxy_http_version 1.1;
            proxy_set_header Range $slice_range;
            proxy_cache base;
            proxy_cache_key $uri$slice_range;
            proxy_cache_valid 200 206 1d;
            proxy_cache_lock on;
            add_header X-Cache $upstream_cache_status;
        }
    }
}
`

func newPeer(t *testing.T, origin string) *peer {
	t.Helper()
	need(t, "nginx")
	p := &peer{t: t, dir: pieces(t, nil), addr: freeAddress(t)}
	write(t, filepath.Join(p.dir, "nginx.conf"), fmt.Sprintf(peerConfig, p.dir, p.addr, origin))
	p.start()
	t.Cleanup(p.kill)
	return p
}

func (p *peer) url() string { return "http://" + p.addr }

func (p *peer) start() {
	p.t.Helper()
	nginx, err := exec.LookPath("nginx")
	if err != nil {
		nginx = "/usr/sbin/nginx"
	}
	p.cmd = exec.Command(nginx, "-p", p.dir, "-c", filepath.Join(p.dir, "nginx.conf"), "-e", filepath.Join(p.dir, "error.log"))
	if err := p.cmd.Start(); err != nil {
		p.t.Fatal(err)
	}
	testkit.Eventually(p.t, "the peer to listen", func() bool {
		c, err := net.Dial("tcp", p.addr)
		if err == nil {
			c.Close()
		}
		return err == nil
	})
}

// kill ends the peer at once. start may follow.
func (p *peer) kill() {
	if p.cmd != nil {
		_ = p.cmd.Process.Signal(syscall.SIGKILL) // it may have ended
		_ = p.cmd.Wait()
		p.cmd = nil
	}
}

// get reads a range of the base directly from the peer. cached is nginx's cache status.
func (p *peer) get(at, n int64) (body []byte, cached string, err error) {
	req, err := http.NewRequest(http.MethodGet, p.url()+"/base.iso", nil)
	if err != nil {
		return nil, "", err
	}
	req.Header.Set("Range", fmt.Sprintf("bytes=%d-%d", at, at+n-1))
	resp, err := noRedirects.Do(req)
	if err != nil {
		return nil, "", err
	}
	defer resp.Body.Close()
	body, err = io.ReadAll(resp.Body)
	return body, resp.Header.Get("X-Cache"), err
}

// slice returns the file with the cached slice that contains this byte of the base. nginx names the
// file only after the answer.
func (p *peer) slice(at int64) (file string) {
	p.t.Helper()
	key := fmt.Sprintf("KEY: /base.isobytes=%d-%d\n", at>>20<<20, at>>20<<20+1<<20-1)
	testkit.Eventually(p.t, "slice of the peer with "+strings.TrimSpace(key), func() bool {
		files, err := filepath.Glob(filepath.Join(p.dir, "cache", "*"))
		if err != nil {
			p.t.Fatal(err)
		}
		for _, file = range files {
			if filepath.Ext(file) != "" {
				continue // a temporary file, still without its name
			}
			if text, _ := os.ReadFile(file); bytes.Contains(text[:min(len(text), 4096)], []byte(key)) {
				return true
			}
		}
		return false
	})
	return file
}

func TestRow23PeerWithWrongBytes(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		damage func(f *os.File, size int64) error // the slice is at the end of the file
		lies   bool                               // the peer then sends wrong bytes
	}{
		"corrupt slice": {func(f *os.File, size int64) error {
			_, err := f.WriteAt([]byte("sixteen bad bytes"), size-1<<20)
			return err
		}, true},
		"another slice's bytes": {func(f *os.File, size int64) error {
			_, err := f.WriteAt(reference()[20<<20:21<<20], size-1<<20)
			return err
		}, true},
		"short slice": {func(f *os.File, size int64) error { return f.Truncate(size - 1<<19) }, false},
		"empty file":  {func(f *os.File, _ int64) error { return f.Truncate(0) }, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := newFaultProxy(t)
			p := newPeer(t, o.url())
			s := serve(t, "--base", p.url(), unanswered)
			at := places[1] >> 20 << 20
			if body, _, err := p.get(at, 1<<20); err != nil || !bytes.Equal(body, reference()[at:at+1<<20]) {
				t.Fatalf("the peer does not work: %v", err)
			}
			f, err := os.OpenFile(p.slice(at), os.O_RDWR, 0)
			if err != nil {
				t.Fatal(err)
			}
			fi, err := f.Stat()
			if err == nil {
				err = errors.Join(c.damage(f, fi.Size()), f.Close())
			}
			if err != nil {
				t.Fatal(err)
			}

			// For comparison: the stock cache serves the slice, and reports nothing.
			body, cached, err := p.get(at, some)
			if lies := err == nil && !bytes.Equal(body, reference()[at:at+some]); lies != c.lies || lies && cached != "HIT" {
				t.Errorf("the peer itself: %s, wrong %v, %v", cached, lies, err)
			}
			if c.lies {
				s.refused(at, some)
				s.says("sha256")
				_ = s.pread(at, some)
			} else {
				_ = s.ask(at, some) // right bytes or an error
				_ = s.ask(at+1<<19, some)
			}
			s.fine(places[3], some)
			s.notKept(at)
			// The operator empties the peer's cache. The peer does not run meanwhile.
			p.kill()
			if err := os.RemoveAll(filepath.Join(p.dir, "cache")); err != nil {
				t.Fatal(err)
			}
			p.start()
			s.all()
		})
	}
}

func TestRow24KilledPeer(t *testing.T) {
	t.Parallel()
	o := newFaultProxy(t)
	p := newPeer(t, o.url())
	s := serve(t, "--base", p.url())
	s.fine(places[0], some)
	open := make(chan struct{})
	f := &fault{at: places[1], times: 1, spoil: held(open)}
	o.add(f)
	var read sync.WaitGroup
	read.Go(func() { s.fine(places[1], some) })
	testkit.Eventually(t, "the peer to ask", func() bool { return f.count() == 1 })
	p.kill()
	close(open)
	s.fine(places[0], some) // without the peer
	p.start()
	read.Wait()
	s.all()
}

package integration

import (
	"bufio"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"

	"aesthetic.computer/isofs/integration/testkit"
)

// TestCrowd: 300 clients of one /24 hold downloads, sidecars or streams and hardly read. Health
// checks, pages, sidecars and other people's downloads still work.
func TestCrowd(t *testing.T) {
	t.Parallel()
	need(t, "nginx")
	s := newServer(t)
	s.args = slices.DeleteFunc(s.args, isLimit()) // the defaults apply
	s.start()
	testkit.Eventually(t, "it to be ready", func() bool { return getStatus(t, http.DefaultClient, s.url("/readyz")) == 200 })
	want := packedSHA256(t, "notepat")
	for name, path := range map[string]string{"downloads": "/notepat-os.iso", "sidecars": "/notepat-os.iso.zsync", "streams": "/os?piece=notepat&format=stream"} {
		t.Run(name, func(t *testing.T) {
			taken, refused := s.crowd(t, path)
			if name == "downloads" && (taken != 64 || refused != 300-64) {
				t.Errorf("of 300 slow readers %d read and %d were refused, want 64 and 236", taken, refused)
			}
			stranger, neighbour := from("127.0.10.1"), from("127.0.9.250")
			for _, path := range []string{"/healthz", "/readyz", "/", "/os:notepat", "/notepat-os.iso.sha256", "/notepat-os.iso.bmap", "/os?piece=notepat"} {
				var took []time.Duration
				for range 10 {
					start := time.Now()
					if status := getStatus(t, stranger, s.url(path)); status != 200 && status != 302 {
						t.Errorf("%s: %d", path, status)
					}
					took = append(took, time.Since(start))
				}
				slices.Sort(took)
				t.Logf("beside %d slow %s: p50 of %s is %s", taken, name, path, took[len(took)/2])
				if path == "/healthz" || path == "/readyz" {
					if status := getStatus(t, neighbour, s.url(path)); status != 200 {
						t.Errorf("%s for a neighbour: %d", path, status)
					}
				}
			}
			resp, err := stranger.Get(s.url("/notepat-os.iso"))
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			sum := sha256.New()
			if _, err := io.Copy(sum, resp.Body); err != nil || resp.StatusCode != 200 || fmt.Sprintf("%x", sum.Sum(nil)) != want {
				t.Errorf("a download by another network: %d, %v", resp.StatusCode, err)
			}
		})
	}
}

// TestThirtyBehindOneAddress: thirty people behind one address download at the same time.
func TestThirtyBehindOneAddress(t *testing.T) {
	t.Parallel()
	need(t, "nginx")
	s := newServer(t)
	s.args = slices.DeleteFunc(s.args, isLimit())
	s.start()
	client := from("127.0.11.1")
	var answered, all sync.WaitGroup
	answered.Add(30)
	for range 30 {
		all.Go(func() {
			resp, err := client.Get(s.url("/notepat-os.iso"))
			answered.Done()
			if err != nil {
				t.Error(err)
				return
			}
			defer resp.Body.Close()
			answered.Wait() // all have their answer before one reads it
			const some = 4 << 20
			if n, err := io.CopyN(io.Discard, resp.Body, some); resp.StatusCode != 200 || err != nil {
				t.Errorf("%d, %d of %d bytes: %v", resp.StatusCode, n, int64(some), err)
			}
		})
	}
	all.Wait()
}

// isLimit finds the flags that lift the limits for other tests, and the values of these flags.
func isLimit() func(string) bool {
	value := false
	return func(arg string) bool {
		if value {
			value = false
			return true
		}
		value = slices.Contains([]string{"--limit-requests", "--limit-connections", "--limit-network", "--limit-costly", "--limit-new-burst"}, arg)
		return value
	}
}

// crowd opens 300 connections of one /24 and keeps them open. Each sends a request and reads only
// the status of the answer.
func (s *server) crowd(t *testing.T, path string) (taken, refused int) {
	t.Helper()
	for i := range 300 {
		dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 9, byte(1+i%240))}}
		conn, err := dialer.Dial("tcp", s.addr)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		if err := conn.(*net.TCPConn).SetReadBuffer(4096); err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: isofs.test\r\n\r\n", path)
		if err := conn.SetReadDeadline(time.Now().Add(patience)); err != nil {
			t.Fatal(err)
		}
		resp, err := http.ReadResponse(bufio.NewReaderSize(conn, 512), nil)
		if err != nil {
			t.Fatal(err)
		}
		switch resp.StatusCode {
		case http.StatusOK:
			taken++
		case http.StatusTooManyRequests:
			refused++
		default:
			t.Fatalf("%s: %s", path, resp.Status)
		}
	}
	return taken, refused
}

// from returns a client at an address. Each of its requests uses a new connection.
func from(address string) *http.Client {
	dialer := &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(address)}}
	return &http.Client{
		Transport: &http.Transport{
			DialContext: func(ctx context.Context, network, to string) (net.Conn, error) {
				return dialer.DialContext(ctx, network, to)
			},
			DisableKeepAlives:  true,
			DisableCompression: true,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

func getStatus(t *testing.T, client *http.Client, url string) int {
	t.Helper()
	resp, err := client.Get(url)
	if err != nil {
		t.Error(err)
		return 0
	}
	defer resp.Body.Close()
	_, _ = io.Copy(io.Discard, resp.Body) // only the status matters
	return resp.StatusCode
}

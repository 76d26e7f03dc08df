package integration

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"

	"aesthetic.computer/isofs/integration/testkit"
)

// TestManyOrdersAtOnce: five hundred clients request the same new piece. The oven gets one request.
// All clients are redirected to one image, and it is the right one.
func TestManyOrdersAtOnce(t *testing.T) {
	t.Parallel()
	const many, sampled = 500, 24
	release := make(chan struct{})
	o := newOven(t, map[string]http.HandlerFunc{"piece=new": bakedAfter(release, page("new", 200_000))})
	s := serve(t, "--oven", o.URL)
	ctx, cancel := context.WithTimeout(context.Background(), 2*patience)
	defer cancel()
	to := make([]string, many)
	var sent, done sync.WaitGroup
	sent.Add(many)
	for i := range many {
		done.Go(func() {
			var dialer net.Dialer
			conn, err := dialer.DialContext(ctx, "tcp", s.addr)
			if err == nil {
				defer conn.Close()
				defer context.AfterFunc(ctx, func() { conn.Close() })()
				_, err = fmt.Fprintf(conn, "GET /os?piece=new HTTP/1.1\r\nHost: %s\r\nUser-Agent: client %d\r\nConnection: close\r\n\r\n", s.addr, i)
			}
			sent.Done()
			if err != nil {
				t.Error(err)
				return
			}
			resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
			if err != nil {
				t.Errorf("client %d: %v", i, err)
				return
			}
			resp.Body.Close()
			if to[i] = resp.Header.Get("Location"); resp.StatusCode != http.StatusFound {
				t.Errorf("client %d: %s", i, resp.Status)
			}
		})
	}
	sent.Wait()
	close(release)
	done.Wait()
	for i := range to {
		if to[i] != to[0] || to[i] == "" {
			t.Fatalf("client %d was sent to %q, the first to %q", i, to[i], to[0])
		}
	}
	if n := len(o.requests()); n != 1 {
		t.Errorf("the oven got %d requests", n)
	}
	want := s.whole("/new-os.iso")
	places := rand.New(rand.NewPCG(1, 2))
	path := strings.TrimPrefix(to[0], "http://"+s.addr)
	for i := range sampled {
		n := int64(1 + places.IntN(300_000))
		off := places.Int64N(int64(len(want)) - n)
		if i%2 == 0 { // only the part of the piece
			off = readManifest(t).Slot + places.Int64N(300_000)
		}
		resp, body := s.get(path, fmt.Sprintf("Range: bytes=%d-%d", off, off+n-1))
		if resp.StatusCode != http.StatusPartialContent || !bytes.Equal(body, want[off:off+n]) {
			t.Errorf("%d bytes at %d: %s, %d bytes", n, off, resp.Status, len(body))
		}
	}
}

// TestReady: started without the base's origin, isofs is not ready and says why. It is ready once
// the origin is back.
func TestReady(t *testing.T) {
	t.Parallel()
	p, s := faulty(t)
	ready := func() (int, string) {
		resp, body := s.get("/readyz")
		return resp.StatusCode, string(body)
	}
	testkit.Eventually(t, "readiness", func() bool { status, _ := ready(); return status == http.StatusOK })
	s.stop()
	p.down()
	s.start()
	testkit.Eventually(t, "the look at the origin", func() bool { _, body := ready(); return strings.Contains(body, "does not answer") })
	status, body := ready()
	if status != http.StatusServiceUnavailable || !strings.Contains(body, `"ready":false`) || !strings.Contains(body, `"mount":{"ok":true`) || strings.Contains(body, p.addr) {
		t.Errorf("without its origin: %d %s", status, body)
	}
	if resp, _ := s.get("/healthz"); resp.StatusCode != http.StatusOK {
		t.Errorf("/healthz: %s", resp.Status)
	}
	p.up()
	testkit.Eventually(t, "readiness again", func() bool { status, _ := ready(); return status == http.StatusOK })
	// With the whole base in the cache isofs does not need the origin.
	s.whole(matrixImage)
	s.stop()
	p.down()
	s.start()
	testkit.Eventually(t, "the look at the cache", func() bool {
		status, body := ready()
		return status == http.StatusOK && strings.Contains(body, "all of it is here")
	})
}

// readAll reads the rest of a response.
func readAll(t *testing.T, resp *http.Response) []byte {
	t.Helper()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

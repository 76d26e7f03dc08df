package nginx

import (
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"aesthetic.computer/isofs/integration/testkit"
)

// N downloads at once are N, whichever way they take: the internal redirect from the API to the
// mount does not count again. Pages have their own N.
func TestConnectionLimit(t *testing.T) {
	r := newRig(t, func(c *Config) { c.Limits.Connections = 3 })
	const ranged = "Range: bytes=0-"
	// Three that last until the test ends them: each more than the sockets buffer.
	direct, _ := r.open("GET", big, ranged)
	viaAPI, _ := r.open("GET", "/big-os.iso")
	third, _ := r.open("GET", big)

	for _, target := range []string{image, "/notepat-os.iso", "/s/" + other + "/notepat-os.iso", "/s/" + id + "/notepat-piece.img", "//notepat%2dos.iso"} {
		got := r.do("GET", target, ranged)
		if got.StatusCode != 429 || got.Header.Get("Retry-After") != "5" || !strings.Contains(got.body, "at most 3 downloads at a time for each address") || got.Header.Get("Content-Type") != "text/plain" {
			t.Errorf("a fourth, %s: %d %v %q", target, got.StatusCode, got.Header, got.body)
		}
	}
	if got := r.do("GET", image, "Accept: application/json"); got.StatusCode != 429 || !strings.HasPrefix(got.body, `{"error":"`) {
		t.Errorf("as JSON: %d %q", got.StatusCode, got.body)
	}
	answered(r, "", []string{image + ".sha256", "/healthz", "/readyz", "/", "/os:notepat", "/os?piece=notepat"}, false)
	third.Close()
	// nginx notices a moment after the client did.
	testkit.Eventually(t, "a place after one was finished", func() bool { return r.do("GET", image, ranged).StatusCode == 206 })
	direct.Close()
	viaAPI.Close()
	// All three places are free again: three requests by way of the API hold them.
	testkit.Eventually(t, "three places", func() bool { return workersIdle(r) })
}

// Pages that are full do not block downloads, nor clients that wait for an image.
func TestConnectionLimitOfPages(t *testing.T) {
	r := newRig(t, func(c *Config) { c.Limits.Connections = 3 })
	held := make(chan reply)
	for range 3 {
		go func() { held <- r.do("GET", "/hold") }()
		<-r.held
	}
	answered(r, "", []string{"/", "/os:notepat", image + ".sha256", "/notepat-os.iso.zsync", "/os/", "/healthz/", "/admin/snapshots"}, true)
	answered(r, "", []string{image, "/notepat-os.iso", "/os?piece=notepat", "/api/os?piece=notepat&format=stream", "/healthz", "/readyz", "/readyz?verbose"}, false)
	close(r.hold)
	for range 3 {
		if got := <-held; got.StatusCode != 200 {
			t.Errorf("one of the three: status %d", got.StatusCode)
		}
	}
}

// answered requests all targets from an address, and reports those that were not limited as they
// should be.
func answered(r *rig, from string, targets []string, limited bool) {
	r.t.Helper()
	for _, target := range targets {
		if got := r.do("GET", target, "X-Forwarded-For: "+from); (got.StatusCode == 429) != limited {
			r.t.Errorf("%s from %q: status %d, limited should be %v", target, from, got.StatusCode, limited)
		}
	}
}

// TestNetworkLimit: one network gets its share, whichever of its addresses it uses; others and
// health checks are not affected.
func TestNetworkLimit(t *testing.T) {
	for name, c := range map[string]struct{ taken, same, others []string }{
		"IPv4": {
			[]string{"192.0.2.1", "192.0.2.2", "::ffff:192.0.2.3", "192.0.2.255"},
			[]string{"192.0.2.77", "192.0.2.1", "::ffff:192.0.2.99"},
			[]string{"192.0.3.1", "192.1.2.1", "::ffff:192.0.3.1", "2001:db8::1", "::1", "10.192.0.2"},
		},
		// A /64 is one client, so three are all that it may have.
		"IPv6": {
			[]string{"2001:db8:0:7::1", "2001:db8:0:7:8000::", "2001:db8:0:7::ffff:192.0.2.1"},
			[]string{"2001:db8:0:7::2", "2001:db8:0:7:ffff:ffff:ffff:ffff"},
			[]string{"2001:db8:0:8::1", "2001:db8:1:7::1", "2001:db8::7:0:0:1", "32.1.13.184", "::1"},
		},
		// "\n" and "\r" are bytes of addresses, too.
		"IPv4 of odd bytes": {
			[]string{"10.13.10.1", "10.13.10.10", "10.13.10.13", "10.13.10.0"}, []string{"10.13.10.32"}, []string{"10.13.13.10", "13.13.10.1"},
		},
		"IPv6 of odd bytes": {
			[]string{"a0d:a0d:a0a:d0d::1", "a0d:a0d:a0a:d0d:a0a::a0a", "a0d:a0d:a0a:d0d::a"}, []string{"a0d:a0d:a0a:d0d:d0d::"}, []string{"a0d:a0d:a0a:d0a::1"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, func(c *Config) {
				c.Limits.Connections, c.Limits.Network, c.TrustedProxies = 3, 4, []string{"127.0.0.1"}
			})
			for _, from := range c.taken {
				if _, got := r.open("GET", big, "Range: bytes=0-", "X-Forwarded-For: "+from); got.StatusCode != 206 {
					t.Fatalf("from %s: status %d", from, got.StatusCode)
				}
			}
			for _, from := range c.same {
				answered(r, from, []string{image, "/notepat-os.iso"}, true)
				answered(r, from, []string{"/", image + ".sha256", "/healthz", "/readyz", "/os?piece=notepat"}, false)
			}
			for _, from := range c.others {
				answered(r, from, []string{image, "/notepat-os.iso", "/", "/healthz"}, false)
			}
		})
	}
}

// TestHealthIsNotLimited: by no limit, whichever client is limited.
func TestHealthIsNotLimited(t *testing.T) {
	r := newRig(t, func(c *Config) {
		c.Limits = Limits{Connections: 1, Network: 1, TotalConnections: 1, RequestsPerSecond: 1, Burst: 1, CostlyPerSecond: 1, CostlyBurst: 1}
	})
	held := make(chan reply)
	go func() { held <- r.do("GET", "/hold") }()
	<-r.held
	r.open("GET", big)
	for range 10 {
		answered(r, "", []string{"/healthz", "/readyz"}, false)
	}
	answered(r, "", []string{"/", image}, true)
	close(r.hold)
	<-held
}

// workersIdle reports whether three requests at once are answered.
func workersIdle(r *rig) bool {
	a, first := r.open("GET", "/big-os.iso")
	b, second := r.open("GET", "/big-os.iso")
	c, third := r.open("GET", big)
	defer a.Close()
	defer b.Close()
	defer c.Close()
	return first.StatusCode == 200 && second.StatusCode == 200 && third.StatusCode == 200
}

// The limit for all together holds between addresses; these come by a trusted proxy.
func TestTotalLimit(t *testing.T) {
	r := newRig(t, func(c *Config) {
		c.Limits.Connections, c.Limits.TotalConnections, c.TrustedProxies = 1, 2, []string{"127.0.0.1"}
	})
	var got [4]int
	for i, from := range []string{"192.0.2.1", "192.0.2.1", "192.0.2.2", "192.0.2.3"} {
		_, response := r.open("GET", big, "Range: bytes=0-", "X-Forwarded-For: "+from)
		got[i] = response.StatusCode
	}
	if want := [4]int{206, 429, 206, 429}; got != want {
		t.Errorf("statuses %v, want %v", got, want)
	}
	// Neither pages nor clients that wait for an image take a download's place.
	answered(r, "192.0.2.9", []string{"/os", "/api/os?format=stream", "/os/", "/os-status", image + ".zsync"}, false)
}

// A burst of N is N requests above the first, also when each goes to the mount by way of the API.
// Time only adds more, so that a slow machine changes nothing.
func TestRequestLimit(t *testing.T) {
	r := newRig(t, func(c *Config) { c.Limits.RequestsPerSecond, c.Limits.Burst = 1, 9 })
	targets := []string{"/notepat-os.iso", image, "/s/" + other + "/notepat-os.iso.sha256"}
	allowed, started := 0, time.Now()
	for {
		got := r.do("GET", targets[allowed%len(targets)])
		if got.StatusCode == 429 {
			if got.Header.Get("Retry-After") != "5" || !strings.Contains(got.body, "at most 1 requests a second for each address, with bursts of 9") {
				t.Errorf("%v %q", got.Header, got.body)
			}
			break
		}
		allowed++
		if most := 10 + int(time.Since(started).Seconds()) + 1; allowed > most || allowed > 40 {
			t.Fatalf("%d requests were allowed, at most %d should be, and none delayed", allowed, most)
		}
	}
	if allowed < 10 {
		t.Errorf("%d requests were allowed, want 10", allowed)
	}
}

func TestRateLimit(t *testing.T) {
	r := newRig(t, func(c *Config) { c.Limits.BytesPerSecond = 64 << 10 })
	for _, target := range []string{big, "/big-os.iso"} {
		started := time.Now()
		_, response := r.open("GET", target, "Range: bytes=0-131071")
		n, err := io.Copy(io.Discard, response.Body)
		// It sends the first second's share at once, and then keeps to the rate.
		if took := time.Since(started); n != 128<<10 || err != nil || took < 500*time.Millisecond {
			t.Errorf("%s: %d bytes in %v: %v", target, n, took, err)
		}
	}
}

func TestLimitsInWords(t *testing.T) {
	l := Limits{Connections: 4, Network: 5, TotalConnections: 99, RequestsPerSecond: 2, Burst: 7}
	want := "4 downloads at a time for each address, 5 downloads at a time for each network (IPv4 /24, IPv6 /64), 99 downloads at a time for all together, " +
		"2 requests a second for each address, with bursts of 7; as many pages as downloads"
	if got := l.words(); got != want {
		t.Errorf("%+v: %q, want %q", l, got, want)
	}
	for _, a := range answers(l) {
		if strings.ContainsAny(a.Text, `"'\$`) {
			t.Errorf("the text of %s cannot be quoted: %q", a.Name, fmt.Sprint(a.Text))
		}
	}
}

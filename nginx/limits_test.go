package nginx

import (
	"fmt"
	"io"
	"strings"
	"testing"
	"time"
)

// N downloads at once are N, whichever way they go: the internal redirect from
// the API to the mount is not counted again.
func TestConnectionLimit(t *testing.T) {
	r := newRig(t, func(c *Config) { c.Limits.Connections = 3 })
	const ranged = "Range: bytes=0-"
	// Three that last until we let them go: each more than the sockets buffer, or held by the API.
	direct, _ := r.open("GET", big, ranged)
	viaAPI, _ := r.open("GET", "/big-os.iso")
	held := make(chan reply)
	go func() { held <- r.do("GET", "/hold") }()
	<-r.held

	for _, target := range []string{image, "/notepat-os.iso", image + ".sha256", "/s/" + other + "/notepat-os.iso"} {
		got := r.do("GET", target, ranged)
		if got.StatusCode != 429 || got.Header.Get("Retry-After") != "5" || !strings.Contains(got.body, "at most 3 downloads at a time for each address") || got.Header.Get("Content-Type") != "text/plain" {
			t.Errorf("a fourth, %s: %d %v %q", target, got.StatusCode, got.Header, got.body)
		}
	}
	if got := r.do("GET", image, "Accept: application/json"); got.StatusCode != 429 || !strings.HasPrefix(got.body, `{"error":"`) {
		t.Errorf("as JSON: %d %q", got.StatusCode, got.body)
	}
	close(r.hold)
	if got := <-held; got.StatusCode != 200 {
		t.Errorf("the third: status %d", got.StatusCode)
	}
	// nginx notices a moment after the client did.
	eventually(t, "a place after one was finished", func() bool { return r.do("GET", image, ranged).StatusCode == 206 })
	direct.Close()
	viaAPI.Close()
	// All three places are free again: three requests by way of the API hold them.
	eventually(t, "three places", func() bool { return workersIdle(r) })
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
	// Who waits for an image to be made has no buffers, and does not count.
	for target, want := range map[string]int{"/os": 404, "/api/os?format=stream": 404, "/os/": 429, "/os-status": 429} {
		if got := r.do("GET", target, "X-Forwarded-For: 192.0.2.9"); got.StatusCode != want {
			t.Errorf("%s in a full house: %d, want %d", target, got.StatusCode, want)
		}
	}
}

// A burst of N is N requests above the first, also when each goes to the mount
// by way of the API. Time only adds more, so that a slow machine changes nothing.
func TestRequestLimit(t *testing.T) {
	r := newRig(t, func(c *Config) { c.Limits.RequestsPerSecond, c.Limits.Burst = 1, 9 })
	targets := []string{"/notepat-os.iso", image, "/s/" + other + "/notepat-os.iso.sha256"}
	allowed, begun := 0, time.Now()
	for {
		got := r.do("GET", targets[allowed%len(targets)])
		if got.StatusCode == 429 {
			if got.Header.Get("Retry-After") != "5" || !strings.Contains(got.body, "at most 1 requests a second for each address, with bursts of 9") {
				t.Errorf("%v %q", got.Header, got.body)
			}
			break
		}
		allowed++
		if most := 10 + int(time.Since(begun).Seconds()) + 1; allowed > most || allowed > 40 {
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
		begun := time.Now()
		_, response := r.open("GET", target, "Range: bytes=0-131071")
		n, err := io.Copy(io.Discard, response.Body)
		// It sends the first second's share at once, and then keeps to the rate.
		if took := time.Since(begun); n != 128<<10 || err != nil || took < 500*time.Millisecond {
			t.Errorf("%s: %d bytes in %v: %v", target, n, took, err)
		}
	}
}

func TestLimitsInWords(t *testing.T) {
	l := Limits{Connections: 4, TotalConnections: 99, RequestsPerSecond: 2, Burst: 7}
	want := "4 downloads at a time for each address, 99 downloads at a time for all together, 2 requests a second for each address, with bursts of 7"
	if got := l.words(); got != want {
		t.Errorf("%+v: %q, want %q", l, got, want)
	}
	for _, a := range answers(l) {
		if strings.ContainsAny(a.Text, `"'\$`) {
			t.Errorf("the text of %s cannot be quoted: %q", a.Name, fmt.Sprint(a.Text))
		}
	}
}

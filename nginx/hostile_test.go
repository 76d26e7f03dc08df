package nginx

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"
)

// sentinel is a request behind another on the same connection: it is answered if, and
// only if, both ends agree where that one ended.
const sentinel = "GET /sentinel HTTP/1.1\r\nHost: isofs.test\r\nConnection: close\r\n\r\n"

// raw sends bytes as they are, and reads until nginx ends the connection.
func (r *rig) raw(text string) string {
	r.t.Helper()
	conn, err := net.Dial("tcp", r.addr)
	if err != nil {
		r.t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(2 * time.Minute))
	go io.WriteString(conn, text) // nginx may answer, and end, before it has read all
	got, _ := io.ReadAll(conn)    // a reset after the answer is an end, too
	return string(got)
}

// reached returns the targets of the requests that came to the API.
func (r *rig) reached() (targets []string) {
	for _, q := range r.requests() {
		targets = append(targets, q.Method+" "+q.RequestURI)
	}
	return targets
}

// nginx and the API agree where one request ends and the next begins, or the connection
// ends. No client can put a request before another client's.
func TestSmuggling(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	const smuggled = "GET /smuggled HTTP/1.1\r\nHost: isofs.test\r\n\r\n"
	post := func(headers, body string) string {
		return "POST /a HTTP/1.1\r\nHost: isofs.test\r\n" + headers + "\r\n" + body
	}
	posted, both := []string{"POST /a"}, []string{"POST /a", "GET /sentinel"}
	for _, row := range []struct {
		proves, text string
		status       int
		reached      []string
	}{
		// What is right passes.
		{"a length is kept to", post("Content-Length: 5\r\n", "hello") + sentinel, 200, both},
		{"chunks are kept to", post("Transfer-Encoding: chunked\r\n", "5\r\nhello\r\n0\r\n\r\n") + sentinel, 200, both},
		{"a body that looks like a request is a body", post(fmt.Sprintf("Content-Length: %d\r\n", len(smuggled)), smuggled) + sentinel, 200, both},
		{"also in chunks", post("Transfer-Encoding: chunked\r\n", fmt.Sprintf("%x\r\n%s\r\n0\r\n\r\n", len(smuggled), smuggled)) + sentinel, 200, both},
		{"a body on GET is a body", strings.Replace(post(fmt.Sprintf("Content-Length: %d\r\n", len(smuggled)), smuggled), "POST /a", "GET /a", 1) + sentinel, 404, []string{"GET /a", "GET /sentinel"}},
		{"in chunks on GET", strings.Replace(post("Transfer-Encoding: chunked\r\n", fmt.Sprintf("%x\r\n%s\r\n0\r\n\r\n", len(smuggled), smuggled)), "POST /a", "GET /a", 1) + sentinel, 404, []string{"GET /a", "GET /sentinel"}},
		// What is ambiguous does not.
		{"length and chunks", post("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n"+smuggled), 400, nil},
		{"chunks and length", post("Transfer-Encoding: chunked\r\nContent-Length: 5\r\n", "0\r\n\r\n"+smuggled), 400, nil},
		{"two lengths", post("Content-Length: 5\r\nContent-Length: 0\r\n", smuggled), 400, nil},
		{"one length twice", post("Content-Length: 5\r\nContent-Length: 5\r\n", "hello"+smuggled), 400, nil},
		{"lengths in a list", post("Content-Length: 5, 5\r\n", "hello"+smuggled), 400, nil},
		{"a length with a sign", post("Content-Length: +5\r\n", "hello"+smuggled), 400, nil},
		{"a negative length", post("Content-Length: -1\r\n", smuggled), 400, nil},
		{"a length in hexadecimal", post("Content-Length: 0x5\r\n", "hello"+smuggled), 400, nil},
		{"a length that overflows", post("Content-Length: 99999999999999999999\r\n", smuggled), 400, nil},
		{"a length beyond the limit", post("Content-Length: 9999999999\r\n", smuggled), 413, nil},
		{"chunks twice", post("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n"+smuggled), 400, nil},
		{"chunks of another kind", post("Transfer-Encoding: xchunked\r\n", "0\r\n\r\n"+smuggled), 501, nil},
		{"chunks and more", post("Transfer-Encoding: chunked, identity\r\n", "0\r\n\r\n"+smuggled), 501, nil},
		{"a tab before chunked", post("Transfer-Encoding:\tchunked\r\n", "0\r\n\r\n"+smuggled), 501, nil},
		{"a blank before the colon", post("Transfer-Encoding : chunked\r\n", "0\r\n\r\n"+smuggled), 400, nil},
		{"chunks in HTTP/1.0", strings.Replace(post("Transfer-Encoding: chunked\r\n", "0\r\n\r\n"+smuggled), "HTTP/1.1", "HTTP/1.0", 1), 400, nil},
		{"a chunk's size that is none", post("Transfer-Encoding: chunked\r\n", "zz\r\nhello\r\n0\r\n\r\n"+smuggled), 400, nil},
		{"a chunk's size that overflows", post("Transfer-Encoding: chunked\r\n", "fffffffffffffffff\r\nhello\r\n0\r\n\r\n"+smuggled), 400, nil},
		{"a folded line", post("X-A: b\r\n Content-Length: 5\r\n", smuggled), 400, nil},
		{"a header without a colon", post("Content-Length 5\r\n", smuggled), 400, nil},
		{"NUL in a header", post("X-A: b\x00c\r\n", smuggled), 400, nil},
		{"NUL in a header's name", post("X-\x00A: b\r\n", smuggled), 400, nil},
		{"two hosts", post("Host: evil.test\r\nContent-Length: 0\r\n", ""), 400, nil},
		{"no host", "POST /a HTTP/1.1\r\nContent-Length: 0\r\n\r\n", 400, nil},
		{"a host with a blank", strings.Replace(post("Content-Length: 0\r\n", ""), "isofs.test", "a b", 1), 400, nil},
		{"a host with a path", strings.Replace(post("Content-Length: 0\r\n", ""), "isofs.test", "a/../b", 1), 400, nil},
		{"the preface of HTTP/2", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400, nil},
		{"a version to come", "GET / HTTP/3.0\r\nHost: isofs.test\r\n\r\n", 505, nil},
		{"a method in lower case", "get / HTTP/1.1\r\nHost: isofs.test\r\n\r\n", 400, nil},
		{"an asterisk", "GET * HTTP/1.1\r\nHost: isofs.test\r\n\r\n", 400, nil},
		{"a tunnel", "CONNECT evil.test:80 HTTP/1.1\r\nHost: evil.test\r\nConnection: close\r\n\r\n", 405, nil},
		{"an echo of secrets", "TRACE /a HTTP/1.1\r\nHost: isofs.test\r\nConnection: close\r\n\r\n", 405, nil},
		{"an upgrade is not passed on", post("Connection: Upgrade\r\nUpgrade: websocket\r\nContent-Length: 0\r\n", "") + sentinel, 200, posted},
	} {
		got := r.raw(row.text)
		var status int
		if _, err := fmt.Sscanf(got, "HTTP/1.1 %d ", &status); err != nil && strings.HasPrefix(got, "<html>") {
			status = 400 // what nginx writes where it does not recognize the version
		}
		reached := r.reached()
		if row.proves == "an upgrade is not passed on" && len(reached) == 2 {
			reached = reached[:1] // nginx may keep the connection
		}
		if row.reached == nil && status >= 400 {
			status = row.status // versions of nginx refuse with different ones
		}
		if status != row.status || !slices.Equal(reached, row.reached) || strings.Contains(got, "/smuggled") {
			t.Errorf("%s: %d, and the API was asked for %q, want %d and %q\n%s", row.proves, status, reached, row.status, row.reached, got)
		}
	}
}

// What is too long ends at nginx; what is long and permitted arrives whole.
func TestLongRequests(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	for _, row := range []struct {
		proves, target string
		headers        []string
		status         int
		arrives        bool
	}{
		{"a query of 7 KiB arrives", "/os?piece=" + strings.Repeat("a", 7<<10), nil, 404, true},
		{"an address of 9 KiB does not", "/" + strings.Repeat("a", 9<<10), nil, 414, false},
		{"nor a query", "/os?piece=" + strings.Repeat("a", 9<<10), nil, 414, false},
		{"a header of 7 KiB arrives", "/x", []string{"X-A: " + strings.Repeat("a", 7<<10)}, 404, true},
		{"one of 9 KiB does not", "/x", []string{"X-A: " + strings.Repeat("a", 9<<10)}, 400, false},
		{"nor many short ones", "/x", slices.Repeat([]string{"X-A: " + strings.Repeat("a", 1000)}, 40), 400, false},
		{"nor a thousand ranges in one header", "/notepat-os.iso", []string{"Range: bytes=" + strings.Repeat("0-0,", 3000) + "0-0"}, 400, false},
	} {
		got := r.do("GET", row.target, row.headers...)
		if asked := len(r.requests()); got.StatusCode != row.status || (asked == 1) != row.arrives {
			t.Errorf("%s: %d, the API was asked %d times", row.proves, got.StatusCode, asked)
		}
	}
}

// A header from a client never replaces one that nginx sends, however it is written.
// nginx's own arrives once.
func TestForgedHeaders(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	r.do("GET", "/x", "X-Real-IP: 6.6.6.6", "X_Real_IP: 6.6.6.6", "x-real-ip: 6.6.6.6", "X-Forwarded-For: 6.6.6.6", "X-Forwarded-For: 7.7.7.7",
		"Forwarded: for=6.6.6.6", "X-Accel-Redirect: /_mount/x", "X-HTTP-Method-Override: DELETE", "True-Client-IP: 6.6.6.6", "X-Forwarded-Proto: https")
	asked := r.requests()
	if len(asked) != 1 {
		t.Fatalf("the API was asked %d times", len(asked))
	}
	h := asked[0].Header
	for name, want := range map[string]string{"X-Real-Ip": "127.0.0.1", "X-Forwarded-For": "127.0.0.1", "X-Forwarded-Proto": "http"} {
		if got := h.Values(name); !slices.Equal(got, []string{want}) {
			t.Errorf("%s is %q", name, got)
		}
	}
	for _, name := range []string{"X_real_ip", "Forwarded", "X-Accel-Redirect"} {
		if got := h.Values(name); len(got) > 0 {
			t.Errorf("%s is %q", name, got)
		}
	}
	if asked[0].Method != "GET" {
		t.Errorf("the method is %s", asked[0].Method)
	}
	// The form for proxies: host and path of the line, not a host to go to.
	got := r.raw("GET http://evil.test/y?z=1 HTTP/1.1\r\nHost: isofs.test\r\nConnection: close\r\n\r\n")
	if asked := r.requests(); len(asked) != 1 || asked[0].RequestURI != "/y?z=1" || asked[0].Host != "isofs.test" {
		t.Errorf("in absolute form: %+v, %q", asked, got)
	}
	// HTTP/0.9 has no header, so its answer has none either.
	if got := r.raw("GET /old\r\n"); strings.HasPrefix(got, "HTTP/") || !strings.Contains(got, "no such piece: /old") {
		t.Errorf("HTTP/0.9: %q", got)
	}
}

// A forged address is not another client for the limits: the bucket is that of the
// connection, unless it comes from a configured proxy.
func TestForgedAddressesShareALimit(t *testing.T) {
	t.Parallel()
	for trusted, proxies := range map[bool][]string{false: {"10.0.0.0/8"}, true: {"127.0.0.1"}} {
		r := newRig(t, func(c *Config) {
			c.TrustedProxies, c.Limits.Connections = proxies, 1
		})
		_, first := r.open("GET", big, "Range: bytes=0-", "X-Forwarded-For: 192.0.2.1")
		for i, header := range []string{"X-Forwarded-For: 192.0.2.2", "X-Real-IP: 192.0.2.3", "Forwarded: for=192.0.2.4"} {
			want := 429
			if trusted { // the others forge nothing, and come from the proxy itself
				want = 206
			}
			conn, got := r.open("GET", image, "Range: bytes=0-", header)
			io.Copy(io.Discard, got.Body)
			conn.Close()
			if i == 0 && got.StatusCode != want || !trusted && got.StatusCode != 429 {
				t.Errorf("trusted %v, %s: %d", trusted, header, got.StatusCode)
			}
		}
		if first.StatusCode != 206 {
			t.Errorf("the first: %d", first.StatusCode)
		}
	}
}

// Where work is done the limit is stricter; elsewhere it has no effect.
func TestCostlyLimit(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(c *Config) { c.Limits.CostlyPerSecond, c.Limits.CostlyBurst = 1, 4 })
	targets := []string{"/os?piece=x", "/api/os", "/admin/refresh", "//os", "/%6fs", "/x/../admin/drop"}
	allowed, started := 0, time.Now()
	for {
		got := r.do("GET", targets[allowed%len(targets)])
		if got.StatusCode == 429 {
			if got.Header.Get("Retry-After") != "5" || !strings.Contains(got.body, "1 requests a second for each address where images are made, with bursts of 4") {
				t.Errorf("%v %q", got.Header, got.body)
			}
			break
		}
		allowed++
		if most := 5 + int(time.Since(started).Seconds()) + 1; allowed > most || allowed > 40 {
			t.Fatalf("%d requests were allowed, at most %d should be", allowed, most)
		}
	}
	if allowed < 5 {
		t.Errorf("%d requests were allowed, want 5", allowed)
	}
	for _, target := range []string{"/notepat-os.iso", image, "/osx", "/administrator", "/healthz"} {
		for range 10 {
			if got := r.do("GET", target); got.StatusCode == 429 {
				t.Errorf("%s: 429", target)
			}
		}
	}
}

// Many overlapping ranges are not sent one by one: the answer is never longer than the
// image.
func TestRangeBombs(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	for _, ranges := range []string{strings.Repeat("0-,", 199) + "0-", strings.Repeat("1-,", 100) + "-47000000", "0-" + strings.Repeat("9", 30)} {
		conn, got := r.open("HEAD", big, "Range: bytes="+ranges)
		conn.Close()
		if got.StatusCode >= 500 || got.ContentLength > bigLen {
			t.Errorf("%.40s...: %d, %d bytes of %d", ranges, got.StatusCode, got.ContentLength, int64(bigLen))
		}
	}
}

// nginx cuts a slow sender, which waits for nginx alone: the API gets nothing of the
// request until it is whole. The time is nginx's own, 15 s.
func TestSlowSendersAreCut(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	ended := make(chan string)
	for _, begin := range []string{
		"", // sends nothing at all
		"GET /slow HTTP/1.1\r\nHost: isofs.test\r\n",                                             // drips headers
		"POST /slow HTTP/1.1\r\nHost: isofs.test\r\nContent-Length: 100\r\n\r\nhalf of",          // no more of a body
		"POST /slow HTTP/1.1\r\nHost: isofs.test\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhel",  // nor of a chunk
		"GET /slow HTTP/1.1\r\nHost: isofs.test\r\nContent-Length: 100\r\nX: y\r\n\r\nhalf of a", // nor on GET
	} {
		go func() {
			conn, err := net.Dial("tcp", r.addr)
			if err != nil {
				ended <- err.Error()
				return
			}
			defer conn.Close()
			io.WriteString(conn, begin)
			if strings.HasSuffix(begin, "isofs.test\r\n") {
				stop := make(chan struct{})
				defer close(stop)
				go func() { // a header now and then does not buy time
					for {
						select {
						case <-stop:
							return
						case <-time.After(500 * time.Millisecond):
							io.WriteString(conn, "X-A: b\r\n")
						}
					}
				}()
			}
			conn.SetReadDeadline(time.Now().Add(2 * time.Minute))
			got, err := io.ReadAll(conn)
			if err, timedOut := err.(net.Error); timedOut && err.Timeout() {
				ended <- fmt.Sprintf("%.40q was not cut", begin)
			} else if len(got) > 0 && !strings.HasPrefix(string(got), "HTTP/1.1 408") {
				ended <- fmt.Sprintf("%.40q: %q", begin, got)
			} else {
				ended <- ""
			}
		}()
	}
	for range 5 {
		if problem := <-ended; problem != "" {
			t.Error(problem)
		}
	}
	if reached := r.reached(); len(reached) > 0 {
		t.Errorf("the API was asked for %q", reached)
	}
}

// A slow reader holds buffers of nginx and of the kernel, and nothing of the API, which
// can serve any page.
func TestSlowReadersHoldNoHandler(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	written := make(chan error, 1)
	r.handler = func(w http.ResponseWriter, q *http.Request) {
		_, err := io.WriteString(w, strings.Repeat("a page ", 14<<10)) // 98 KiB, more than any page has
		written <- err
	}
	conn, err := net.Dial("tcp", r.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.(*net.TCPConn).SetReadBuffer(1 << 10)
	io.WriteString(conn, "GET / HTTP/1.1\r\nHost: isofs.test\r\nConnection: close\r\n\r\n")
	if err := <-written; err != nil {
		t.Error(err)
	}
	conn.SetDeadline(time.Now().Add(time.Minute))
	response, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	if n, err := io.Copy(io.Discard, response.Body); n != 7*14<<10 || err != nil {
		t.Errorf("%d bytes, %v", n, err)
	}
}

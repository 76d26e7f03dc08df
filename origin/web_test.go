package origin

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"aesthetic.computer/isofs/fault"
)

// content is the object of the lying servers.
var content = func() []byte {
	p := make([]byte, 100_000)
	for i := range p {
		p[i] = byte(i * i >> 3)
	}
	return p
}()

// A server counts and remembers requests. lie answers the n-th (from 1), or
// returns false for an honest answer.
type server struct {
	*httptest.Server
	mu     sync.Mutex
	ranges []string // Range header of each request
	match  []string // If-Match header of each request
	pauses []time.Duration
}

type lie func(n int, w http.ResponseWriter, r *http.Request) bool

func serve(t *testing.T, l lie) *server {
	s := &server{}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		s.ranges = append(s.ranges, r.Header.Get("Range"))
		s.match = append(s.match, r.Header.Get("If-Match"))
		n := len(s.ranges)
		s.mu.Unlock()
		if r.Header.Get("Accept-Encoding") != "identity" {
			t.Errorf("Accept-Encoding is %q", r.Header.Get("Accept-Encoding"))
		}
		if !l(n, w, r) {
			honest(w, r)
		}
	}))
	t.Cleanup(s.Close)
	return s
}

func honest(w http.ResponseWriter, r *http.Request) {
	if w.Header().Get("ETag") == "" {
		w.Header().Set("ETag", `"one"`)
	}
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(content))
}

func (s *server) requests() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.ranges)
}

// quick returns options whose pauses are noted and not slept.
func (s *server) quick() Options {
	return Options{sleep: func(ctx context.Context, d time.Duration) error {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.pauses = append(s.pauses, d)
		return ctx.Err()
	}}
}

// status answers the first n requests with a status and header pairs.
func status(code, n int, header ...string) lie {
	return func(i int, w http.ResponseWriter, r *http.Request) bool {
		if i > n {
			return false
		}
		for h := 0; h < len(header); h += 2 {
			w.Header().Set(header[h], header[h+1])
		}
		w.WriteHeader(code)
		return true
	}
}

// says answers 206 with that Content-Range and body, the first n times.
func says(n int, contentRange string, body []byte, header ...string) lie {
	return func(i int, w http.ResponseWriter, r *http.Request) bool {
		if i > n {
			return false
		}
		w.Header().Set("ETag", `"one"`)
		if contentRange != "" {
			w.Header().Set("Content-Range", contentRange)
		}
		for h := 0; h < len(header); h += 2 {
			w.Header().Set(header[h], header[h+1])
		}
		w.WriteHeader(http.StatusPartialContent)
		w.Write(body)
		return true
	}
}

const forever = 1 << 30

// The range that the table fetches, and its honest description.
const (
	from, until = 1000, 3000
	described   = "bytes 1000-2999/100000"
)

func TestFetchFromLiars(t *testing.T) {
	right := content[from:until]
	for _, c := range []struct {
		name     string
		lie      lie
		kind     error // nil: the bytes come in the end
		requests int
	}{
		{"500 three times", status(500, 3), nil, 4},
		{"502 and 504 are passing", status(504, 2), nil, 3},
		{"408 once", status(408, 1), nil, 2},
		{"429 once", status(429, 1), nil, 2},
		{"404", status(404, forever), fault.NotFound, 1},
		{"410", status(410, forever), fault.NotFound, 1},
		{"403", status(403, forever), fault.Unavailable, 1},
		{"401", status(401, forever), fault.Unavailable, 1},
		{"400", status(400, forever), fault.Unavailable, 1},
		{"412", status(412, forever), fault.Corrupt, 1},
		{"416", status(416, forever, "Content-Range", "bytes */10"), fault.Corrupt, 1},
		{"204", status(204, forever), fault.Unavailable, 1},
		{"304", status(304, forever), fault.Unavailable, 1},
		{"200 for 206 once", whole(1), nil, 2},
		{"200 for 206 always", whole(forever), fault.Unavailable, 2},
		{"wrong start", says(forever, "bytes 999-2999/100000", content[999:until]), fault.Corrupt, 2},
		{"wrong start of the right length", says(forever, "bytes 0-1999/100000", content[:2000]), fault.Corrupt, 2},
		{"wrong end", says(forever, "bytes 1000-2998/100000", content[from:2999]), fault.Corrupt, 2},
		{"wrong start, body as asked", says(forever, "bytes 999-2999/100000", right), fault.Corrupt, 2},
		{"wrong end, body as asked", says(forever, "bytes 1000-3000/100000", right), fault.Corrupt, 2},
		{"wrong start once", says(1, "bytes 0-1999/100000", content[:2000]), nil, 2},
		{"wrong total", says(forever, "bytes 1000-2999/100001", right), fault.Corrupt, 1},
		{"unknown total", says(forever, "bytes 1000-2999/*", right), fault.Corrupt, 2},
		{"no Content-Range", says(forever, "", right), fault.Corrupt, 2},
		{"multipart", says(forever, "", []byte("--x\r\nContent-Range: "+described+"\r\n\r\n"), "Content-Type", "multipart/byteranges; boundary=x"), fault.Corrupt, 2},
		{"compressed", says(forever, described, right, "Content-Encoding", "gzip"), fault.Corrupt, 2},
		{"longer by its Content-Length", says(forever, described, content[from:until+1]), fault.Corrupt, 2},
		{"longer in chunks", says(forever, described, content[from:until+1], "Transfer-Encoding", "chunked"), fault.Corrupt, 2},
		{"shorter by its Content-Length", says(forever, described, content[from:until-1]), fault.Corrupt, 2},
		{"said to be as it was uploaded", says(forever, described, right, "Content-Encoding", "aws-chunked"), nil, 1},
		{"in chunks, honest", says(forever, described, right, "Transfer-Encoding", "chunked"), nil, 1},
		{"broken off twice", brokenOff(2), nil, 3},
		{"reset once", reset(1), nil, 2},
	} {
		for _, scheme := range []string{"http", "s3"} {
			t.Run(c.name+" by "+scheme, func(t *testing.T) {
				s := serve(t, c.lie)
				address, o := s.URL, s.quick()
				if scheme == "s3" {
					address, o.S3 = addressOf("key"), S3{Endpoint: s.URL, Anonymous: true}
				}
				p := make([]byte, until-from)
				err := open(t, address, int64(len(content)), o).Fetch(t.Context(), p, from)
				if c.kind == nil {
					must(t, err)
					if !bytes.Equal(p, right) {
						t.Error("wrong bytes")
					}
				} else {
					wantKind(t, err, c.kind)
				}
				if n := s.requests(); n != c.requests {
					t.Errorf("%d requests, want %d (error: %v)", n, c.requests, err)
				}
			})
		}
	}
}

// whole ignores Range, the first n times.
func whole(n int) lie {
	return func(i int, w http.ResponseWriter, r *http.Request) bool {
		if i > n {
			return false
		}
		r.Header.Del("Range")
		honest(w, r)
		return true
	}
}

// brokenOff sends 100 bytes of a right answer and ends the connection, the
// first n times.
func brokenOff(n int) lie {
	return func(i int, w http.ResponseWriter, r *http.Request) bool {
		if i > n {
			return false
		}
		start, _ := rangeOf(r)
		w.Header().Set("ETag", `"one"`)
		w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", start, until-1, len(content)))
		w.Header().Set("Content-Length", fmt.Sprint(until-start))
		w.WriteHeader(http.StatusPartialContent)
		w.Write(content[start : start+100])
		return true
	}
}

// reset is brokenOff by a TCP reset.
func reset(n int) lie {
	return func(i int, w http.ResponseWriter, r *http.Request) bool {
		if i > n {
			return false
		}
		brokenOff(n)(i, w, r)
		http.NewResponseController(w).Flush()
		conn, _, err := http.NewResponseController(w).Hijack()
		if err == nil {
			conn.(*net.TCPConn).SetLinger(0)
			conn.Close()
		}
		return true
	}
}

func rangeOf(r *http.Request) (first, last int) {
	fmt.Sscanf(r.Header.Get("Range"), "bytes=%d-%d", &first, &last)
	return first, last
}

func TestResumesWhereItBrokeOff(t *testing.T) {
	s := serve(t, brokenOff(2))
	o := open(t, s.URL, int64(len(content)), s.quick())
	must(t, o.Fetch(t.Context(), make([]byte, until-from), from))
	if got, want := fmt.Sprint(s.ranges), "[bytes=1000-2999 bytes=1100-2999 bytes=1200-2999]"; got != want {
		t.Errorf("ranges %s, want %s", got, want)
	}
	if got, want := fmt.Sprint(s.match), `[ "one" "one"]`; got != want {
		t.Errorf("If-Match %s, want %s", got, want)
	}
}

// A stream reports bytes once, over attempts: those that broke off, and those
// whose end was not proven, whose last byte is requested again.
func TestStreamOverAttempts(t *testing.T) {
	unproven := func(n int, w http.ResponseWriter, r *http.Request) bool {
		if n > 1 {
			return false
		}
		// In chunks, without the last one.
		conn, _, _ := http.NewResponseController(w).Hijack()
		fmt.Fprintf(conn, "HTTP/1.1 206 Partial Content\r\nETag: \"one\"\r\nContent-Range: %s\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n",
			described, until-from, content[from:until])
		conn.Close()
		return true
	}
	for name, c := range map[string]struct {
		lie      lie
		reported []int
	}{
		"broken off": {brokenOff(2), []int{100, 200, 1999, 2000}},
		"unproven":   {unproven, []int{1999, 2000}},
	} {
		s := serve(t, c.lie)
		o := open(t, s.URL, int64(len(content)), s.quick())
		p := make([]byte, until-from)
		var reported []int
		must(t, o.FetchStream(t.Context(), p, from, func(n int) {
			if before := slices.Max(append(reported, 0)); !bytes.Equal(p[before:n], content[from+before:from+n]) {
				t.Errorf("%s: reported %d bytes, which are wrong", name, n)
			}
			reported = append(reported, n)
			clear(p[:n])
		}))
		if !slices.Equal(reported, c.reported) {
			t.Errorf("%s: reported %v bytes, want %v", name, reported, c.reported)
		}
		if !bytes.Equal(p, make([]byte, len(p))) {
			t.Errorf("%s: bytes were written to after they were reported", name)
		}
	}
}

// The stream reports bytes while the rest is still to come.
func TestStreamDoesNotWait(t *testing.T) {
	arrived := make(chan struct{})
	s := serve(t, func(n int, w http.ResponseWriter, r *http.Request) bool {
		w.Header().Set("ETag", `"one"`)
		w.Header().Set("Content-Range", fmt.Sprintf("bytes 0-%d/%d", len(content)-1, len(content)))
		w.Header().Set("Content-Length", fmt.Sprint(len(content)))
		w.WriteHeader(http.StatusPartialContent)
		w.Write(content[:step])
		http.NewResponseController(w).Flush()
		select {
		case <-arrived:
			w.Write(content[step:])
		case <-r.Context().Done():
		}
		return true
	})
	var once sync.Once
	p := make([]byte, len(content))
	must(t, open(t, s.URL, int64(len(content)), Options{}).FetchStream(t.Context(), p, 0, func(int) { once.Do(func() { close(arrived) }) }))
	if !bytes.Equal(p, content) {
		t.Error("wrong bytes")
	}
}

// A reader that takes its time does not make the server stall.
func TestSlowReaderIsNoStall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancelCause(t.Context())
		body := &watched{body: io.NopCloser(bytes.NewReader(content)), ctx: ctx, cancel: cancel, stall: time.Second,
			timer: time.AfterFunc(time.Second, func() { cancel(errStalled) })}
		body.timer.Stop()
		for range 3 {
			if _, err := body.Read(make([]byte, 10)); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Minute)
		}
		if ctx.Err() != nil {
			t.Errorf("given up: %v", context.Cause(ctx))
		}
	})
}

func TestWholeObjectBy200(t *testing.T) {
	s := serve(t, whole(forever))
	o := open(t, s.URL, int64(len(content)), s.quick())
	p := make([]byte, len(content))
	must(t, o.Fetch(t.Context(), p, 0))
	if !bytes.Equal(p, content) {
		t.Error("wrong bytes")
	}
	wantKind(t, open(t, s.URL, 99, s.quick()).Fetch(t.Context(), p[:99], 0), fault.Corrupt)
}

// The answers to the n-th request of a broken-off fetch are of another object.
func TestChangeWithinOneFetch(t *testing.T) {
	s := serve(t, func(n int, w http.ResponseWriter, r *http.Request) bool {
		if n == 1 {
			return brokenOff(1)(n, w, r)
		}
		w.Header().Set("ETag", `"two"`)
		r.Header.Del("If-Match") // a server that ignores If-Match
		return false
	})
	m := open(t, s.URL, int64(len(content)), s.quick())
	wantKind(t, m.Fetch(t.Context(), make([]byte, until-from), from), fault.Corrupt)

	// As above, and another fetch pinned the new object in between.
	o := m.(*Mirrors).all[0].source.(*remote)
	f := &read{remote: o, etag: `"one"`, got: true}
	o.pin = `"two"`
	err := f.attempt(t.Context(), make([]byte, 10), 10, ignore)
	wantKind(t, err, fault.Corrupt)
	if got := s.match[len(s.match)-1]; got != `"one"` {
		t.Errorf("If-Match %s for a fetch that has bytes of \"one\"", got)
	}
	if o.pin != `"two"` {
		t.Errorf("an older fetch removed the pin of a newer one: it is %q", o.pin)
	}

	// Two requests of one fetch at the same time, each answered as it was pinned.
	f = &read{remote: o}
	must(t, f.keep(`"one"`))
	wantKind(t, f.keep(`"two"`), fault.Corrupt)
	must(t, f.keep(`"one"`))
}

func TestETags(t *testing.T) {
	for _, c := range []struct {
		name, first, second string
		match               string // If-Match of the second request
		kind                error
	}{
		{"strong", `"a"`, `"a"`, `"a"`, nil},
		{"strong changed", `"a"`, `"b"`, `"a"`, fault.Corrupt},
		{"weak", `W/"a"`, `W/"a"`, "", nil},
		{"weak changed", `W/"a"`, `W/"b"`, "", fault.Corrupt},
		{"none", "", "", "", nil},
		{"one later", "", `"a"`, "", nil},
		{"none later", `"a"`, "", `"a"`, fault.Corrupt},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := serve(t, func(n int, w http.ResponseWriter, r *http.Request) bool {
				etag := c.first
				if n > 1 {
					etag = c.second
				}
				says(forever, "bytes 0-9/100000", content[:10], "ETag", etag)(n, w, r)
				return true
			})
			o := open(t, s.URL, int64(len(content)), s.quick())
			must(t, o.Fetch(t.Context(), make([]byte, 10), 0))
			err := o.Fetch(t.Context(), make([]byte, 10), 0)
			if c.kind == nil {
				must(t, err)
			} else {
				wantKind(t, err, c.kind)
			}
			if s.match[1] != c.match {
				t.Errorf("If-Match %q, want %q", s.match[1], c.match)
			}
		})
	}
}

func TestPauses(t *testing.T) {
	s := serve(t, status(503, 9))
	must(t, open(t, s.URL, int64(len(content)), s.quick()).Fetch(t.Context(), make([]byte, 1), 0))
	most := 50 * time.Millisecond
	for i, d := range s.pauses {
		if d < 0 || d >= most {
			t.Errorf("pause %d is %v, want less than %v", i, d, most)
		}
		most = min(2*most, 2*time.Second)
	}
	if len(s.pauses) != 9 {
		t.Errorf("%d pauses", len(s.pauses))
	}

	s = serve(t, status(429, 1, "Retry-After", "7"))
	must(t, open(t, s.URL, int64(len(content)), s.quick()).Fetch(t.Context(), make([]byte, 1), 0))
	if len(s.pauses) != 1 || s.pauses[0] != 7*time.Second {
		t.Errorf("pauses %v after Retry-After: 7", s.pauses)
	}

	// Further away than the deadline: the error comes at once.
	s = serve(t, status(503, forever, "Retry-After", "3600"))
	wantKind(t, open(t, s.URL, int64(len(content)), s.quick()).Fetch(t.Context(), make([]byte, 1), 0), fault.Unavailable)
	if s.requests() != 1 || len(s.pauses) != 0 {
		t.Errorf("%d requests, pauses %v", s.requests(), s.pauses)
	}

	tomorrow := http.Header{"Retry-After": {time.Now().Add(24 * time.Hour).UTC().Format(http.TimeFormat)}}
	if d := retryAfter(tomorrow); d < 23*time.Hour || d > 24*time.Hour {
		t.Errorf("Retry-After of tomorrow is %v", d)
	}
	for _, v := range []string{"-1", "soon", "", "Mon, 01 Jan 2001 00:00:00 GMT", "99999999999999999999"} {
		if d := retryAfter(http.Header{"Retry-After": {v}}); d != 0 {
			t.Errorf("Retry-After %q is %v", v, d)
		}
	}
}

// TestFirstFailureIsLoggedAtOnce, and not each: before the first pause, once for
// all readers, and again after the origin has answered.
func TestFirstFailureIsLoggedAtOnce(t *testing.T) {
	var log bytes.Buffer
	counts := func() (warned, answers int) {
		return strings.Count(log.String(), "level=WARN"), strings.Count(log.String(), "answers again")
	}
	with := func(s *server, late *int) Options {
		o := s.quick()
		o.Log = slog.New(slog.NewTextHandler(&log, nil))
		sleep := o.sleep
		o.sleep = func(ctx context.Context, d time.Duration) error {
			if warned, _ := counts(); warned == 0 {
				*late++
			}
			return sleep(ctx, d)
		}
		return o
	}
	s, late := serve(t, status(503, 9)), 0
	opened := open(t, s.URL, int64(len(content)), with(s, &late))
	must(t, opened.Fetch(t.Context(), make([]byte, 1), 0))
	must(t, opened.Fetch(t.Context(), make([]byte, 1), 0))
	if warned, answers := counts(); warned != 1 || answers != 1 || late != 0 || !strings.Contains(log.String(), s.URL) || !strings.Contains(log.String(), "503") {
		t.Errorf("%d warnings, %d times an answer, %d pauses before the log line:\n%s", warned, answers, late, &log)
	}
	log.Reset()
	s = serve(t, status(503, 3))
	if _, err := with(s, &late).ReadAll(t.Context(), s.URL, 1<<20); err != nil {
		t.Fatal(err)
	}
	if warned, _ := counts(); warned != 1 || late != 0 {
		t.Errorf("ReadAll: %d warnings, %d pauses before:\n%s", warned, late, &log)
	}
	// A failure that is not tried again is in the error.
	log.Reset()
	s = serve(t, status(404, forever))
	wantKind(t, open(t, s.URL, int64(len(content)), with(s, &late)).Fetch(t.Context(), make([]byte, 1), 0), fault.NotFound)
	if log.Len() > 0 {
		t.Errorf("404 is told twice:\n%s", &log)
	}
}

func TestEndsAtItsDeadline(t *testing.T) {
	impatient := Options{Timeout: 100 * time.Millisecond, Stall: 30 * time.Millisecond, Backoff: time.Millisecond}
	for name, l := range map[string]lie{
		"500 for ever": status(500, forever),
		"never answers": func(n int, w http.ResponseWriter, r *http.Request) bool {
			<-r.Context().Done()
			return true
		},
		"never ends": stalls(0),
	} {
		s := serve(t, l)
		err := open(t, s.URL, int64(len(content)), impatient).Fetch(t.Context(), make([]byte, until-from), from)
		t.Logf("%s: %v", name, err)
		wantKind(t, err, fault.Unavailable)
		_, err = impatient.ReadAll(t.Context(), s.URL, 1<<20)
		wantKind(t, err, fault.Unavailable)
	}
	stopped := serve(t, status(500, forever))
	stopped.Close()
	wantKind(t, open(t, stopped.URL, 10, impatient).Fetch(t.Context(), make([]byte, 1), 0), fault.Unavailable)
}

// stalls sends the first 100 bytes and then nothing, to every request that does
// not start behind byte after.
func stalls(after int) lie {
	return func(n int, w http.ResponseWriter, r *http.Request) bool {
		start, _ := rangeOf(r)
		if after > 0 && start > after {
			return false
		}
		if r.Header.Get("Range") == "" {
			w.Write(content[:100])
		} else {
			brokenOff(forever)(n, w, r)
		}
		http.NewResponseController(w).Flush()
		<-r.Context().Done()
		return true
	}
}

func TestStallIsResumed(t *testing.T) {
	// Only a request that resumes ever gets an answer.
	s := serve(t, stalls(from))
	o := s.quick()
	o.Stall = 200 * time.Millisecond
	p := make([]byte, until-from)
	must(t, open(t, s.URL, int64(len(content)), o).Fetch(t.Context(), p, from))
	if !bytes.Equal(p, content[from:until]) {
		t.Error("wrong bytes")
	}
}

func TestCanceledWhileItWaits(t *testing.T) {
	s := serve(t, stalls(0))
	ctx, cancel := context.WithCancel(t.Context())
	o := open(t, s.URL, int64(len(content)), Options{})
	done := make(chan error)
	go func() { done <- o.Fetch(ctx, make([]byte, until-from), from) }()
	for s.requests() == 0 {
		time.Sleep(time.Millisecond)
	}
	cancel()
	if err := <-done; !strings.Contains(err.Error(), context.Canceled.Error()) {
		t.Errorf("got %v", err)
	}
}

func TestRedirects(t *testing.T) {
	far := serve(t, func(int, http.ResponseWriter, *http.Request) bool { return false })
	farHost := strings.TrimPrefix(far.URL, "http://")
	var near *server
	near = serve(t, func(n int, w http.ResponseWriter, r *http.Request) bool {
		if r.Referer() != "" {
			t.Errorf("Referer %q tells the address", r.Referer())
		}
		switch r.URL.Path {
		case "/far":
			http.Redirect(w, r, far.URL, http.StatusFound)
		case "/near":
			http.Redirect(w, r, near.URL+"/here", http.StatusFound)
		case "/loop":
			http.Redirect(w, r, near.URL+"/loop", http.StatusFound)
		default:
			return false
		}
		return true
	})
	p := make([]byte, until-from)
	fetch := func(path string, hosts ...string) error {
		o := near.quick()
		o.Redirects = hosts
		clear(p)
		return open(t, near.URL+path+"?signature=secret", int64(len(content)), o).Fetch(t.Context(), p, from)
	}
	for _, hosts := range [][]string{nil, {"cdn.example", "127.0.0.1"}} {
		err := fetch("/far", hosts...)
		wantKind(t, err, fault.Unavailable)
		if far.requests() != 0 || !strings.Contains(err.Error(), "--origin-redirect "+farHost) || strings.Contains(err.Error(), "secret") {
			t.Errorf("with %q the other host got %d requests: %v", hosts, far.requests(), err)
		}
	}
	for path, hosts := range map[string][]string{"/near": nil, "/far": {"cdn.example", farHost}} {
		if err := fetch(path, hosts...); err != nil || !bytes.Equal(p, content[from:until]) {
			t.Errorf("%s: %v, or wrong bytes", path, err)
		}
	}
	before := near.requests()
	err := fetch("/loop")
	wantKind(t, err, fault.Unavailable)
	if n := near.requests() - before; n != maxRedirects+1 {
		t.Errorf("%d requests for a loop of at most %d", n, maxRedirects)
	}
	if strings.Contains(err.Error(), "secret") {
		t.Errorf("the error tells the query: %v", err)
	}
}

func TestSameHost(t *testing.T) {
	for _, c := range []struct {
		first, next string
		same        bool
	}{
		{"http://cdn.example/a", "http://CDN.example/b", true},
		{"http://cdn.example/a", "https://cdn.example/b", true},
		{"http://cdn.example:80/a", "https://cdn.example:443/b", true},
		{"https://cdn.example/a", "https://cdn.example/b", true},
		{"http://cdn.example/a", "http://cdn.example:9999/b", false},
		{"http://cdn.example:8080/a", "https://cdn.example/b", false},
		{"http://cdn.example/a", "http://169.254.169.254/latest/meta-data/", false},
		{"https://cdn.example/a", "https://cdn.example.attacker.example/b", false},
		{"https://cdn.example/a", "https://user@evil.example/b", false},
		{"http://[::1]:80/a", "http://[::1]:80/b", true},
	} {
		first, err := url.Parse(c.first)
		must(t, err)
		next, err := url.Parse(c.next)
		must(t, err)
		if sameHost(next, first) != c.same {
			t.Errorf("from %s to %s: want %v", c.first, c.next, c.same)
		}
	}
}

func TestNoRedirectFromHTTPSToHTTP(t *testing.T) {
	plain := serve(t, func(int, http.ResponseWriter, *http.Request) bool { return false })
	s := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/down" {
			http.Redirect(w, r, plain.URL, http.StatusFound)
			return
		}
		honest(w, r)
	}))
	defer s.Close()
	roots := x509.NewCertPool()
	roots.AddCert(s.Certificate())
	o := plain.quick()
	o.TLS = &tls.Config{RootCAs: roots}
	p := make([]byte, 10)
	must(t, open(t, s.URL, int64(len(content)), o).Fetch(t.Context(), p, 0))
	wantKind(t, open(t, s.URL+"/down", int64(len(content)), o).Fetch(t.Context(), p, 0), fault.Unavailable)
	if plain.requests() != 0 {
		t.Error("it was followed")
	}
}

func TestCredentialsAreSentAndNotTold(t *testing.T) {
	s := serve(t, func(n int, w http.ResponseWriter, r *http.Request) bool {
		user, password, _ := r.BasicAuth()
		if user != "user" || password != "secret" || r.URL.RawQuery != "key=secret" {
			t.Errorf("user %q, password %q, query %q", user, password, r.URL.RawQuery)
		}
		return status(403, 1)(n, w, r)
	})
	address := strings.Replace(s.URL, "://", "://user:secret@", 1) + "/x?key=secret"
	o := open(t, address, int64(len(content)), s.quick())
	err := o.Fetch(t.Context(), make([]byte, 1), 0)
	wantKind(t, err, fault.Unavailable)
	for _, text := range []string{err.Error(), o.String()} {
		if strings.Contains(text, "secret") || strings.Contains(text, "user") {
			t.Errorf("secrets told: %s", text)
		}
	}
	must(t, o.Fetch(t.Context(), make([]byte, 1), 0))

	s.Close()
	o = open(t, address, int64(len(content)), Options{Timeout: 20 * time.Millisecond})
	if err := o.Fetch(t.Context(), make([]byte, 1), 0); strings.Contains(err.Error(), "secret") {
		t.Errorf("secrets told: %v", err)
	}
}

func TestReadAllFromLiars(t *testing.T) {
	for _, c := range []struct {
		name string
		lie  lie
		kind error
	}{
		{"500 twice", status(500, 2), nil},
		{"403", status(403, forever), fault.Unavailable},
		{"206", says(forever, "bytes 0-9/10", content[:10]), fault.Corrupt},
		{"compressed", func(n int, w http.ResponseWriter, r *http.Request) bool {
			w.Header().Set("Content-Encoding", "br")
			return false
		}, fault.Corrupt},
		{"broken off once", func(n int, w http.ResponseWriter, r *http.Request) bool {
			if n == 1 {
				w.Header().Set("Content-Length", fmt.Sprint(len(content)))
				w.Write(content[:10])
			}
			return n == 1
		}, nil},
		{"without a length", func(n int, w http.ResponseWriter, r *http.Request) bool {
			conn, _, _ := http.NewResponseController(w).Hijack()
			io.WriteString(conn, "HTTP/1.0 200 OK\r\n\r\nhalf of a manif")
			conn.Close()
			return true
		}, fault.Corrupt},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := serve(t, c.lie)
			all, err := s.quick().ReadAll(t.Context(), s.URL, 1<<20)
			if c.kind != nil {
				wantKind(t, err, c.kind)
				return
			}
			must(t, err)
			if !bytes.Equal(all, content) {
				t.Error("wrong bytes")
			}
		})
	}
}

func TestConnectionsAreReused(t *testing.T) {
	var mu sync.Mutex
	clients := map[string]bool{}
	s := serve(t, func(n int, w http.ResponseWriter, r *http.Request) bool {
		mu.Lock()
		defer mu.Unlock()
		clients[r.RemoteAddr] = true
		return false
	})
	o := open(t, s.URL, int64(len(content)), Options{})
	for range 20 {
		must(t, o.Fetch(t.Context(), make([]byte, 1000), 0))
	}
	if len(clients) != 1 {
		t.Errorf("%d connections for 20 fetches one after the other", len(clients))
	}
}

func FuzzParseContentRange(f *testing.F) {
	for _, s := range []string{"bytes 0-9/10", "bytes */10", "bytes 0-9/*", "Bytes 5-5/6", "bytes +1-2/3", "bytes 9-0/10", "bytes 0-9/9", "bytes 0-9/18446744073709551616"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		first, last, total, ok := parseContentRange(s)
		if !ok {
			return
		}
		if first < 0 || last < first || total <= last {
			t.Fatalf("%q: %d-%d/%d", s, first, last, total)
		}
		again := fmt.Sprintf("bytes %d-%d/%d", first, last, total)
		if a, b, c, ok := parseContentRange(again); !ok || a != first || b != last || c != total {
			t.Fatalf("%q: %q is read as %d-%d/%d, %v", s, again, a, b, c, ok)
		}
	})
}

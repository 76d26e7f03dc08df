package integration

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"
)

// A faultProxy serves the base over HTTP from a static file server behind it. It spoils the answers
// that match one of its faults.
type faultProxy struct {
	t      *testing.T
	addr   string
	static http.Handler
	web    *http.Server // nil while it is down; only the test's goroutine uses it

	mu     sync.Mutex // guards what follows
	etag   string
	faults []*fault
	asked  []span // of the base, in order of arrival
	heads  int    // HEAD requests
}

// A fault spoils answers with bytes of the base.
type fault struct {
	at    int64 // spoil only answers that contain this byte,
	all   bool  // or all of them
	times int   // how many answers; 0: until heal
	spoil func(a *answer)

	mu   sync.Mutex // guards hits
	hits int        // answers that it spoiled
}

// count returns how many answers were spoiled.
func (f *fault) count() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.hits
}

// take reports whether the fault applies to the answer with these bytes, and counts it.
func (f *fault) take(s span) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.all && (f.at < s.first || f.at >= s.end) || f.times > 0 && f.hits == f.times {
		return false
	}
	f.hits++
	return true
}

// An answer is what the proxy will send. A fault may change it.
type answer struct {
	status int
	header http.Header
	body   []byte
	at     span            // the requested bytes of the base
	hold   <-chan struct{} // if not nil, the proxy sends nothing before it is closed
	cut    int             // how much of the body the proxy sends
	end    func(net.Conn)  // what it does then; nil: it closes the connection
}

func newFaultProxy(t *testing.T) *faultProxy {
	t.Helper()
	p := &faultProxy{t: t, addr: freeAddress(t), static: http.FileServer(http.Dir(baseDir)), etag: `"first"`}
	p.up()
	t.Cleanup(p.down)
	return p
}

// url is the value of --base.
func (p *faultProxy) url() string { return "http://" + p.addr }

// up listens. down refuses connections and cuts the open ones.
func (p *faultProxy) up() {
	p.t.Helper()
	l, err := net.Listen("tcp", p.addr)
	if err != nil {
		p.t.Fatal(err)
	}
	p.web = &http.Server{Handler: p, ReadHeaderTimeout: patience}
	web := p.web
	go func() { _ = web.Serve(l) }() // returns after down
}

func (p *faultProxy) down() {
	if p.web != nil {
		p.web.Close()
		p.web = nil
	}
}

// add adds faults.
func (p *faultProxy) add(faults ...*fault) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.faults = append(p.faults, faults...)
}

// heal removes all faults. Answers that are held or stalled stay so.
func (p *faultProxy) heal() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.faults = nil
}

// touched returns how often the byte of the base was requested.
func (p *faultProxy) touched(at int64) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := 0
	for _, s := range p.asked {
		if s.first <= at && at < s.end {
			n++
		}
	}
	return n
}

// requests returns all requests for the base so far.
func (p *faultProxy) requests() []span {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.asked)
}

// ServeHTTP implements http.Handler.
func (p *faultProxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f, etag, s := p.find(r)
	w.Header().Set("ETag", etag)
	if f == nil {
		p.static.ServeHTTP(w, r)
		return
	}
	// The right answer comes first. A fault may then change it.
	recorded := httptest.NewRecorder()
	recorded.Header().Set("ETag", etag)
	p.static.ServeHTTP(recorded, r)
	a := &answer{status: recorded.Code, header: recorded.Header(), body: recorded.Body.Bytes(), at: s, cut: -1}
	f.spoil(a)
	a.send(w)
}

// find records the request, and returns the fault of its answer.
func (p *faultProxy) find(r *http.Request) (*fault, string, span) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if r.Method == http.MethodHead {
		p.heads++
	}
	if r.URL.Path != "/base.iso" || r.Method != http.MethodGet {
		return nil, p.etag, span{}
	}
	s := span{0, int64(len(reference()))}
	if _, err := fmt.Sscanf(r.Header.Get("Range"), "bytes=%d-%d", &s.first, &s.end); err == nil {
		s.end++
	}
	if isProbe(r) {
		return nil, p.etag, s
	}
	p.asked = append(p.asked, s)
	for _, f := range p.faults {
		if f.take(s) {
			return f, p.etag, s
		}
	}
	return nil, p.etag, s
}

// isProbe reports whether a request is the check that an origin works. Such a request wants one
// byte; it serves no read.
func isProbe(r *http.Request) bool { return r.Header.Get("Range") == "bytes=0-0" }

// send writes the answer as it is now, right or wrong.
func (a *answer) send(w http.ResponseWriter) {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		panic(err) // our servers speak no HTTP/2
	}
	defer conn.Close()
	left := make(chan struct{})
	go func() {
		defer close(left)
		_, _ = io.Copy(io.Discard, conn) // ends with the connection
	}()
	if a.hold != nil {
		select {
		case <-a.hold:
		case <-left:
			return
		}
	}
	var out bytes.Buffer
	fmt.Fprintf(&out, "HTTP/1.1 %d %s\r\nConnection: close\r\n", a.status, http.StatusText(a.status))
	_ = a.header.Write(&out) // to memory
	out.WriteString("\r\n")
	if a.cut < 0 {
		a.cut = len(a.body)
	}
	out.Write(a.body[:a.cut])
	if _, err := conn.Write(out.Bytes()); err != nil {
		return // the client closed the connection
	}
	if a.end != nil {
		a.end(conn)
		<-left
	}
}

// Most faults are for one byte of the base and a number of answers.

func status(code int, header ...string) func(*answer) {
	return func(a *answer) {
		a.status, a.header, a.body = code, http.Header{"Content-Length": {"0"}}, nil
		for i := 0; i < len(header); i += 2 {
			a.header.Set(header[i], header[i+1])
		}
	}
}

// hang accepts the request and never answers.
func hang(a *answer) { a.hold = make(chan struct{}) }

// held hangs until c is closed, and then sends the right answer.
func held(c <-chan struct{}) func(*answer) { return func(a *answer) { a.hold = c } }

// stall sends half of the body, and keeps the connection open.
func stall(a *answer) { a.cut, a.end = len(a.body)/2, func(net.Conn) {} }

// crawl sends half of the body, and then one byte from time to time.
func crawl(a *answer) {
	rest := a.body[len(a.body)/2:]
	a.cut, a.end = len(a.body)/2, func(c net.Conn) {
		for i := range rest {
			time.Sleep(100 * time.Millisecond) // this wait is the fault
			if _, err := c.Write(rest[i : i+1]); err != nil {
				return
			}
		}
	}
}

// short ends the connection in the middle of the body.
func short(a *answer) { a.cut = len(a.body) / 2 }

// reset ends the connection in the middle of the body by an RST.
func reset(a *answer) {
	a.cut, a.end = len(a.body)/2, func(c net.Conn) {
		_ = c.(*net.TCPConn).SetLinger(0) // on an error the connection ends without an RST
		c.Close()
	}
}

// replaced sends other bytes of the same length.
func replaced(other func(a *answer) []byte) func(*answer) {
	return func(a *answer) { a.body = other(a) }
}

// longer sends a page more than requested, and says so.
func longer(a *answer) {
	a.body = append(slices.Clone(a.body), make([]byte, pageSize)...)
	a.header.Set("Content-Length", fmt.Sprint(len(a.body)))
}

// headed changes or removes a header of the answer.
func headed(name, value string) func(*answer) {
	return func(a *answer) {
		if a.header.Del(name); value != "" {
			a.header.Set(name, value)
		}
	}
}

// reference is the base. All images have the same bytes before the slot.
var reference = sync.OnceValue(func() []byte {
	image, err := os.ReadFile(filepath.Join(baseDir, "base.iso"))
	if err != nil {
		panic(err) // TestMain baked it
	}
	return image
})

// slow is how long the slow answers of row 21 take.
const slow = time.Second

// after returns a channel that is closed after that time.
func after(t *testing.T, d time.Duration) <-chan struct{} {
	c := make(chan struct{})
	timer := time.AfterFunc(d, func() { close(c) })
	t.Cleanup(func() { timer.Stop() })
	return c
}

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

// A faultProxy serves the base by HTTP from a static file server behind it,
// and spoils the answers that it has a fault for.
type faultProxy struct {
	t      *testing.T
	addr   string
	static http.Handler
	web    *http.Server // nil while it is down; used by the test's goroutine alone

	mu     sync.Mutex // guards what follows
	etag   string
	faults []*fault
	asked  []span // of the base, in order
	heads  int    // requests with HEAD
}

// A fault spoils answers of the base.
type fault struct {
	at    int64 // only those that have this byte of it
	all   bool  // or all of them
	times int   // how many answers, 0: until it is lifted
	spoil func(a *answer)

	mu   sync.Mutex // guards hits
	hits int        // answers that were spoiled
}

// count returns how many answers were spoiled.
func (f *fault) count() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.hits
}

// take reports whether the fault is for the answer with these bytes.
func (f *fault) take(s span) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.all && (f.at < s.first || f.at >= s.end) || f.times > 0 && f.hits == f.times {
		return false
	}
	f.hits++
	return true
}

// An answer is what will be sent, to be changed by a fault.
type answer struct {
	status int
	header http.Header
	body   []byte
	at     span            // the bytes of the base that were asked for
	hold   <-chan struct{} // if not nil, nothing is sent before it is closed
	cut    int             // so much of the body is sent,
	end    func(net.Conn)  // then this comes; nil: the connection is closed
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

// up listens; down refuses connections and cuts those that there are.
func (p *faultProxy) up() {
	p.t.Helper()
	l, err := net.Listen("tcp", p.addr)
	if err != nil {
		p.t.Fatal(err)
	}
	p.web = &http.Server{Handler: p, ReadHeaderTimeout: patience}
	web := p.web
	go func() { _ = web.Serve(l) }() // returns by down
}

func (p *faultProxy) down() {
	if p.web != nil {
		p.web.Close()
		p.web = nil
	}
}

// add puts faults into force.
func (p *faultProxy) add(faults ...*fault) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.faults = append(p.faults, faults...)
}

// heal lifts all faults. Answers that are held or stalled stay so.
func (p *faultProxy) heal() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.faults = nil
}

// touched returns how often the byte of the base was asked for.
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

// requests returns all that was asked for of the base so far.
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
	// What the server behind would have said, and then not.
	said := httptest.NewRecorder()
	said.Header().Set("ETag", etag)
	p.static.ServeHTTP(said, r)
	a := &answer{status: said.Code, header: said.Header(), body: said.Body.Bytes(), at: s, cut: -1}
	f.spoil(a)
	a.send(w)
}

// find notes the request, and returns the fault that its answer has.
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

// isProbe tells the look whether there is an origin, a byte now and then, from
// what is asked for to be served.
func isProbe(r *http.Request) bool { return r.Header.Get("Range") == "bytes=0-0" }

// send writes the answer as it is, right or not.
func (a *answer) send(w http.ResponseWriter) {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		panic(err) // no server of ours has HTTP/2
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
		return // the client left
	}
	if a.end != nil {
		a.end(conn)
		<-left
	}
}

// Faults, most of them for one byte of the base and so many answers.

func status(code int, header ...string) func(*answer) {
	return func(a *answer) {
		a.status, a.header, a.body = code, http.Header{"Content-Length": {"0"}}, nil
		for i := 0; i < len(header); i += 2 {
			a.header.Set(header[i], header[i+1])
		}
	}
}

// hang accepts and never answers.
func hang(a *answer) { a.hold = make(chan struct{}) }

// held is hang that goes on, with the right answer, when c is closed.
func held(c <-chan struct{}) func(*answer) { return func(a *answer) { a.hold = c } }

// stall sends half of the body and no more.
func stall(a *answer) { a.cut, a.end = len(a.body)/2, func(net.Conn) {} }

// crawl sends half of the body and then a byte now and then.
func crawl(a *answer) {
	rest := a.body[len(a.body)/2:]
	a.cut, a.end = len(a.body)/2, func(c net.Conn) {
		for i := range rest {
			time.Sleep(100 * time.Millisecond) // the fault itself
			if _, err := c.Write(rest[i : i+1]); err != nil {
				return
			}
		}
	}
}

// short ends the connection in the middle of the body.
func short(a *answer) { a.cut = len(a.body) / 2 }

// reset is short with an RST.
func reset(a *answer) {
	a.cut, a.end = len(a.body)/2, func(c net.Conn) {
		_ = c.(*net.TCPConn).SetLinger(0) // the next line shows it
		c.Close()
	}
}

// replaced answers with other bytes of the same length.
func replaced(other func(a *answer) []byte) func(*answer) {
	return func(a *answer) { a.body = other(a) }
}

// longer has a page more than was asked for and says so.
func longer(a *answer) {
	a.body = append(slices.Clone(a.body), make([]byte, pageSize)...)
	a.header.Set("Content-Length", fmt.Sprint(len(a.body)))
}

// headed answers with a header changed, or without it.
func headed(name, value string) func(*answer) {
	return func(a *answer) {
		if a.header.Del(name); value != "" {
			a.header.Set(name, value)
		}
	}
}

// reference is the base, which all images are alike with before the slot.
var reference = sync.OnceValue(func() []byte {
	image, err := os.ReadFile(filepath.Join(baseDir, "base.iso"))
	if err != nil {
		panic(err) // TestMain has just baked it
	}
	return image
})

// slow is how long the slow answers of row 21 take.
const slow = time.Second

// after returns what is closed when that time has passed.
func after(t *testing.T, d time.Duration) <-chan struct{} {
	c := make(chan struct{})
	timer := time.AfterFunc(d, func() { close(c) })
	t.Cleanup(func() { timer.Stop() })
	return c
}

package integration

import (
	"bytes"
	"fmt"
	"net/http"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"aesthetic.computer/isofs/integration/testkit"
)

const some = 64 << 10 // bytes of a small read

func TestRow01ServerErrorsThatPass(t *testing.T) {
	t.Parallel()
	p, s := faulty(t)
	cases := map[string]*fault{
		"500":                      {times: 3, spoil: status(500)},
		"503 with Retry-After":     {times: 2, spoil: status(503, "Retry-After", "1")},
		"503 with an absurd one":   {times: 1, spoil: status(503, "Retry-After", "soon")},
		"429":                      {times: 2, spoil: status(429)},
		"503 with a date long ago": {times: 1, spoil: status(503, "Retry-After", "Thu, 01 Jan 1970 00:00:00 GMT")},
	}
	i := 0
	for name, f := range cases {
		f.at = places[i]
		p.add(f)
		s.fine(f.at, some)
		if n := p.touched(f.at); f.count() != f.times || n < f.times+1 || n > f.times+3 {
			t.Errorf("%s: %d requests, of which %d failed, want %d failures", name, n, f.count(), f.times)
		}
		i++
	}
	s.recovered(p)
}

func TestRow02ServerErrorsForEver(t *testing.T) {
	t.Parallel()
	p, s := faulty(t, unanswered)
	s.fine(places[0], some)
	p.add(&fault{all: true, spoil: status(500)})
	var broken sync.WaitGroup
	broken.Go(func() { s.refused(places[1], some) })
	broken.Go(func() { _ = s.pread(places[2], some) })
	for range 100 {
		s.fine(places[0], some)
	}
	broken.Wait()
	s.fine(places[0], some)
	s.says("500")
	s.recovered(p)
}

func TestRow03BlackHole(t *testing.T) {
	t.Parallel()
	t.Run("for ever", func(t *testing.T) {
		t.Parallel()
		p, s := faulty(t, unanswered)
		p.add(&fault{all: true, spoil: hang})
		s.refused(places[1], some)
		if err := s.pread(places[2], some); err == nil {
			t.Error("bytes came out of a black hole")
		}
		s.recovered(p)
	})
	t.Run("cached reads meanwhile", func(t *testing.T) {
		t.Parallel()
		p, s := faulty(t)
		s.fine(places[0], some)
		hole := &fault{all: true, spoil: hang}
		p.add(hole)
		var hung atomic.Int32 // reads that wait for the origin
		var misses sync.WaitGroup
		for _, at := range places[1:] {
			hung.Add(1)
			misses.Go(func() { s.fine(at, some); hung.Add(-1) })
		}
		testkit.Eventually(t, "the misses to be awaited", func() bool { return hole.count() >= len(places)-1 })
		for range 100 {
			s.fine(places[0], some)
			if err := s.pread(places[0], some); err != nil {
				t.Error(err)
			}
		}
		if n := hung.Load(); n != int32(len(places)-1) {
			t.Errorf("%d misses wait, want all: nothing was proved", n)
		}
		p.heal()
		misses.Wait()
		s.all()
	})
}

func TestRow04StallInTheBody(t *testing.T) {
	t.Parallel()
	t.Run("stall", func(t *testing.T) {
		t.Parallel()
		p, s := faulty(t)
		f := &fault{at: places[1], times: 1, spoil: stall}
		p.add(f)
		s.fine(places[1], some)
		s.resumed(p, f)
		s.recovered(p)
	})
	t.Run("a byte now and then", func(t *testing.T) {
		t.Parallel()
		p, s := faulty(t, unanswered)
		p.add(&fault{at: places[1], spoil: crawl})
		_ = s.ask(places[1], some) // right bytes or an error, in time
		s.recovered(p)
	})
}

// resumed checks that isofs did not request again the bytes that a broken answer had.
func (s *server) resumed(p *faultProxy, f *fault) {
	s.t.Helper()
	asked := p.requests()
	broken := slices.IndexFunc(asked, func(a span) bool { return a.first <= f.at && f.at < a.end })
	if broken < 0 {
		s.t.Fatalf("byte %d was never requested: %v", f.at, asked)
	}
	half := (asked[broken].first + asked[broken].end) / 2
	if !slices.ContainsFunc(asked[broken+1:], func(a span) bool { return a.first > asked[broken].first && a.first <= half }) {
		s.t.Errorf("%v was not resumed at %d: %v", asked[broken], half, asked[broken+1:])
	}
}

func TestRow05ShortBody(t *testing.T) {
	t.Parallel()
	for name, spoil := range map[string]func(*answer){"end": short, "reset": reset} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p, s := faulty(t)
			// The byte is at the end of a block, so the request for the rest of the block contains
			// it too.
			f := &fault{at: places[1]>>20<<20 + 1<<20 - 1, times: 2, spoil: spoil}
			p.add(f)
			s.fine(f.at, 1)
			s.notKept(f.at)
			if f.count() != 2 {
				t.Errorf("%d answers were broken, want 2", f.count())
			}
			s.recovered(p)
		})
	}
}

func TestRow06AnswerToAnotherQuestion(t *testing.T) {
	t.Parallel()
	// The cache is small: no block of one case is left when the next begins.
	p, s := faulty(t, unanswered, "--cache-size", "1MiB")
	for name, spoil := range map[string]func(*answer){
		"longer":                  longer,
		"longer than it says":     func(a *answer) { a.body = append(slices.Clone(a.body), "more"...) },
		"other Content-Range":     headed("Content-Range", fmt.Sprintf("bytes 0-%d/%d", some-1, len(reference()))),
		"another size":            headed("Content-Range", fmt.Sprintf("bytes 0-%d/%d", some-1, 1<<20)),
		"no Content-Range":        headed("Content-Range", ""),
		"the whole object":        whole200,
		"several parts":           severalParts,
		"compressed":              headed("Content-Encoding", "gzip"),
		"a page for people":       func(a *answer) { status(200)(a); a.body = []byte("<html>sign in</html>"); a.header = http.Header{} },
		"nothing, as if all well": status(206),
	} {
		t.Run(name, func(t *testing.T) {
			for _, at := range append([]int64{places[0], places[2]}, places[4:]...) {
				s.fine(at, some)
			}
			before := p.touched(places[1])
			once, always := &fault{at: places[1], times: 1, spoil: spoil}, &fault{at: places[3], spoil: spoil}
			p.add(once, always)
			_ = s.ask(places[1], some) // right bytes or an error
			if err := s.ask(places[3], some); err == nil && name != "longer than it says" {
				t.Error("served from answers to another question")
			}
			if once.count() != 1 || always.count() == 0 || p.touched(places[1]) == before {
				t.Error("the byte was cached: this proves nothing")
			}
			s.notKept(places[1])
			s.notKept(places[3])
			p.heal()
			for _, at := range []int64{places[1], places[3]} {
				testkit.Eventually(t, "the right answer", func() bool { return s.ask(at, some) == nil })
			}
		})
	}
	s.recovered(p)
}

// whole200 answers as a server without ranges.
func whole200(a *answer) {
	a.status, a.body = 200, reference()
	a.header.Del("Content-Range")
	a.header.Set("Content-Length", fmt.Sprint(len(a.body)))
}

// severalParts answers in the format for several ranges.
func severalParts(a *answer) {
	a.body = slices.Concat([]byte("--b\r\nContent-Range: "+a.header.Get("Content-Range")+"\r\n\r\n"), a.body, []byte("\r\n--b--\r\n"))
	a.header.Del("Content-Range")
	a.header.Set("Content-Type", "multipart/byteranges; boundary=b")
	a.header.Set("Content-Length", fmt.Sprint(len(a.body)))
}

func TestRow07WrongBytes(t *testing.T) {
	t.Parallel()
	for name, other := range map[string]func(a *answer) []byte{
		"a flipped bit": func(a *answer) []byte {
			body := slices.Clone(a.body)
			body[places[1]-min(a.at.first, places[1])] ^= 1
			return body
		},
		"those of another place": func(a *answer) []byte { return reference()[a.at.first-1<<20:][:len(a.body)] },
		"zeros":                  func(a *answer) []byte { return make([]byte, len(a.body)) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p, s := faulty(t, unanswered)
			p.add(&fault{at: places[1], times: 1, spoil: replaced(other)})
			s.fine(places[1], some)
			s.says("sha256")
			always := &fault{at: places[1] + 8<<20, spoil: replaced(func(a *answer) []byte {
				body := slices.Clone(other(&answer{at: a.at, body: a.body}))
				body[places[1]+8<<20-a.at.first] ^= 2
				return body
			})}
			p.add(always)
			s.refused(always.at, some)
			_ = s.pread(always.at, some)
			s.notKept(places[1])
			s.notKept(always.at)
			if always.count() < 2 {
				t.Error("wrong bytes were not requested again")
			}
			s.recovered(p)
		})
	}
}

func TestRow08OverwrittenObject(t *testing.T) {
	t.Parallel()
	p, s := faulty(t, unanswered)
	s.fine(places[0], some)
	tag := func(etag string) { p.mu.Lock(); p.etag = etag; p.mu.Unlock() }
	// From now on the name has another object, of the same size.
	tag(`"second"`)
	p.add(&fault{all: true, spoil: replaced(func(a *answer) []byte { return bytes.Repeat([]byte{0xa5}, len(a.body)) })})
	s.refused(places[1], some)
	s.refused(places[0], 8<<20) // starts with cached bytes
	s.fine(places[0], some)
	// Then the right object returns, under a third tag.
	tag(`"third"`)
	s.recovered(p)
}

func TestRow09ExpiredPermission(t *testing.T) {
	t.Parallel()
	for _, code := range []int{401, 403} {
		t.Run(fmt.Sprint(code), func(t *testing.T) {
			t.Parallel()
			p, s := faulty(t)
			s.fine(places[0], some)
			p.add(&fault{all: true, spoil: status(code)})
			s.refused(places[1], some)
			s.fine(places[0], some)
			s.says("expired")
			s.recovered(p)
		})
	}
}

func TestRow10NoHEAD(t *testing.T) {
	t.Parallel()
	need(t, "nginx")
	p := newFaultProxy(t)
	files := p.static
	p.static = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodHead {
			w.WriteHeader(http.StatusForbidden)
			return
		}
		files.ServeHTTP(w, r)
	})
	s := serve(t, "--base", p.url())
	s.all()
}

func TestRow11RefusedConnections(t *testing.T) {
	t.Parallel()
	p, s := faulty(t, unanswered)
	s.fine(places[0], some)
	p.down()
	s.refused(places[1], some)
	s.fine(places[0], some)
	s.says("connection refused")
	p.up()
	s.recovered(p)

	t.Run("back within the deadline", func(t *testing.T) {
		p, s := faulty(t)
		s.fine(places[0], some)
		p.down()
		var waits sync.WaitGroup
		waits.Go(func() { s.fine(places[1], some) })
		s.fine(places[0], some)
		p.up()
		waits.Wait()
	})
}

func TestRow17ManyReadersOneFetch(t *testing.T) {
	t.Parallel()
	p, s := faulty(t, "--hedge=false") // the answer is late on purpose, and must not be requested twice
	const readers = 64
	open := make(chan struct{})
	f := &fault{at: places[1], spoil: held(open)}
	p.add(f)
	var asking, all sync.WaitGroup
	asking.Add(readers)
	for i := range readers {
		all.Go(func() {
			asking.Done()
			// The ranges overlap, within one block.
			s.fine(places[1]/some*some+int64(i), 2*pageSize)
		})
	}
	asking.Wait()
	testkit.Eventually(t, "the request for the block", func() bool { return f.count() > 0 })
	close(open)
	all.Wait()
	if n := p.touched(places[1]); n != 1 {
		t.Errorf("%d readers of one block cost the origin %d requests", readers, n)
	}
	s.recovered(p)
}

func TestRow18KilledReader(t *testing.T) {
	t.Parallel()
	need(t, "dd")
	p, s := faulty(t, "--hedge=false") // as above
	open := make(chan struct{})
	f := &fault{at: places[1], spoil: held(open)}
	p.add(f)
	dd := func() *exec.Cmd {
		cmd := exec.Command("dd", "if="+s.mount()+matrixImage, "of=/dev/null", "bs=64k", "count=1", fmt.Sprintf("skip=%d", places[1]/some))
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = cmd.Process.Kill() })
		return cmd
	}
	// isofs starts the fetch for this first reader, which is killed.
	leader := dd()
	testkit.Eventually(t, "the request for the block", func() bool { return f.count() > 0 })
	follower := dd()
	var others sync.WaitGroup
	others.Go(func() { s.fine(places[1], some) })
	others.Go(func() {
		if err := s.pread(places[1], some); err != nil {
			t.Error(err)
		}
	})
	kill(t, leader.Process.Pid)
	if err := leader.Wait(); err == nil || !strings.Contains(err.Error(), "killed") {
		t.Errorf("the first reader ended with %v", err)
	}
	close(open)
	others.Wait()
	if err := follower.Wait(); err != nil {
		t.Errorf("a reader beside the killed one: %v", err)
	}
	if n := p.touched(places[1]); n != 1 {
		t.Errorf("the block was requested %d times", n)
	}
	s.recovered(p)
}

func TestRow21SlowTail(t *testing.T) {
	t.Parallel()
	p, s := faulty(t, "--hedge=false")
	// Every twentieth answer comes a second late.
	var n atomic.Int32
	p.add(&fault{all: true, spoil: func(a *answer) {
		if n.Add(1)%20 == 0 {
			a.hold = after(t, slow)
		}
	}})
	s.all()
	var bytes int64
	for _, a := range p.requests() {
		bytes += a.end - a.first
	}
	if most := int64(len(reference())) * 11 / 10; bytes > most {
		t.Errorf("a slow tail cost %d bytes of a base of %d", bytes, len(reference()))
	}
	s.recovered(p)
}

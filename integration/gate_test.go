package integration

import (
	"io"
	"net"
	"sync"
	"testing"
)

// A gate is a TCP proxy. It passes a number of bytes of answers, and then holds all of its
// connections until release. So a download is cut at a byte, not at a time.
type gate struct {
	addr string
	to   string
	// spent is closed when the gate has passed all of these bytes.
	spent chan struct{}
	// release closes open: held connections are cut, later ones pass.
	open chan struct{}

	mu   sync.Mutex
	left int64 // guarded by mu
	used bool  // spent was closed; guarded by mu
}

func newGate(t *testing.T, to string, let int64) *gate {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	g := &gate{addr: l.Addr().String(), to: to, spent: make(chan struct{}), open: make(chan struct{}), left: let}
	t.Cleanup(func() {
		l.Close()
		g.release()
	})
	go func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return // the cleanup closed it
			}
			go g.carry(client)
		}
	}()
	return g
}

func (g *gate) url(path string) string { return "http://" + g.addr + path }

// release cuts the held connections. All later ones pass.
func (g *gate) release() {
	g.mu.Lock()
	defer g.mu.Unlock()
	select {
	case <-g.open:
	default:
		close(g.open)
	}
}

func (g *gate) carry(client net.Conn) {
	defer client.Close()
	server, err := net.Dial("tcp", g.to)
	if err != nil {
		return // the client sees that the connection ends
	}
	defer server.Close()
	go func() {
		_, _ = io.Copy(server, client) // ends with the connection
	}()
	buf := make([]byte, 32<<10)
	for {
		n, err := server.Read(buf)
		pass := g.take(n)
		if _, werr := client.Write(buf[:pass]); werr != nil || err != nil {
			return
		}
		if pass < n {
			<-g.open
			return
		}
	}
}

// take returns how many of n bytes may pass.
func (g *gate) take(n int) int {
	g.mu.Lock()
	defer g.mu.Unlock()
	select {
	case <-g.open:
		return n
	default:
	}
	pass := min(int64(n), g.left)
	g.left -= pass
	if g.left == 0 && !g.used {
		g.used = true
		close(g.spent)
	}
	return int(pass)
}

package main

import (
	"context"
	"net"
	"net/http"
	"net/url"
	"sync"
	"time"
)

// A distance is the path between a client and its origin: a delay before each
// answer, and bytes per second of each connection (0: no cap).
type distance struct {
	delay time.Duration
	rate  float64
}

// burst is how much unused time a connection keeps. It makes up for sleeps that
// last too long, which otherwise would halve the cap.
const burst = 50 * time.Millisecond

// A line is the schedule of one connection.
type line struct {
	mu   sync.Mutex
	next time.Time // when the bytes so far are through
}

type lineKey struct{}

// serveFar serves a folder as a distant origin.
func serveFar(dir string, d distance) (address string, stop func(), err error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", nil, err
	}
	files := http.FileServer(http.Dir(dir))
	server := &http.Server{
		ConnContext: func(ctx context.Context, _ net.Conn) context.Context {
			return context.WithValue(ctx, lineKey{}, &line{})
		},
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			time.Sleep(d.delay)
			if d.rate > 0 {
				w = farWriter{w, r.Context().Value(lineKey{}).(*line), d.rate}
			}
			files.ServeHTTP(w, r)
		}),
	}
	go func() { _ = server.Serve(listener) }() // ends by Close
	return "http://" + listener.Addr().String(), func() { server.Close() }, nil
}

type farWriter struct {
	http.ResponseWriter
	line *line
	rate float64
}

func (w farWriter) Write(p []byte) (int, error) {
	w.line.mu.Lock()
	defer w.line.mu.Unlock()
	if oldest := time.Now().Add(-burst); w.line.next.Before(oldest) {
		w.line.next = oldest
	}
	w.line.next = w.line.next.Add(time.Duration(float64(len(p)) / w.rate * float64(time.Second)))
	time.Sleep(time.Until(w.line.next))
	return w.ResponseWriter.Write(p)
}

func hostOf(address string) string {
	u, err := url.Parse(address)
	if err != nil {
		return ""
	}
	return u.Host
}

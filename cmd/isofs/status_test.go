package main

import (
	"bytes"
	"errors"
	"net"
	"net/http"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"aesthetic.computer/isofs/fault"
	"aesthetic.computer/isofs/server"
)

// TestStatus: the server's answer, a line for each thing, and an error if the
// server is not ready or does not run.
func TestStatus(t *testing.T) {
	s := runningServer{run: t.TempDir()}
	var out bytes.Buffer
	if err := s.print(t.Context(), &out); !errors.Is(err, fault.Unavailable) || !strings.Contains(err.Error(), filepath.Join(s.run, server.SocketName)) {
		t.Errorf("no server: %v", err)
	}
	ready := true
	mux := http.NewServeMux()
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		if ready {
			w.Write([]byte(`{"ready":true,"checks":{"mount":{"ok":true,"text":"fine"},"base":{"ok":true,"text":"there"}}}`))
			return
		}
		w.WriteHeader(http.StatusServiceUnavailable)
		w.Write([]byte(`{"ready":false,"checks":{"mount":{"ok":true,"text":"fine"},"base":{"ok":false,"text":"gone"}}}`))
	})
	mux.HandleFunc("GET /os-status", func(w http.ResponseWriter, _ *http.Request) {
		w.Write([]byte(`{"activeBuildCount":3,"recentBuilds":[{"target":"notepat","time":"2026-11-01T00:00:00Z"},{"target":"older"}]}`))
	})
	l, err := net.Listen("unix", filepath.Join(s.run, server.SocketName))
	if err != nil {
		t.Fatal(err)
	}
	web := http.Server{Handler: mux}
	go web.Serve(l)
	t.Cleanup(func() { web.Close() })
	for now, want := range map[bool]string{
		true:  `ready yes base ok there mount ok fine fetching 3 pieces at the moment last notepat 2026-11-01T00:00:00Z`,
		false: `ready no base failed gone mount ok fine fetching 3 pieces at the moment last notepat 2026-11-01T00:00:00Z`,
	} {
		ready = now
		out.Reset()
		err := s.print(t.Context(), &out)
		if got := strings.TrimSpace(regexp.MustCompile(`\s+`).ReplaceAllString(out.String(), " ")); got != want || (err == nil) != now {
			t.Errorf("ready %v: %q, %v", now, got, err)
		}
	}
}

package server

import (
	"context"
	"errors"
	"log/slog"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// The result of a probe holds for a bounded time, and no request waits for a
// look that hangs.
func TestProbe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hangs := make(chan struct{})
		var looks atomic.Int32
		var sick, hang atomic.Bool
		p := &probe{name: "thing", every: 10 * time.Second, look: func(context.Context) (string, error) {
			looks.Add(1)
			if hang.Load() {
				<-hangs
			}
			if sick.Load() {
				return "text", errors.New("sick")
			}
			return "text", nil
		}}
		want := func(when string, ok bool) {
			t.Helper()
			synctest.Wait()
			if got := p.state(); got.OK != ok || got.Name != "thing" || got.Text == "" {
				t.Errorf("%s: %+v, want %v", when, got, ok)
			}
		}
		want("before the first look", false)
		ctx, end := context.WithCancel(t.Context())
		go p.run(ctx, slog.New(slog.DiscardHandler))
		want("well", true)
		time.Sleep(9 * time.Second)
		if n := looks.Load(); n != 1 {
			t.Errorf("%d looks in 9 seconds", n)
		}
		sick.Store(true)
		time.Sleep(2 * time.Second)
		want("sick", false)
		sick.Store(false)
		time.Sleep(probeAgain)
		want("well again", true)
		hang.Store(true)
		time.Sleep(30 * time.Second)
		want("hanging, not for long", true)
		time.Sleep(10 * time.Second)
		want("hanging", false)
		close(hangs)
		want("it went on", true)
		end()
		synctest.Wait()
	})
}

func TestPublicBase(t *testing.T) {
	for address, want := range map[string]string{
		"https://cdn.example.com/bases/tiny/":                    "https://cdn.example.com/bases/tiny",
		"https://key:secret@cdn.example.com/b?X-Signature=abc#f": "https://cdn.example.com/b",
		"http://93.184.216.34/b":                                 "http://93.184.216.34/b",
		"/srv/bases/tiny":                                        "",
		"bases/tiny":                                             "",
		"file:///srv/bases":                                      "",
		"http://127.0.0.1:8000/b":                                "",
		"http://[::1]/b":                                         "",
		"http://10.1.2.3/b":                                      "",
		"http://[fd00::1]/b":                                     "",
		"http://minio:9000/b":                                    "",
		"http://store.internal/b":                                "",
		"http://a b/":                                            "",
	} {
		if got := publicBase(address); got != want {
			t.Errorf("%s is %q, want %q", address, got, want)
		}
	}
}

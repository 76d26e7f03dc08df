package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"
)

// hungOrders is how many clients wait for an oven that does not answer: the
// greatest number of fetches.
const hungOrders = 32

// orders measures /os for a known piece, beside a small file of plain nginx. It
// also measures the effect of a hanging oven on a download.
func (l *lab) orders(r *results) error {
	oven := newHungOven()
	defer oven.close()
	served, err := l.isofsServe("isofs", "direct", l.base, "--oven", oven.URL, "--oven-timeout", "90s", "--log-level", "error", "--limit-new-burst", "1000", "--limit-costly", "0")
	if err != nil {
		return err
	}
	defer served.stop()
	small := filepath.Join(l.dir, "small.txt")
	if err := os.WriteFile(small, []byte("a small file\n"), 0o644); err != nil {
		return err
	}
	plain, err := l.plain("plain nginx, a small file", directReads)
	if err != nil {
		return err
	}
	defer plain.stop()
	site := "http://" + hostOf(served.urls[0])
	file := "http://" + hostOf(plain.urls[0]) + "/" + filepath.Base(small)
	// For the work of a first request, and to warm the image.
	if _, err := get(l.ctx, served.urls[0], l.size); err != nil {
		return err
	}
	for round := range l.o.rounds {
		fmt.Fprintln(os.Stderr, "orders round", round+1)
		for _, connections := range []int{1, 16} {
			for _, c := range []struct {
				peer, url string
				status    int
			}{
				{"plain nginx, a small file", file, http.StatusOK},
				{"isofs /os", site + "/os?piece=p00", http.StatusFound},
			} {
				all, err := latencies(l.ctx, c.url, c.status, connections, l.o.requests)
				if err != nil {
					return err
				}
				name := fmt.Sprintf("latency, %d connections", connections)
				r.add(name, "p50 ms", c.peer, ms(percentile(all, 0.50)))
				r.add(name, "p99 ms", c.peer, ms(percentile(all, 0.99)))
			}
		}
		if err := l.besideHungOven(r, served.urls[0], site, oven, round); err != nil {
			return err
		}
	}
	return nil
}

// besideHungOven downloads with and without clients that wait for the oven.
// Rounds alternate the order.
func (l *lab) besideHungOven(r *results, url, site string, oven *hungOven, round int) error {
	n := min(l.o.bytes, l.size)
	download := func(peer string) error {
		begin := time.Now()
		_, err := get(l.ctx, url, n)
		r.add("a download", "MB/s", peer, float64(n)/1e6/time.Since(begin).Seconds())
		return err
	}
	without := func() error { return download("no client waits for the oven") }
	beside := func() error {
		release, err := oven.hang(l.ctx, site, round)
		if err != nil {
			return err
		}
		defer release()
		return download("32 wait for a hung oven")
	}
	if round%2 == 0 {
		return errors.Join(without(), beside())
	}
	return errors.Join(beside(), without())
}

// A hungOven answers no request before its gate opens.
type hungOven struct {
	*httptest.Server
	reached chan struct{}

	mu   sync.Mutex
	gate chan struct{} // guarded by mu
}

func newHungOven() *hungOven {
	v := &hungOven{reached: make(chan struct{}, 1000), gate: make(chan struct{})}
	v.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		v.mu.Lock()
		gate := v.gate
		v.mu.Unlock()
		v.reached <- struct{}{}
		select {
		case <-gate:
		case <-r.Context().Done():
		}
		http.Error(w, "out of flour", http.StatusInternalServerError)
	}))
	return v
}

func (v *hungOven) open() {
	v.mu.Lock()
	defer v.mu.Unlock()
	close(v.gate)
	v.gate = make(chan struct{})
}

func (v *hungOven) close() {
	v.CloseClientConnections()
	v.Close()
}

// hang makes clients wait for unknown pieces until release.
func (v *hungOven) hang(ctx context.Context, site string, round int) (release func(), err error) {
	ctx, leave := context.WithCancel(ctx)
	transport := &http.Transport{DisableKeepAlives: true}
	var all sync.WaitGroup
	for i := range hungOrders {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, fmt.Sprintf("%s/os?piece=none-%d-%d", site, round, i), nil)
		if err != nil {
			leave()
			return nil, err
		}
		all.Go(func() {
			if resp, err := transport.RoundTrip(req); err == nil {
				resp.Body.Close()
			}
		})
	}
	// The oven gets four requests at a time. The other clients wait for their
	// turn.
	for range 4 {
		select {
		case <-v.reached:
		case <-ctx.Done():
		}
	}
	return func() {
		// The oven keeps hanging for later requests.
		done := make(chan struct{})
		go func() { all.Wait(); close(done) }()
		for {
			v.open()
			select {
			case <-done:
				leave()
				for len(v.reached) > 0 {
					<-v.reached
				}
				return
			case <-time.After(10 * time.Millisecond):
			}
		}
	}, ctx.Err()
}

// latencies makes requests over that many open connections, and returns how
// long each took.
func latencies(ctx context.Context, url string, status, connections, requests int) ([]time.Duration, error) {
	transport := &http.Transport{MaxIdleConnsPerHost: connections}
	defer transport.CloseIdleConnections()
	took, failed := make([][]time.Duration, connections), make([]error, connections)
	var all sync.WaitGroup
	for i := range connections {
		all.Go(func() {
			for range requests / connections {
				begin := time.Now()
				if failed[i] = ask(ctx, transport, url, status); failed[i] != nil {
					return
				}
				took[i] = append(took[i], time.Since(begin))
			}
		})
	}
	all.Wait()
	return slices.Sorted(slices.Values(slices.Concat(took...))), errors.Join(failed...)
}

func ask(ctx context.Context, transport *http.Transport, url string, status int) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	resp, err := transport.RoundTrip(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		return err
	}
	if resp.StatusCode != status {
		return fmt.Errorf("get %s: %s, %d is expected", url, resp.Status, status)
	}
	return nil
}

// percentile of sorted values.
func percentile(sorted []time.Duration, p float64) time.Duration {
	if len(sorted) == 0 {
		return 0
	}
	return sorted[min(int(p*float64(len(sorted))), len(sorted)-1)]
}

// ordersMarkdown has the results of orders, or is empty without them.
func (r *results) ordersMarkdown() string {
	if len(r.rows) == 0 {
		return ""
	}
	return fmt.Sprintf("\n## /os\n\n%s\n- a download beside a hung oven, by one without: %.2f\n", r.table("plain nginx, a small file"),
		r.ratio("a download", "MB/s", "32 wait for a hung oven", "no client waits for the oven"))
}

package integration

import (
	"bufio"
	"context"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"aesthetic.computer/isofs/integration/testkit"
)

// A frame is an event of a stream.
type frame struct {
	kind string
	data map[string]any
}

func (f frame) String() string { return fmt.Sprint(f.kind, " ", f.data) }

// A watcher reads a stream as the prompt of aesthetic.computer does. It reads line by line, a
// literal "event: " and then a literal "data: ", and skips all else.
type watcher struct {
	t     *testing.T
	resp  *http.Response
	lines *bufio.Scanner
	err   error
}

// watch starts a stream.
func (s *server) watch(ctx context.Context, path string) *watcher {
	s.t.Helper()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.url(path), nil)
	if err != nil {
		s.t.Fatal(err)
	}
	resp, err := noRedirects.Do(req)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { resp.Body.Close() })
	if h := resp.Header; resp.StatusCode != http.StatusOK || h.Get("Content-Type") != "text/event-stream" || h.Get("Cache-Control") != "no-cache" || h.Get("X-Accel-Buffering") != "no" || h.Get("Access-Control-Allow-Origin") != "*" {
		s.t.Fatalf("%s is not a stream: %s %v", path, resp.Status, h)
	}
	return &watcher{t: s.t, resp: resp, lines: bufio.NewScanner(resp.Body)}
}

// next returns the next event; ok is false at the end.
func (w *watcher) next() (f frame, ok bool) {
	for w.lines.Scan() {
		line := w.lines.Text()
		if kind, ok := strings.CutPrefix(line, "event: "); ok {
			f.kind = strings.TrimSpace(kind)
			continue
		}
		text, ok := strings.CutPrefix(line, "data: ")
		if !ok || f.kind == "" {
			continue
		}
		if err := json.Unmarshal([]byte(text), &f.data); err != nil {
			w.t.Errorf("data %q: %v", text, err)
		}
		return f, true
	}
	w.err = w.lines.Err()
	return f, false
}

// rest returns all events up to the end.
func (w *watcher) rest() (frames []frame) {
	for {
		f, ok := w.next()
		if !ok {
			return frames
		}
		frames = append(frames, f)
	}
}

// events returns all events of a stream.
func (s *server) events(path string) []frame {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*patience)
	defer cancel()
	w := s.watch(ctx, path)
	frames := w.rest()
	if w.err != nil || len(frames) == 0 {
		s.t.Fatalf("%s: %d events, %v", path, len(frames), w.err)
	}
	return frames
}

func stagesOf(frames []frame) (stages []string) {
	for _, f := range frames {
		if f.kind == "progress" {
			stages = append(stages, fmt.Sprint(f.data["stage"]))
		}
	}
	return stages
}

// TestStreamOneByOne: each event arrives before the next one can be sent.
func TestStreamOneByOne(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	o := newOven(t, map[string]http.HandlerFunc{"piece=slow": bakedAfter(release, page("slow", 1000))})
	s := serve(t, "--oven", o.URL)
	ctx, cancel := context.WithTimeout(context.Background(), 2*patience)
	defer cancel()
	w := s.watch(ctx, "/os?piece=slow&format=stream")
	for _, want := range []string{"name", "bundle"} {
		f, ok := w.next()
		if !ok || f.kind != "progress" || f.data["stage"] != want || f.data["totalSteps"] != float64(6) {
			t.Fatalf("%v, want stage %s", f, want)
		}
	}
	close(release) // only now, so that no later event can have been sent
	frames := w.rest()
	if got := stagesOf(frames); !slices.Equal(got, []string{"volume", "digest", "warm", "done"}) {
		t.Errorf("then %q", got)
	}
	last := frames[len(frames)-1]
	sum := s.published("/slow-os.iso")
	if last.kind != "complete" || last.data["sha256"] != sum || last.data["filename"] != "slow-os.iso" || last.data["cached"] != false || last.data["size"] != float64(len(reference())) {
		t.Fatalf("the last is %v", last)
	}
	to, ok := strings.CutPrefix(fmt.Sprint(last.data["downloadUrl"]), "http://"+s.addr)
	if resp, body := s.get(to); !ok || resp.StatusCode != http.StatusOK || digest(body) != sum {
		t.Errorf("downloadUrl %v: %s", last.data["downloadUrl"], resp.Status)
	}
	again := s.events("/os?piece=slow&format=stream")
	if got := stagesOf(again); !slices.Equal(got, []string{"name", "warm", "done"}) || again[len(again)-1].data["cached"] != true {
		t.Errorf("again: %v", again)
	}
	if n := len(o.requests()); n != 1 {
		t.Errorf("the oven got %d requests", n)
	}
}

// TestManyWatchers: three hundred clients watch one piece and some leave. One client more than
// allowed gets an error.
func TestManyWatchers(t *testing.T) {
	t.Parallel()
	const many, leaving = 300, 50
	release := make(chan struct{})
	o := newOven(t, map[string]http.HandlerFunc{"piece=new": bakedAfter(release, page("new", 1000))})
	metrics := freeAddress(t)
	s := serve(t, "--oven", o.URL, "--limit-watchers", fmt.Sprint(many), "--metrics-listen", metrics)
	ctx, cancel := context.WithTimeout(context.Background(), 2*patience)
	defer cancel()
	impatient, leave := context.WithCancel(ctx)
	defer leave()
	before := gauges(t, metrics)
	watchers := make([]*watcher, many)
	for i := range watchers {
		of := ctx
		if i < leaving {
			of = impatient
		}
		watchers[i] = s.watch(of, "/os?piece=new&format=stream")
		for _, want := range []string{"name", "bundle"} {
			if f, ok := watchers[i].next(); !ok || f.data["stage"] != want {
				t.Fatalf("watcher %d: %v, want %s", i, f, want)
			}
		}
	}
	after := gauges(t, metrics)
	if n := after["isofs_watchers"]; n != many {
		t.Errorf("isofs_watchers is %v, want %d", n, many)
	}
	goroutines := (after["go_goroutines"] - before["go_goroutines"]) / many
	memory := (after["go_memstats_heap_inuse_bytes"] + after["go_memstats_stack_inuse_bytes"] - before["go_memstats_heap_inuse_bytes"] - before["go_memstats_stack_inuse_bytes"]) / many
	t.Logf("%.1f goroutines and %.0f bytes a watcher", goroutines, memory)
	if goroutines > 4 || memory > 100<<10 { // the race detector's memory included
		t.Errorf("%.1f goroutines and %.0f bytes a watcher", goroutines, memory)
	}
	if resp, body := s.get("/os?piece=new&format=stream"); resp.StatusCode != http.StatusServiceUnavailable || resp.Header.Get("Retry-After") == "" || !strings.HasPrefix(string(body), `{"error"`) {
		t.Errorf("one too many: %s %s", resp.Status, body)
	}
	leave()
	testkit.Eventually(t, "a place", func() bool {
		resp, _ := s.request(http.MethodHead, "/os?piece=new&format=stream")
		return resp.StatusCode == http.StatusOK
	})
	close(release)
	var all sync.WaitGroup
	for i, w := range watchers[leaving:] {
		all.Go(func() {
			frames := w.rest()
			if len(frames) != 5 || frames[4].kind != "complete" || w.err != nil {
				t.Errorf("watcher %d: %v (%v)", i, frames, w.err)
			}
		})
	}
	all.Wait()
	if n := len(o.requests()); n != 1 {
		t.Errorf("the oven got %d requests", n)
	}
}

// TestStopEndsStreams: when the server stops, clients that watch get an event. They do not delay
// the stop.
func TestStopEndsStreams(t *testing.T) {
	t.Parallel()
	for _, flags := range [][]string{nil, {"--user", "root"}} { // with two processes, and with one
		t.Run(strings.Join(flags, " "), func(t *testing.T) {
			t.Parallel()
			release := make(chan struct{})
			defer close(release)
			o := newOven(t, map[string]http.HandlerFunc{"piece=slow": bakedAfter(release, "")})
			// The grace is far longer than the test waits: the streams must end without nginx's
			// help.
			s := serve(t, append(flags, "--oven", o.URL, "--grace", "10m")...)
			ctx, cancel := context.WithTimeout(context.Background(), 2*patience)
			defer cancel()
			w := s.watch(ctx, "/os?piece=slow&format=stream")
			for range 2 {
				w.next()
			}
			s.stop()
			frames := w.rest()
			if len(frames) != 1 || frames[0].kind != "error" || frames[0].data["status"] != float64(503) || w.err != nil {
				t.Errorf("%v (%v)", frames, w.err)
			}
		})
	}
}

// gauges reads the metrics that have no labels.
func gauges(t *testing.T, address string) map[string]float64 {
	t.Helper()
	resp, err := http.Get("http://" + address + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	values := map[string]float64{}
	for line := range strings.Lines(string(readAll(t, resp))) {
		name, text, _ := strings.Cut(strings.TrimSpace(line), " ")
		if value, err := strconv.ParseFloat(text, 64); err == nil {
			values[name] = value
		}
	}
	return values
}

func base64OfHex(t *testing.T, text string) string {
	t.Helper()
	data, err := hex.DecodeString(text)
	if err != nil {
		t.Fatal(err)
	}
	return base64.StdEncoding.EncodeToString(data)
}

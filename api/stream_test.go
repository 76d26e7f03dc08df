package api

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"aesthetic.computer/isofs/catalog"
)

// A frame is an event as a client reads it.
type frame struct {
	kind string
	data map[string]any
}

// framesOf reads a stream as the prompt of aesthetic.computer does: by lines,
// with a literal "event: " and then a literal "data: ".
func framesOf(t *testing.T, got *httptest.ResponseRecorder) (frames []frame) {
	t.Helper()
	if h := got.Header(); got.Code != 200 || h.Get("Content-Type") != "text/event-stream" || h.Get("Cache-Control") != "no-cache" || h.Get("X-Accel-Buffering") != "no" || h.Get("Connection") != "keep-alive" {
		t.Fatalf("no stream: %d, %v, %s", got.Code, h, got.Body)
	}
	kind := ""
	for lines := bufio.NewScanner(got.Body); lines.Scan(); {
		line := lines.Text()
		if k, ok := strings.CutPrefix(line, "event: "); ok {
			kind = k
		} else if text, ok := strings.CutPrefix(line, "data: "); ok {
			f := frame{kind: kind}
			if err := json.Unmarshal([]byte(text), &f.data); err != nil || kind == "" {
				t.Fatalf("frame %q of %q: %v", text, kind, err)
			}
			frames = append(frames, f)
			kind = ""
		} else if line != "" && line != ": heartbeat" {
			t.Errorf("a line that is none: %q", line)
		}
	}
	if len(frames) == 0 {
		t.Fatal("no events")
	}
	return frames
}

func stagesOf(t *testing.T, frames []frame) (stages []string) {
	t.Helper()
	for _, f := range frames {
		if f.kind != "progress" {
			continue
		}
		stage := f.data["stage"].(string)
		stages = append(stages, stage)
		if f.data["step"] != float64(slices.Index(steps, stage)+1) || f.data["totalSteps"] != float64(len(steps)) || f.data["message"] == "" {
			t.Errorf("progress %v", f.data)
		}
	}
	return stages
}

func TestStream(t *testing.T) {
	r := newRig(t, catalog.Limits{})
	for _, cached := range []bool{false, true} {
		frames := framesOf(t, r.ask("GET", "/os?piece=notepat&format=stream", "X-Forwarded-Proto: https"))
		want := []string{"name", "bundle", "volume", "digest", "warm", "done"}
		if cached {
			want = []string{"name", "warm", "done"}
		}
		if got := stagesOf(t, frames); !slices.Equal(got, want) {
			t.Errorf("stages %q, want %q", got, want)
		}
		s := r.current("notepat", 0)
		last := frames[len(frames)-1]
		for key, want := range map[string]any{
			"message": "notepat-os.iso is ready", "downloadUrl": "https://isofs.example/s/" + s.ID() + "/notepat-os.iso", "filename": "notepat-os.iso",
			"cached": cached, "flavor": "tiny", "sha256": s.SHA256().String(), "size": float64(s.Size()), "snapshot": s.ID(),
		} {
			if last.kind != "complete" || last.data[key] != want {
				t.Errorf("%s: %s is %v, want %v", last.kind, key, last.data[key], want)
			}
		}
		timings, _ := last.data["timings"].(map[string]any)
		for _, key := range []string{"bundle", "volume", "digest", "warm", "total"} {
			if _, ok := timings[key].(float64); !ok {
				t.Errorf("timings without %s: %v", key, timings)
			}
		}
		if _, ok := last.data["elapsed"].(float64); !ok || len(last.data) != 10 {
			t.Errorf("complete: %v", last.data)
		}
	}
	if got := r.ask("HEAD", "/os?piece=none&format=stream"); got.Code != 200 || got.Header().Get("Content-Type") != "text/event-stream" || got.Body.Len() > 0 {
		t.Errorf("HEAD: %d, %q", got.Code, got.Body)
	}
}

// Each frame is two lines and an empty one, byte for byte.
func TestFrame(t *testing.T) {
	var out strings.Builder
	if err := writeEvent(&out, event{"progress", progressData{"name", "two\nlines\r", 1, 6}}); err != nil {
		t.Fatal(err)
	}
	if want := "event: progress\ndata: {\"stage\":\"name\",\"message\":\"two\\nlines\\r\",\"step\":1,\"totalSteps\":6}\n\n"; out.String() != want {
		t.Errorf("%q", out.String())
	}
}

// The image is read before an event calls it ready.
func TestAnImageThatCannotBeRead(t *testing.T) {
	r := newRig(t, catalog.Limits{})
	s := r.current("notepat", 0)
	r.losesItsBundle(s)
	frames := framesOf(t, r.ask("GET", "/os?piece=notepat&format=stream"))
	last := frames[len(frames)-1]
	if last.kind != "error" || last.data["status"] != float64(503) || !strings.Contains(last.data["error"].(string), "cannot be read") {
		t.Errorf("%v", last)
	}
}

// watching is a client that may leave. It returns the stream up to its end.
func (r *rig) watching(ctx context.Context) <-chan *httptest.ResponseRecorder {
	done := make(chan *httptest.ResponseRecorder, 1)
	go func() {
		w := httptest.NewRecorder()
		r.handler.ServeHTTP(w, httptest.NewRequestWithContext(ctx, "GET", "http://isofs.example/os?piece=notepat&format=stream", nil))
		done <- w
	}()
	return done
}

// held is a rig whose shop gives out no bundle before the gate opens.
func held(t *testing.T) *rig {
	r := newRig(t, catalog.Limits{})
	r.shop.gate, r.shop.fetching = make(chan struct{}), make(chan string, 10)
	return r
}

func TestHeartbeats(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := held(t)
		done := r.watching(t.Context())
		<-r.shop.fetching
		time.Sleep(4*heartbeat + time.Second)
		close(r.shop.gate)
		got := <-done
		if n := strings.Count(got.Body.String(), ": heartbeat\n\n"); n != 4 {
			t.Errorf("%d heartbeats in a minute: %s", n, got.Body)
		}
		frames := framesOf(t, got)
		if last := frames[len(frames)-1]; last.kind != "complete" || last.data["elapsed"] != float64(61_000) {
			t.Errorf("%v", last)
		}
		r.catalog.Close()
	})
}

// A client that leaves does not end the build, and frees its place.
func TestWatchersComeAndGo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := held(t)
		const most = 3
		r.handler = New(Config{Catalog: r.catalog, Watchers: most})
		ctx, leave := context.WithCancel(t.Context())
		leaving, stays := r.watching(ctx), r.watching(t.Context())
		<-r.shop.fetching
		late := r.watching(t.Context())
		synctest.Wait()
		refused := r.ask("GET", "/os?piece=notepat&format=stream")
		if refused.Code != 503 || refused.Header().Get("Retry-After") == "" || refused.Header().Get("Content-Type") != "application/json" {
			t.Errorf("one too many: %d, %v, %s", refused.Code, refused.Header(), refused.Body)
		}
		leave()
		<-leaving
		again := r.watching(t.Context())
		synctest.Wait()
		close(r.shop.gate)
		for _, done := range []<-chan *httptest.ResponseRecorder{stays, late, again} {
			frames := framesOf(t, <-done)
			if last := frames[len(frames)-1]; last.kind != "complete" || !slices.Equal(stagesOf(t, frames), steps) {
				t.Errorf("%v", frames)
			}
		}
		if len(r.shop.fetching) != 0 {
			t.Error("it was fetched twice")
		}
		r.catalog.Close()
	})
}

func TestAStopEndsStreams(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := held(t)
		stopping := make(chan struct{})
		r.handler = New(Config{Catalog: r.catalog, Stopping: stopping})
		done := r.watching(t.Context())
		<-r.shop.fetching
		close(stopping)
		frames := framesOf(t, <-done)
		if last := frames[len(frames)-1]; last.kind != "error" || last.data["status"] != float64(503) {
			t.Errorf("%v", frames)
		}
		close(r.shop.gate)
		r.catalog.Close()
	})
}

func (f frame) String() string { return fmt.Sprint(f.kind, " ", f.data) }

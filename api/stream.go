package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"time"

	"aesthetic.computer/isofs/catalog"
	"aesthetic.computer/isofs/piece"
)

const (
	// heartbeat is the longest silence of a stream. nginx ends a silent one
	// after two minutes, and other proxies may be less patient.
	heartbeat = 15 * time.Second
	// warmBytes of the image are fetched before a stream calls it ready, so
	// that the download starts at once. warmTime bounds all except the first
	// block.
	warmBytes = 1 << 20
	warmTime  = 10 * time.Second
	// defaultWatchers bounds the streams at once.
	defaultWatchers = 500
	// mostEvents is more than the events of a stream, without heartbeats.
	mostEvents = 16
)

// errStopping ends the streams when the server stops.
var errStopping = &statusError{http.StatusServiceUnavailable, "the server is being restarted; try again in a few seconds"}

// steps are the stages of a stream, in order. A stream leaves out a stage
// without work, as for an image that already exists.
var steps = []string{"name", "bundle", "volume", "digest", "warm", "done"}

// signedSteps are those of a server that signs.
var signedSteps = []string{"name", "bundle", "volume", "digest", "signature", "warm", "done"}

// An event is one frame of a stream.
type event struct {
	kind string // progress, complete or error
	data any
}

func (e event) last() bool { return e.kind != "progress" }

// progressData is the data of a progress event.
type progressData struct {
	Stage      string `json:"stage"`
	Message    string `json:"message"`
	Step       int    `json:"step"`
	TotalSteps int    `json:"totalSteps"`
}

// completeData is the data of a complete event. Times are in milliseconds.
type completeData struct {
	Message     string      `json:"message"`
	DownloadURL string      `json:"downloadUrl"`
	Elapsed     int64       `json:"elapsed"`
	Filename    string      `json:"filename"`
	Timings     timingsData `json:"timings"`
	Cached      bool        `json:"cached"`
	Flavor      string      `json:"flavor"`
	SHA256      string      `json:"sha256"`
	Size        int64       `json:"size"`
	Snapshot    string      `json:"snapshot"`
}

// timingsData are milliseconds.
type timingsData struct {
	Bundle int64 `json:"bundle"`
	Volume int64 `json:"volume"`
	Digest int64 `json:"digest"`
	// Signature is set if images are signed.
	Signature int64 `json:"signature,omitempty"`
	Warm      int64 `json:"warm"`
	Total     int64 `json:"total"`
}

func newTimings(t catalog.Timings, warm, total time.Duration) timingsData {
	return timingsData{t.Bundle.Milliseconds(), t.Volume.Milliseconds(), t.Digest.Milliseconds(), t.Signature.Milliseconds(), warm.Milliseconds(), total.Milliseconds()}
}

// errorData is the data of an error event.
type errorData struct {
	Error  string `json:"error"`
	Status int    `json:"status"` // of the same answer without a stream
	// RetryAfter is that of such an answer, in seconds, or 0.
	RetryAfter int `json:"retryAfter,omitempty"`
}

func newErrorData(err error) errorData {
	reply := replyTo(err)
	return errorData{Error: reply.text, Status: reply.status, RetryAfter: reply.retry}
}

// stream answers with the events of an image's build, as they happen.
func (s *server) stream(w http.ResponseWriter, r *http.Request, name piece.Name) error {
	select {
	case s.watchers <- struct{}{}:
		s.Watched(1)
		defer func() { s.Watched(-1); <-s.watchers }()
	default:
		return &statusError{http.StatusServiceUnavailable, fmt.Sprintf("too many clients are watching at the moment; download without format=stream, or try again in %d seconds", int(defaultRetry.Seconds()))}
	}
	h := w.Header()
	h.Set("Content-Type", "text/event-stream")
	h.Set("Cache-Control", "no-cache")
	h.Set("Connection", "keep-alive")
	h.Set("X-Accel-Buffering", "no")
	w.WriteHeader(http.StatusOK)
	if r.Method == http.MethodHead {
		return nil
	}
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	// With room for all events, so that follow never waits for the client.
	events := make(chan event, mostEvents)
	address := s.address(r)
	go s.follow(ctx, name, address, events)
	s.relay(ctx, w, events)
	return nil
}

// relay writes events to the client until the last one. Heartbeats between them
// keep the connection alive.
func (s *server) relay(ctx context.Context, w http.ResponseWriter, events <-chan event) {
	flush := http.NewResponseController(w).Flush
	if flush() != nil {
		return // the client has left
	}
	beat := time.NewTicker(heartbeat)
	defer beat.Stop()
	for {
		var err error
		last := false
		select {
		case e := <-events:
			err, last = writeEvent(w, e), e.last()
		case <-beat.C:
			_, err = io.WriteString(w, ": heartbeat\n\n")
		case <-s.Stopping:
			err, last = writeEvent(w, event{"error", newErrorData(errStopping)}), true
		case <-ctx.Done():
			return
		}
		if err = errors.Join(err, flush()); err != nil || last {
			return
		}
	}
}

// writeEvent writes a frame: two lines and an empty one. Clients match the
// beginnings of the lines exactly. The JSON has no line breaks.
func writeEvent(w io.Writer, e event) error {
	data, err := json.Marshal(e.data)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(w, "event: %s\ndata: %s\n\n", e.kind, data)
	return err
}

// follow starts the image's build, or joins it, and sends its events. It never
// waits for the client.
func (s *server) follow(ctx context.Context, name piece.Name, address string, events chan<- event) {
	start := time.Now()
	all := steps
	if s.Catalog.Signs() {
		all = signedSteps
	}
	progress := func(step string, format string, args ...any) {
		events <- event{"progress", progressData{step, fmt.Sprintf(format, args...), slices.Index(all, step) + 1, len(all)}}
	}
	progress("name", "Looking for %s", name)
	build, err := s.Catalog.Watch(ctx, name, func(stage catalog.Stage) {
		switch stage {
		case catalog.StageBundle:
			progress("bundle", "Fetching the bundle of %s", name)
		case catalog.StageVolume:
			progress("volume", "Laying out the volume")
		case catalog.StageDigest:
			progress("digest", "Computing the digest of the image")
		case catalog.StageSignature:
			progress("signature", "Signing the image")
		}
	})
	snap := build.Snapshot
	warmStart := time.Now()
	if err == nil {
		progress("warm", "Fetching the beginning of %s", snap.FileName())
		err = s.warm(ctx, snap)
	}
	if err != nil {
		if ctx.Err() == nil {
			events <- event{"error", s.errorOf(name, err)}
		}
		return
	}
	progress("done", "%s is ready", snap.FileName())
	end := time.Now()
	events <- event{"complete", completeData{
		Message:     snap.FileName() + " is ready",
		DownloadURL: address + snapshotPath(snap),
		Elapsed:     end.Sub(start).Milliseconds(),
		Filename:    snap.FileName(),
		Timings:     newTimings(build.Timings, end.Sub(warmStart), end.Sub(start)),
		Cached:      build.Unchanged,
		Flavor:      snap.Base().Flavor,
		SHA256:      snap.SHA256().String(),
		Size:        snap.Size(),
		Snapshot:    snap.ID(),
	}}
}

// errorOf is the event of an error. If the fault is ours, it goes to the log
// too.
func (s *server) errorOf(name piece.Name, err error) errorData {
	err = nameMissing(name, err)
	data := newErrorData(err)
	if data.Status >= 500 {
		s.Log.Warn("stream failed", "piece", name, "status", data.Status, "err", err)
	}
	return data
}

// warm fetches and verifies the beginning of an image. It fails if the image
// cannot be read. If the base is only slow, the first block is enough.
func (s *server) warm(ctx context.Context, snap *catalog.Snapshot) error {
	h, err := snap.Open()
	if err != nil {
		return &unreadableError{err}
	}
	defer h.Close()
	end := min(warmBytes, snap.Size())
	h.Prefetch(0, end)
	// A few bytes of each block: the cache fetches and compares whole blocks.
	block := max(snap.Base().BlockSize, 4096)
	part := make([]byte, min(firstRead, end))
	if _, err := h.ReadAtContext(ctx, part, 0); err != nil {
		return &unreadableError{err}
	}
	rest, cancel := context.WithTimeout(ctx, warmTime)
	defer cancel()
	for off := block; off < end; off += block {
		if _, err := h.ReadAtContext(rest, part[:min(firstRead, end-off)], off); err != nil {
			if rest.Err() != nil && ctx.Err() == nil {
				return nil
			}
			return &unreadableError{err}
		}
	}
	return nil
}

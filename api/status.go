package api

import (
	"encoding/json"
	"net/http"
	"time"

	"aesthetic.computer/isofs/catalog"
)

// A Check is the state of one thing that serving depends on, as of a moment
// ago.
type Check struct {
	Name string // "mount", "base", "nginx"
	OK   bool
	Text string // for strangers: no paths and no addresses
}

// ready answers 200 if a load balancer should send clients here, or 503 and the
// check that failed. It only reports known states, so it never waits.
func (s *server) ready(w http.ResponseWriter, _ *http.Request) error {
	type found struct {
		OK   bool   `json:"ok"`
		Text string `json:"text"`
	}
	body := struct {
		Ready  bool             `json:"ready"`
		Checks map[string]found `json:"checks"`
	}{true, map[string]found{}}
	if s.Ready != nil {
		for _, c := range s.Ready() {
			body.Checks[c.Name] = found{c.OK, c.Text}
			body.Ready = body.Ready && c.OK
		}
	}
	status := http.StatusOK
	if !body.Ready {
		status = http.StatusServiceUnavailable
		w.Header().Set("Retry-After", "10")
	}
	return writeJSON(w, status, body)
}

// buildData is a build, with the fields of the oven's status.
type buildData struct {
	BuildID   string      `json:"buildId"`
	Target    string      `json:"target"`
	IsJSPiece bool        `json:"isJSPiece"`
	Density   int         `json:"density"`
	Flavor    string      `json:"flavor"`
	Elapsed   int64       `json:"elapsed"`
	Timings   timingsData `json:"timings"`
	Cached    bool        `json:"cached"`
	CDNURL    string      `json:"cdnUrl"`
	Time      string      `json:"time"`
}

// osStatus answers /os-status with the present and past builds.
func (s *server) osStatus(w http.ResponseWriter, r *http.Request) error {
	body := struct {
		Active   int         `json:"activeBuildCount"`
		Most     int         `json:"maxConcurrent"`
		Recent   []buildData `json:"recentBuilds"`
		Image    string      `json:"baseImageUrl"`
		Manifest string      `json:"manifestUrl"`
	}{Recent: []buildData{}}
	body.Active, body.Most = s.Catalog.Building()
	if s.BaseURL != nil && s.BaseURL() != "" {
		body.Image, body.Manifest = s.BaseURL()+"/base.iso", s.BaseURL()+"/manifest.json"
	}
	for _, b := range s.Catalog.Builds() {
		body.Recent = append(body.Recent, s.describe(b, s.address(r)))
	}
	return writeJSON(w, http.StatusOK, body)
}

func (s *server) describe(b catalog.Build, address string) buildData {
	snap, took := b.Snapshot, b.Timings.Bundle+b.Timings.Volume+b.Timings.Digest
	key, target := snap.Piece().Query()
	density := snap.Piece().Density()
	if density == 0 {
		density = s.Catalog.Density()
	}
	return buildData{
		BuildID: snap.ID(), Target: target, IsJSPiece: key == "piece", Density: density,
		Flavor: snap.Base().Flavor, Elapsed: took.Milliseconds(), Timings: newTimings(b.Timings, 0, took),
		Cached: b.Unchanged, CDNURL: address + snapshotPath(snap), Time: b.Ended.UTC().Format(time.RFC3339),
	}
}

func writeJSON(w http.ResponseWriter, status int, body any) error {
	data, err := json.Marshal(body)
	if err != nil {
		return err
	}
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	_, _ = w.Write(append(data, '\n')) // the client may have left
	return nil
}

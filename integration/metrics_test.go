package integration

import (
	"io"
	"net/http"
	"os/exec"
	"strconv"
	"strings"
	"testing"
)

// TestMetrics: the cache's metrics match the downloads, in the format that Prometheus reads.
func TestMetrics(t *testing.T) {
	t.Parallel()
	address := freeAddress(t)
	s := serve(t, "--metrics-listen", address, "--oven", newOven(t, nil).URL)
	_, image := s.get("/notepat-os.iso")
	s.get("/unknown-os.iso")
	values, text := metrics(t, address)
	if len(image) == 0 || values["isofs_cache_misses_total"] == "" || values["isofs_cache_misses_total"] == "0" {
		t.Errorf("%d bytes were downloaded with %q misses", len(image), values["isofs_cache_misses_total"])
	}
	for _, none := range []string{"isofs_cache_corrupt_fetches_total", "isofs_cache_corrupt_disk_total", "isofs_cache_write_errors_total", "isofs_cache_scrub_wrong_total", "isofs_cache_degraded"} {
		if values[none] != "0" {
			t.Errorf("%s is %q", none, values[none])
		}
	}
	if promtool, err := exec.LookPath("promtool"); err == nil {
		check := exec.Command(promtool, "check", "metrics")
		check.Stdin = strings.NewReader(text)
		if out, err := check.CombinedOutput(); err != nil {
			t.Errorf("promtool: %v\n%s", err, out)
		}
	}
	if name := `isofs_origin_bytes_total{origin="` + baseDir + `/base.iso"}`; values[name] == "" || values[name] == "0" {
		t.Errorf("%s is %q", name, values[name])
	}
	// The bytes read add up to the image: its base, its volume and its bundle.
	read := 0
	for name, value := range values {
		if strings.HasPrefix(name, "isofs_read_bytes_total{") {
			n, err := strconv.ParseFloat(value, 64)
			if err != nil {
				t.Error(err)
			}
			read += int(n)
		}
	}
	if read < len(image) {
		t.Errorf("%d bytes were read of an image of %d", read, len(image))
	}
	for name, want := range map[string]string{
		"isofs_pieces": "1", "isofs_snapshots": "1", "isofs_piece_fetches": "0",
		`isofs_api_requests_total{route="/{file}",status="2xx"}`: "1",
		`isofs_api_requests_total{route="/{file}",status="4xx"}`: "1",
		`isofs_oven_seconds_count{result="missing"}`:             "1",
		`isofs_refused_total{limit="new_names_of_client"}`:       "0",
	} {
		if values[name] != want {
			t.Errorf("%s is %q, want %q", name, values[name], want)
		}
	}
	for _, some := range []string{`isofs_cache_fill_seconds_count{result="ok"}`, `isofs_read_bytes_total{how="copied",source="volume"}`, "isofs_open_images"} {
		if values[some] == "" || values[some] == "0" && some != "isofs_open_images" {
			t.Errorf("%s is %q", some, values[some])
		}
	}
	// The public address does not serve metrics.
	if resp, _ := s.get("/metrics"); resp.StatusCode != http.StatusNotFound {
		t.Errorf("the public address answers /metrics with %s", resp.Status)
	}
}

// metrics returns the metrics at an address: their values by name, and the whole text.
func metrics(t *testing.T, address string) (values map[string]string, text string) {
	t.Helper()
	resp, err := http.Get("http://" + address + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("%s, %v", resp.Status, err)
	}
	values = map[string]string{}
	for line := range strings.Lines(string(body)) {
		if name, value, ok := strings.Cut(strings.TrimSpace(line), " "); ok && !strings.HasPrefix(name, "#") {
			values[name] = value
		}
	}
	return values, string(body)
}

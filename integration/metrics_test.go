package integration

import (
	"io"
	"net/http"
	"os/exec"
	"strings"
	"testing"
)

// TestMetrics: the figures of the cache are those of what was downloaded, in
// the form that Prometheus reads.
func TestMetrics(t *testing.T) {
	t.Parallel()
	address := freeAddress(t)
	s := serve(t, "--metrics-listen", address)
	_, image := s.get("/notepat-os.iso")
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
	// The public address has none of it.
	if resp, _ := s.get("/metrics"); resp.StatusCode != http.StatusNotFound {
		t.Errorf("the public address answers /metrics with %s", resp.Status)
	}
}

// metrics are the values that are told at an address, by their names, and the
// text that tells them.
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

package integration

import (
	"os/exec"
	"testing"
)

func TestDownloadHasThePublishedDigest(t *testing.T) {
	need(t, "wget", "sha256sum")
	s := serve(t)
	dir := t.TempDir()
	for _, name := range []string{"notepat-os.iso", "notepat-os.iso.sha256"} {
		if out, err := exec.Command("wget", "-q", "-P", dir, s.url("/"+name)).CombinedOutput(); err != nil {
			t.Fatalf("wget %s: %v\n%s", name, err, out)
		}
	}
	check := exec.Command("sha256sum", "-c", "notepat-os.iso.sha256")
	check.Dir = dir
	if out, err := check.CombinedOutput(); err != nil {
		t.Fatalf("sha256sum -c: %v\n%s", err, out)
	}
}

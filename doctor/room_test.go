package doctor

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"aesthetic.computer/isofs/server"
)

// TestDoctorLooksAtRoom: a server would run out of disk, memory or the base later.
func TestDoctorLooksAtRoom(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "x"), make([]byte, 1<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := roomFor(filepath.Join(dir, "none", "yet"), 1<<20); err != nil {
		t.Error(err)
	}
	if err := roomFor(dir, 1<<60); err == nil || !strings.Contains(err.Error(), "isofs has 1 MiB there") {
		t.Errorf("no room: %v", err)
	}
	if err := memoryFor(1 << 60); err == nil || memoryFor(1<<20) != nil {
		t.Errorf("no memory: %v", err)
	}
	var d Doctor
	d.Server.Stack.State, d.Server.Stack.Bases.Address = dir, filepath.Join(dir, "none")
	d.Server.Stack.Cache.Dir, d.Server.Stack.Cache.MaxBytes = filepath.Join(dir, "cache"), 1<<30
	d.Server.Web = &server.WebConfig{}
	d.Server.Web.Nginx.Limits.TotalConnections = 300
	var examined []string
	for _, c := range d.roomChecks() {
		examined = append(examined, c.what)
		if err := c.probe(t.Context()); strings.HasPrefix(c.what, "the base") && err == nil {
			t.Error("a base that is not there is well")
		}
	}
	if got := strings.Join(examined, "; "); got != "the base, "+d.Server.Stack.Bases.Address+"; room for 2GiB in "+dir+"; memory for 300 downloads at once" {
		t.Errorf("looked at: %s", got)
	}
	d.Server.Stack.Bases.Address = "" // none is given
	if first := d.roomChecks()[0].what; strings.Contains(first, "base") {
		t.Errorf("looked at %s", first)
	}
}

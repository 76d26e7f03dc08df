package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestDoctorLooksAtRoom: disk, memory and the base are what a server runs short of later.
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
	o := &serveFlags{}
	o.stack.state, o.stack.base = dir, filepath.Join(dir, "none")
	o.stack.cache.limit, o.web.limits.TotalConnections = 1<<30, 300
	var said []string
	for _, c := range roomChecks(o) {
		said = append(said, c.what)
		if err := c.probe(t.Context()); strings.HasPrefix(c.what, "the base") && err == nil {
			t.Error("a base that is not there is well")
		}
	}
	if got := strings.Join(said, "; "); got != "the base, "+o.stack.base+"; room for 2GiB in "+dir+"; memory for 300 downloads at once" {
		t.Errorf("looked at: %s", got)
	}
	o.stack.base = "-" // none is given
	if first := roomChecks(o)[0].what; strings.Contains(first, "base") {
		t.Errorf("looked at %s", first)
	}
}

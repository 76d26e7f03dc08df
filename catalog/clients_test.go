package catalog

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"aesthetic.computer/isofs/fault"
)

// openClients opens a client log in dir, and closes it when the test ends.
func openClients(t *testing.T, dir string, limit int) *clientLog {
	t.Helper()
	l, err := openClientLog(dir, limit, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.close() })
	return l
}

func visitor(i int) Client {
	return Client{Address: fmt.Sprintf("203.0.113.%d", i), Agent: "Wget/1.21"}
}

func (l *clientLog) mustRemember(t *testing.T, who Client, id string) {
	t.Helper()
	if err := l.remember(who, name("notepat"), id); err != nil {
		t.Fatal(err)
	}
}

func (l *clientLog) wantBegun(t *testing.T, who Client, exact bool, ids ...string) {
	t.Helper()
	if got, isExact := l.beginnings(who, name("notepat")); !slices.Equal(got, ids) || isExact != exact {
		t.Errorf("%v began with %v (its own: %v), want %v (%v)", who, got, isExact, ids, exact)
	}
}

func TestClientsAreBounded(t *testing.T) {
	dir := t.TempDir()
	l := openClients(t, dir, 10)
	for i := range 25 {
		l.mustRemember(t, visitor(i), fmt.Sprint("id", i))
	}
	check := func(l *clientLog) {
		t.Helper()
		l.wantBegun(t, visitor(14), false)
		l.wantBegun(t, visitor(15), true, "id15")
		l.wantBegun(t, visitor(24), true, "id24")
	}
	check(l)
	check(openClients(t, dir, 10))
	smaller := openClients(t, dir, 3)
	smaller.wantBegun(t, visitor(21), false)
	smaller.wantBegun(t, visitor(22), true, "id22")
}

func TestAgentsOfAnAddressAreBounded(t *testing.T) {
	dir := t.TempDir()
	l := openClients(t, dir, 10)
	agent := func(i int) Client { return Client{Address: "192.0.2.1", Agent: fmt.Sprint("agent", i)} }
	for i := range agentsKept + 1 {
		l.mustRemember(t, agent(i), fmt.Sprint("id", i%2))
	}
	check := func(l *clientLog) {
		t.Helper()
		l.wantBegun(t, agent(agentsKept), true, "id0")
		l.wantBegun(t, agent(1), true, "id1")
		l.wantBegun(t, agent(0), false, "id0", "id1") // the oldest went first
		// The oldest agent's snapshot stays, without the agent's name.
		if l.entries != agentsKept+1 {
			t.Errorf("%d entries, want %d", l.entries, agentsKept+1)
		}
	}
	check(l)
	check(openClients(t, dir, 10))
}

// However many agents an address has, the file is rewritten only now and then.
// It never grows beyond a few times the entries in memory.
func TestTheFileIsBounded(t *testing.T) {
	dir := t.TempDir()
	l := openClients(t, dir, 5)
	rewrites, last := 0, 0
	for i := range 2000 {
		l.mustRemember(t, Client{Address: fmt.Sprint(i % 5), Agent: fmt.Sprint(i % 50)}, fmt.Sprint("id", i))
		if l.lines < last {
			rewrites++
		}
		last = l.lines
		if limit := 4 * (5*2*agentsKept + agentsKept); l.lines > limit+1 {
			t.Fatalf("%d lines of %d entries", l.lines, l.entries)
		}
	}
	if rewrites == 0 || rewrites > 2000/(2*5*agentsKept) {
		t.Errorf("the file was rewritten %d times in 2000", rewrites)
	}
	data, err := os.ReadFile(filepath.Join(dir, clientsFile))
	if err != nil || bytes.Count(data, []byte("\n")) != l.lines {
		t.Errorf("the file has %d lines (%v), the log believes %d", bytes.Count(data, []byte("\n")), err, l.lines)
	}
}

func TestRememberingAgainWritesNothing(t *testing.T) {
	l := openClients(t, t.TempDir(), 5)
	for range 10 {
		l.mustRemember(t, wget, "id")
	}
	if l.lines != 1 {
		t.Errorf("%d lines for one fact", l.lines)
	}
}

func TestNoAddressIsWritten(t *testing.T) {
	r := newRig(t, Limits{})
	r.baked("notepat", "<p>1</p>")
	who := Client{Address: "2001:db8::1234", Agent: "Mozilla/5.0 (a secret)"}
	if _, err := r.Begin(t.Context(), who, name("notepat")); err != nil {
		t.Fatal(err)
	}
	r.stop()
	files := 0
	err := filepath.WalkDir(r.config.Dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		files++
		data, err := os.ReadFile(path)
		for _, secret := range []string{who.Address, "Mozilla", "secret"} {
			if strings.Contains(string(data), secret) {
				t.Errorf("%s has %q", path, secret)
			}
		}
		return err
	})
	if err != nil || files < 4 || strings.Contains(r.log.String(), who.Address) {
		t.Errorf("%d files (%v); log:\n%s", files, err, r.log)
	}
	for _, file := range []string{clientsFile, saltFile} {
		if fi, err := os.Stat(filepath.Join(r.config.Dir, file)); err != nil || fi.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s is readable by others: %v (%v)", file, fi.Mode(), err)
		}
	}
}

// Two installations do not recognize each other's clients. With a lost salt, an
// installation does not recognize its own.
func TestTheSaltIsTheInstallations(t *testing.T) {
	dir := t.TempDir()
	l := openClients(t, dir, 5)
	l.mustRemember(t, wget, "id")
	write(t, filepath.Join(dir, saltFile), "short")
	openClients(t, dir, 5).wantBegun(t, wget, false)
	if other := openClients(t, t.TempDir(), 5); other.key("a", name("b")) == l.key("a", name("b")) {
		t.Error("two installations have the same hashes")
	}
}

// When a write fails, the file's last line for that client has an older
// snapshot. After a restart that would mix two images.
func TestALineThatCouldNotBeWrittenIsMadeGood(t *testing.T) {
	dir := t.TempDir()
	l := openClients(t, dir, 5)
	l.mustRemember(t, wget, "old")
	good := l.file
	closed, err := os.Open(os.DevNull) // read-only: every write fails
	if err != nil {
		t.Fatal(err)
	}
	l.file = closed
	if err := l.remember(wget, name("notepat"), "new"); !errors.Is(err, fault.Unavailable) {
		t.Errorf("got %v", err)
	}
	good.Close()
	l.wantBegun(t, wget, true, "new")
	// A restart before there is room has no entry for the client, rather than
	// the old one.

	if l, err := openClientLog(dir, 5, time.Now); err != nil {
		t.Fatal(err)
	} else {
		l.wantBegun(t, wget, false)
	}
	l.retry = time.Now().Add(-time.Second)
	l.mustRemember(t, wget, "new") // no change, but the file lacks it
	openClients(t, dir, 5).wantBegun(t, wget, true, "new")
}

// TestAFullDiskIsNotWrittenToAllTheTime: while writes fail, the whole file is
// written at most every writePause, however many clients come.
func TestAFullDiskIsNotWrittenToAllTheTime(t *testing.T) {
	dir := t.TempDir()
	clock := &clock{now: time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)}
	l, err := openClientLog(dir, 20_000, clock.Now)
	if err != nil {
		t.Fatal(err)
	}
	// As on a full disk: writes to the file fail, and so does making another.
	l.file.Close()
	path := l.path
	l.path = filepath.Join(dir, "none", clientsFile)
	failed := 0
	for i := range 1000 {
		if err := l.remember(visitor(i), name("notepat"), fmt.Sprint("id", i)); err != nil {
			failed++
		}
		if i%100 == 99 {
			clock.add(10 * time.Second)
		}
	}
	if failed != 4 { // at 0, 30, 60 and 90 seconds
		t.Errorf("written to %d times in 100 seconds, want 4", failed)
	}
	l.path = path
	clock.add(writePause)
	if err := l.remember(visitor(1000), name("notepat"), "id1000"); err != nil {
		t.Fatal(err)
	}
	again, err := openClientLog(dir, 20_000, clock.Now)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 1001 {
		again.wantBegun(t, visitor(i), true, fmt.Sprint("id", i))
	}
}

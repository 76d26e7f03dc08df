// Package testkit is what the tests of several packages need: waiting for what another
// goroutine or process does, a log that goroutines write to, and tools that a machine may lack.
package testkit

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"
)

// Patience is how long Eventually waits. It is long, since machines are busy; no test
// passes or fails by how fast something is.
const Patience = 2 * time.Minute

// Eventually waits until something is so, and fails the test if it does not happen.
func Eventually(t testing.TB, what string, is func() bool) {
	t.Helper()
	for end := time.Now().Add(Patience); !is(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited in vain for %s", what)
		}
	}
}

// A Buffer is a bytes.Buffer for several goroutines: the log of a server, say.
type Buffer struct {
	mu     sync.Mutex
	buffer bytes.Buffer
}

// Write implements io.Writer.
func (b *Buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buffer.Write(p)
}

// String returns what was written so far.
func (b *Buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buffer.String()
}

// Lack skips a test, by name, on a machine that lacks something; in CI it fails the test.
func Lack(t testing.TB, what string) {
	t.Helper()
	if os.Getenv("CI") != "" {
		t.Fatal("needs " + what)
	}
	t.Skip("needs " + what)
}

// NeedTool returns the path of a tool, which a package of Debian has, or lacks it. Root's
// tools are found too.
func NeedTool(t testing.TB, tool, pkg string) string {
	t.Helper()
	for _, dir := range append(filepath.SplitList(os.Getenv("PATH")), "/usr/sbin", "/sbin") {
		if path, err := exec.LookPath(filepath.Join(dir, tool)); err == nil {
			return path
		}
	}
	Lack(t, tool+": apt-get install "+pkg)
	return ""
}

// Package testkit has helpers for the tests of several packages. They wait for another goroutine or
// process, collect a log, and find tools that a machine may lack.
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

// Patience is how long Eventually waits. It is long, since machines are busy. No test measures time
// with it.
const Patience = 2 * time.Minute

// Eventually waits until is returns true. If that does not happen within Patience, it fails the
// test and names what.
func Eventually(t testing.TB, what string, is func() bool) {
	t.Helper()
	for end := time.Now().Add(Patience); !is(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited in vain for %s", what)
		}
	}
}

// A Buffer is a bytes.Buffer for several goroutines, for example the log of a server.
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

// Lack names what the machine lacks, and skips the test. In CI it fails the test.
func Lack(t testing.TB, what string) {
	t.Helper()
	if os.Getenv("CI") != "" {
		t.Fatal("needs " + what)
	}
	t.Skip("needs " + what)
}

// NeedTool returns the path of a tool. If the machine lacks it, NeedTool calls Lack with the Debian
// package. It also looks in root's directories.
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

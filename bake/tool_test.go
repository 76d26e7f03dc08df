package bake

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"aesthetic.computer/isofs/fault"
	"aesthetic.computer/isofs/integration/testkit"
)

func TestFullDisk(t *testing.T) {
	if err := needSpace(t.TempDir(), 1<<60); fault.Kind(err) != fault.Unavailable || !strings.Contains(err.Error(), "free some space") {
		t.Errorf("got %v", err)
	}
	// A tool that meets a full disk, and a write of our own.
	r := &runner{tools: map[string]string{"cp": testkit.NeedTool(t, "cp", "coreutils")}, log: discard}
	_, err := r.output(t.Context(), "", "cp", "/proc/self/status", "/dev/full")
	if got := kindOf(t.Context(), err); fault.Kind(got) != fault.Unavailable || !strings.Contains(got.Error(), "the disk is full") {
		t.Errorf("a tool: %v", got)
	}
	err = os.WriteFile("/dev/full", []byte("x"), 0)
	if got := kindOf(t.Context(), err); fault.Kind(got) != fault.Unavailable || !strings.Contains(got.Error(), "the disk is full") {
		t.Errorf("a write: %v", got)
	}
}

// A cancelled tool ends with its children, even a child that holds the pipe.
func TestCancelKillsChildren(t *testing.T) {
	pidFile := filepath.Join(t.TempDir(), "pid")
	r := &runner{tools: map[string]string{"sh": "/bin/sh"}, log: discard}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		_, err := r.output(ctx, "", "sh", "-c", "sleep 1000 & echo $! >"+pidFile+".new; mv "+pidFile+".new "+pidFile+"; wait")
		done <- err
	}()
	var pid []byte
	for len(pid) == 0 {
		pid, _ = os.ReadFile(pidFile)
		time.Sleep(time.Millisecond)
	}
	cancel()
	if err := kindOf(ctx, <-done); !errors.Is(err, context.Canceled) || fault.Kind(err) != fault.Unavailable {
		t.Errorf("got %v", err)
	}
	for alive := true; alive; time.Sleep(time.Millisecond) {
		state, err := os.ReadFile("/proc/" + strings.TrimSpace(string(pid)) + "/stat")
		alive = err == nil && !strings.Contains(string(state), ") Z ")
	}
}

func TestFindToolsNamesAll(t *testing.T) {
	_, err := findToolsIn([]string{t.TempDir()}, toolPackages)
	if fault.Kind(err) != fault.NotFound {
		t.Fatalf("got %v", err)
	}
	for tool := range toolPackages {
		if !strings.Contains(err.Error(), tool) {
			t.Errorf("%s is not named in: %v", tool, err)
		}
	}
	if want := "apt-get install apt dosfstools dpkg e2fsprogs erofs-utils grub-common gzip mtools"; !strings.Contains(err.Error(), want) {
		t.Errorf("no %q in: %v", want, err)
	}
}

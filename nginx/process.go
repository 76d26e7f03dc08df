package nginx

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"aesthetic.computer/isofs/fault"
)

// pollInterval is the pause between two looks at processes.
const pollInterval = 10 * time.Millisecond

// A process is a line of /proc.
type process struct {
	pid, parent, group int
	title              string // command line, blanks for NULs; empty for a zombie
}

// processes lists the processes that run now. One that ends meanwhile may be missing.
func processes() []process {
	dirs, _ := filepath.Glob("/proc/[0-9]*")
	var list []process
	for _, dir := range dirs {
		pid, err := strconv.Atoi(filepath.Base(dir))
		if err != nil {
			continue
		}
		stat, err := os.ReadFile(dir + "/stat")
		if err != nil {
			continue
		}
		title, _ := os.ReadFile(dir + "/cmdline")
		p := process{pid: pid, title: string(bytes.TrimSpace(bytes.ReplaceAll(title, []byte{0}, []byte{' '})))}
		// proc(5): pid (comm) state ppid pgrp ...; comm may hold blanks and brackets.
		fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
		if len(fields) < 3 {
			continue
		}
		p.parent, _ = strconv.Atoi(fields[1])
		p.group, _ = strconv.Atoi(fields[2])
		list = append(list, p)
	}
	return list
}

// workersOf returns the ids of the master's children.
func workersOf(master int) map[int]bool {
	ids := map[int]bool{}
	for _, p := range processes() {
		if p.parent == master {
			ids[p.pid] = true
		}
	}
	return ids
}

// readPID returns the number in a pid file, or 0: nginx -t leaves an empty one.
func readPID(path string) int {
	text, err := os.ReadFile(path)
	if err != nil {
		return 0
	}
	pid, _ := strconv.Atoi(string(bytes.TrimSpace(text)))
	return pid
}

// orphans returns what a killed supervisor left of its nginx: the master that the pid
// file of runDir names, if it runs with our configuration, and the workers of its
// process group. Workers whose master was killed keep serving (and hold the port), so
// orphans looks for them as well. No other process can have that group's id while one
// of them lives.
func orphans(runDir string) []process {
	master := readPID(filepath.Join(runDir, pidFile))
	if master <= 0 {
		return nil
	}
	var found []process
	for _, p := range processes() {
		switch {
		case p.title == "": // ended, and not reaped yet
		case p.pid == master && !strings.Contains(p.title, filepath.Join(runDir, confFile)):
			return nil // the id has gone to another program
		case p.pid == master || p.group == master && strings.HasPrefix(p.title, "nginx: worker process"):
			found = append(found, p)
		}
	}
	return found
}

// stopOrphans ends them: downloads of a killed isofs are broken anyway.
func stopOrphans(ctx context.Context, runDir string, log *slog.Logger) error {
	const patience = 3 * time.Second // nginx needs milliseconds, unless a read hangs
	deadline := time.Now().Add(patience)
	signal := syscall.SIGTERM
	for signalled := map[int]syscall.Signal{}; ; {
		list := orphans(runDir)
		if len(list) == 0 {
			return nil
		}
		if time.Now().After(deadline) {
			signal = syscall.SIGKILL
		}
		for _, p := range list {
			if signalled[p.pid] == signal {
				continue
			}
			signalled[p.pid] = signal
			log.Warn("stop an nginx that an earlier run left behind", "pid", p.pid, "title", p.title, "signal", signal.String())
			_ = syscall.Kill(p.pid, signal)
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("stop the nginx with process id %d that an earlier run left in %s: %w: %w", list[0].pid, runDir, fault.Unavailable, ctx.Err())
		case <-time.After(pollInterval):
		}
	}
}

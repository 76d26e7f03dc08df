package nginx

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"aesthetic.computer/isofs/integration/testkit"
)

// TestMain plays the parent that is killed: see startParent.
func TestMain(m *testing.M) {
	text := os.Getenv("ISOFS_TEST_PARENT")
	if text == "" {
		os.Exit(m.Run())
	}
	var c Config
	if err := json.Unmarshal([]byte(text), &c); err != nil {
		panic(err)
	}
	log := slog.New(slog.NewTextHandler(os.Stderr, nil))
	s, err := Start(context.Background(), "nginx", c, log)
	if err != nil {
		fmt.Println("failed:", err)
		os.Exit(1)
	}
	fmt.Println(s.current().master.Pid)
	<-s.Done()
}

// startParent runs this test as a process that supervises an nginx, and
// returns it and the process id of nginx's master.
func startParent(t *testing.T, c Config) (*exec.Cmd, int) {
	t.Helper()
	testkit.NeedTool(t, "nginx", "nginx-light")
	text, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	parent := exec.Command(os.Args[0])
	parent.Env = append(os.Environ(), "ISOFS_TEST_PARENT="+string(text))
	parent.Stderr = os.Stderr
	out, err := parent.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := parent.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { parent.Process.Kill(); parent.Wait() })
	line, err := bufio.NewReader(out).ReadString('\n')
	pid, wrong := strconv.Atoi(strings.TrimSpace(line))
	if err != nil || wrong != nil {
		t.Fatalf("the parent says %q: %v", line, err)
	}
	t.Cleanup(func() { killGroup(pid) })
	return parent, pid
}

// group returns the processes of nginx's process group that have not ended.
func group(master int) (list []process) {
	for _, p := range processes() {
		if p.group == master && p.title != "" {
			list = append(list, p)
		}
	}
	return list
}

// killGroup leaves nothing behind when a test has failed.
func killGroup(master int) {
	for _, p := range group(master) {
		syscall.Kill(p.pid, syscall.SIGKILL)
	}
}

func TestKilledParentLeavesNothing(t *testing.T) {
	parent, master := startParent(t, configIn(t, t.TempDir()))
	if n := len(group(master)); n < 2 {
		t.Fatalf("%d processes of nginx, want a master and a worker", n)
	}
	parent.Process.Kill()
	parent.Wait()
	testkit.Eventually(t, "no nginx", func() bool { return len(group(master)) == 0 })
}

// The next Start stops what Pdeathsig cannot prevent, and gets the very port that
// was held.
func TestOrphansAreStopped(t *testing.T) {
	for name, leave := range map[string]func(*testing.T, Config) int{
		"a master and its workers": leaveMaster, "workers alone": leaveWorkers,
	} {
		t.Run(name, func(t *testing.T) {
			c := configIn(t, t.TempDir())
			master := leave(t, c)
			left := group(master)
			if len(left) == 0 {
				t.Fatal("there is no orphan to be stopped")
			}
			var log testkit.Buffer
			s, err := Start(within(t, time.Minute), "nginx", c, slog.New(slog.NewTextHandler(&log, nil)))
			if err != nil {
				t.Fatal(err)
			}
			defer s.Stop(within(t, time.Minute))
			for _, p := range left {
				if alive(p.pid) || !strings.Contains(log.String(), fmt.Sprintf("pid=%d ", p.pid)) {
					t.Errorf("alive, or not mentioned: %+v\n%s", p, log.String())
				}
			}
		})
	}
}

// leaveMaster starts nginx as a killed isofs would leave it.
func leaveMaster(t *testing.T, c Config) int {
	text, err := Render(c)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(c.RunDir, 0o755); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(c.RunDir, confFile), string(text))
	testkit.NeedTool(t, "nginx", "nginx-light")
	path, err := find("nginx")
	if err != nil {
		t.Fatal(err)
	}
	orphan := exec.Command(path, "-e", "stderr", "-c", filepath.Join(c.RunDir, confFile))
	orphan.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := orphan.Start(); err != nil {
		t.Fatal(err)
	}
	go orphan.Wait()
	t.Cleanup(func() { killGroup(orphan.Process.Pid) })
	testkit.Eventually(t, "a worker", func() bool { return len(group(orphan.Process.Pid)) > 1 })
	return orphan.Process.Pid
}

// leaveWorkers kills the master while its supervisor cannot notice, and then the
// supervisor.
func leaveWorkers(t *testing.T, c Config) int {
	parent, master := startParent(t, c)
	// The master listens before it starts them.
	testkit.Eventually(t, "a worker", func() bool { return len(group(master)) > 1 })
	syscall.Kill(parent.Process.Pid, syscall.SIGSTOP)
	syscall.Kill(master, syscall.SIGKILL)
	testkit.Eventually(t, "the master's end", func() bool { return !alive(master) })
	parent.Process.Kill()
	parent.Wait()
	return master
}

// A pid file means nothing when another process has its number.
func TestOrphansAreOurs(t *testing.T) {
	dir := t.TempDir()
	stranger := exec.Command("sleep", "1000")
	stranger.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if err := stranger.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { stranger.Process.Kill(); stranger.Wait() }()
	for _, text := range []string{"", "\n", "x", "-1", "0", "1", "999999999", strconv.Itoa(stranger.Process.Pid)} {
		write(t, filepath.Join(dir, pidFile), text)
		if found := orphans(dir); found != nil {
			t.Errorf("pid file %q: %+v", text, found)
		}
	}
	if !alive(stranger.Process.Pid) {
		t.Error("the stranger was killed")
	}
}

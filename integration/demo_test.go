package integration

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"aesthetic.computer/isofs/integration/testkit"
)

// tree is the root of the source, in which make runs.
const tree = ".."

// demoPatience covers building isofs and baking, with nothing in a cache.
const demoPatience = 5 * time.Minute

// TestDemo runs `make demo` until ctrl-C, and then the script alone until a kill.
func TestDemo(t *testing.T) {
	t.Parallel()
	need(t, "nginx", "make", "curl")
	s := newServer(t)
	// The user that isofs runs as must be able to write there, too.
	if err := errors.Join(os.Mkdir(s.path("tmp"), 0o777), os.Chmod(s.path("tmp"), 0o777)); err != nil {
		t.Fatal(err)
	}
	// TestDocuments tests the first bake. Here the demo finds a base that is baked already.
	write(t, s.path("base-"+strings.TrimSpace(must(t, tree+"/scripts/recipe"))), baseDir+"\n")
	s.launchDemo("make", "demo")
	s.checkDemo()
	s.interrupted(func() error { return syscall.Kill(-s.cmd.Process.Pid, syscall.SIGINT) }) // as a terminal does
	s.launchDemo("scripts/demo")
	if strings.Contains(s.log.String(), "baking") {
		t.Error("the same base is baked again")
	}
	s.checkDemo()
	s.interrupted(func() error { return s.cmd.Process.Signal(syscall.SIGTERM) })
}

// launchDemo starts the demo in the server's folders, and waits until it says that it is up.
func (s *server) launchDemo(command ...string) {
	s.t.Helper()
	cacheDir, err := os.UserCacheDir()
	if err != nil {
		s.t.Fatal(err)
	}
	s.log = &testkit.Buffer{}
	s.cmd = nil // until it runs
	cmd := exec.Command(command[0], command[1:]...)
	cmd.Dir = tree
	cmd.Env = append(os.Environ(), "DEMO_LISTEN="+s.addr, "DEMO_DIR="+s.dir, "DEMO_WORK="+filepath.Join(cacheDir, "isofs", "bake"), "TMPDIR="+s.path("tmp"))
	cmd.Stdout, cmd.Stderr = s.log, s.log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.WaitDelay = time.Second
	// A shell cannot trap a signal that was ignored when it started. SIGINT is ignored in a job in
	// the background.
	if signal.Ignored(syscall.SIGINT) {
		signal.Notify(make(chan os.Signal, 1), syscall.SIGINT)
	}
	if err := cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	ended := make(chan struct{})
	s.cmd, s.ended = cmd, ended
	go func() {
		s.err = cmd.Wait()
		close(ended)
	}()
	s.t.Cleanup(func() {
		select {
		case <-ended:
		default:
			_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM)
			<-ended
		}
		if s.t.Failed() {
			_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) // whatever it left running
		}
	})
	for deadline := time.Now().Add(demoPatience); !strings.Contains(s.log.String(), "until you press ctrl-C"); time.Sleep(20 * time.Millisecond) {
		select {
		case <-ended:
			s.t.Fatalf("the demo ended: %v", s.err)
		default:
		}
		if time.Now().After(deadline) {
			s.t.Fatal("the demo does not say that it is up")
		}
	}
}

// checkDemo does everything that the demo's text says one can do.
func (s *server) checkDemo() {
	t := s.t
	t.Helper()
	for _, address := range regexp.MustCompile(`http://\S+`).FindAllString(s.log.String(), -1) {
		if !strings.HasPrefix(address, "http://"+s.addr+"/") {
			t.Errorf("it says %s, and serves %s", address, s.addr)
		}
	}
	// The commands in its text work, in their order.
	var lines []string
	for _, m := range regexp.MustCompile(`(?m)^  (?:[a-z ]{12}|            ) (wget .*|/\S+/bin/isofs verify .*)$`).FindAllStringSubmatch(s.log.String(), -1) {
		lines = append(lines, m[1])
	}
	typed := exec.Command("bash", "-e", "-c", strings.Join(lines, "\n"))
	typed.Dir = t.TempDir()
	out, err := typed.CombinedOutput()
	if signed := strings.Count(string(out), "demo@isofs.example"); err != nil || len(lines) < 6 || signed != 2 {
		t.Errorf("%d lines of its output, %d signatures: %v\n%s", len(lines), signed, err, out)
	}
	for _, path := range []string{"/", "/os:notepat"} {
		if resp, body := s.get(path); resp.StatusCode != 200 || !bytes.Contains(body, []byte("notepat")) {
			t.Errorf("%s: %s, %d bytes", path, resp.Status, len(body))
		}
	}
	_, image := s.get("/notepat-os.iso")
	if _, line := s.get("/notepat-os.iso.sha256"); string(line) != digest(image)+"  notepat-os.iso\n" {
		t.Errorf("the image of %d bytes has %s; .sha256 says %s", len(image), digest(image), line)
	}
	const mib = 1 << 20
	for want, part := range map[string][]byte{"bytes=0-1048575": image[:mib], "bytes=-1048576": image[len(image)-mib:]} {
		if resp, body := s.get("/notepat-os.iso", "Range: "+want); resp.StatusCode != 206 || !bytes.Equal(body, part) {
			t.Errorf("%s: %s, %d bytes", want, resp.Status, len(body))
		}
	}
	if !bytes.Contains(image[:mib], []byte("EFI PART")) || !bytes.HasPrefix(image[len(image)-512:], []byte("EFI PART")) {
		t.Error("the image does not begin and end as a disk does")
	}
	if file, err := os.Stat(filepath.Join(s.mount(), "notepat-os.iso")); err != nil || file.Size() != int64(len(image)) {
		t.Errorf("in the mount it is %v (%v)", file, err)
	}
}

// interrupted ends the demo, and checks that only its cache is left.
func (s *server) interrupted(end func() error) {
	t := s.t
	t.Helper()
	family := append(descendants(s.cmd.Process.Pid), s.cmd.Process.Pid)
	if err := end(); err != nil {
		t.Fatal(err)
	}
	select {
	case <-s.ended:
	case <-time.After(patience):
		t.Fatal("the demo does not end")
	}
	if output := s.log.String(); !strings.Contains(output, "demo: stopped and unmounted") {
		t.Errorf("it does not say that it stopped; it ended with %v", s.err)
	}
	if s.mounted() {
		t.Error("it left its mount")
	}
	testkit.Eventually(t, "its processes to end", func() bool { return !slices.ContainsFunc(family, isRunning) })
	if left := s.leftovers(); len(left) > 0 {
		t.Errorf("it left processes: %v", left)
	}
	for _, dir := range []string{"tmp", "mnt"} {
		if left, err := os.ReadDir(s.path(dir)); err != nil || len(left) > 0 {
			t.Errorf("it left in %s: %v", dir, fmt.Sprint(left, err))
		}
	}
}

// TestDemoInAFolderOfOthers: all users can write to the folder around the demo's. So the demo
// refuses a link or a folder of another user, and changes nothing there.
func TestDemoInAFolderOfOthers(t *testing.T) {
	t.Parallel()
	as := servingUser(t)
	dir := readable(t)
	target, link, theirs := filepath.Join(dir, "roots"), filepath.Join(dir, "link"), filepath.Join(dir, "theirs")
	if err := errors.Join(os.MkdirAll(filepath.Join(target, "bases"), 0o700), os.Symlink(target, link),
		os.Mkdir(theirs, 0o755), os.Chown(theirs, int(as.Uid), int(as.Gid))); err != nil {
		t.Fatal(err)
	}
	for folder, says := range map[string]string{link: "is a link", theirs: "belongs to another user"} {
		cmd := exec.Command("scripts/demo")
		cmd.Dir = tree
		cmd.Env = append(os.Environ(), "DEMO_DIR="+folder)
		if out, err := cmd.CombinedOutput(); err == nil || !strings.Contains(string(out), folder+" "+says) {
			t.Errorf("%s: %v\n%s", folder, err, out)
		}
	}
	for folder, want := range map[string]int{target: 1, theirs: 0} {
		if left, err := os.ReadDir(folder); err != nil || len(left) != want {
			t.Errorf("%s has %v now (%v)", folder, left, err)
		}
	}
}

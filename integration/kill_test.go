package integration

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	"aesthetic.computer/isofs/integration/testkit"
)

func TestKillDuringDownloads(t *testing.T) {
	t.Parallel()
	needRoot(t)
	need(t, "curl", "wget")
	const clients = 8
	s := serve(t, "--pieces", numbered(t, clients))
	before := s.describe(clients)
	family := descendants(s.cmd.Process.Pid)
	downloads := s.slowDownloads(clients)

	kill(t, s.cmd.Process.Pid)
	// The restart comes at once, while processes of the killed isofs still run.
	s = s.again()
	for _, d := range downloads {
		d.breaksOff(t)
	}
	testkit.Eventually(t, "the end of the killed program's processes", func() bool {
		return !slices.ContainsFunc(family, isRunning)
	})
	if after := s.describe(clients); !slices.Equal(before, after) {
		t.Errorf("the snapshots changed:\n%s\nwere\n%s", strings.Join(after, "\n"), strings.Join(before, "\n"))
	}
	for _, d := range downloads {
		d.resume(t, s)
	}
	s.endsClean()
}

func TestKillOfTheServingProcess(t *testing.T) {
	t.Parallel()
	needRoot(t)
	need(t, "curl", "wget")
	const clients = 4
	s := serve(t, "--pieces", numbered(t, clients))
	before := s.describe(clients)
	web, serving := s.named("nginx"), s.named("isofs")
	downloads := s.slowDownloads(clients)

	kill(t, serving)
	for _, d := range downloads {
		d.breaksOff(t)
	}
	testkit.Eventually(t, "another serving process", func() bool {
		resp, err := noRedirects.Get(s.url("/healthz"))
		if err != nil {
			t.Fatalf("nginx did not stay: %v", err)
		}
		resp.Body.Close()
		return resp.StatusCode == 200
	})
	if now := s.named("nginx"); now != web {
		t.Errorf("nginx is process %d, was %d", now, web)
	}
	if now := s.named("isofs"); now == serving {
		t.Error("the serving process was not killed")
	}
	if after := s.describe(clients); !slices.Equal(before, after) {
		t.Errorf("the snapshots changed:\n%s\nwere\n%s", strings.Join(after, "\n"), strings.Join(before, "\n"))
	}
	for _, d := range downloads {
		d.resume(t, s)
	}
	s.endsClean()
}

func TestStopWhileTheServingProcessIsReplaced(t *testing.T) {
	t.Parallel()
	needRoot(t)
	s := serve(t)
	kill(t, s.named("isofs"))
	testkit.Eventually(t, "the parent to notice", func() bool { return strings.Contains(s.log.String(), "starting another") })
	s.endsClean()
}

func TestStopWhileStarting(t *testing.T) {
	t.Parallel()
	need(t, "nginx")
	needRoot(t)
	s := newServer(t)
	s.launch()
	testkit.Eventually(t, "the mount", s.mounted)
	s.endsClean()
}

func TestStopDuringDownloads(t *testing.T) {
	t.Parallel()
	need(t, "curl", "wget")
	const clients = 4
	s := serve(t, "--pieces", numbered(t, clients))
	downloads := s.slowDownloads(clients)
	s.endsClean()
	for _, d := range downloads {
		d.breaksOff(t)
	}
	s.start()
	for _, d := range downloads {
		d.resume(t, s)
	}
}

func TestBusyMountSaysWho(t *testing.T) {
	t.Parallel()
	s := serve(t)
	holder := exec.Command("sleep", "600")
	image, err := os.Open(filepath.Join(s.mount(), "notepat-os.iso"))
	if err != nil {
		t.Fatal(err)
	}
	holder.Stdin = image
	err = holder.Start()
	image.Close()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = holder.Process.Kill(); _ = holder.Wait() }()
	s.stop()
	if want := fmt.Sprintf("sleep (process %d) has open %s", holder.Process.Pid, s.mount()); !strings.Contains(s.log.String(), want) {
		t.Errorf("it does not say %q", want)
	}
	if s.mounted() {
		t.Error("the mount is still in the folder")
	}
}

func TestSecondIsofsIsRefused(t *testing.T) {
	t.Parallel()
	first := serve(t)
	_, whole := first.get("/notepat-os.iso")
	for name, c := range map[string]struct{ flag, value, says string }{
		"mount": {"--mount", first.mount(), "another isofs serves it"},
		"state": {"--state", first.path("state"), "another isofs is using"},
		"run":   {"--run", first.path("run"), "another isofs is using"},
	} {
		t.Run(name, func(t *testing.T) {
			second := newServer(t, c.flag, c.value)
			second.fails(c.says)
			if second.mounted() {
				t.Error("it left a mount")
			}
			if _, again := first.get("/notepat-os.iso"); !bytes.Equal(again, whole) {
				t.Error("the first serves something else now")
			}
		})
	}
	// The second may have removed something on its way out. A clean end of the first shows that it
	// did not.
	first.endsClean()
}

func TestPortInUse(t *testing.T) {
	t.Parallel()
	need(t, "nginx")
	s := newServer(t)
	l, err := net.Listen("tcp", s.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	s.fails(s.addr + " is in use by another program")
	if s.mounted() || strings.Contains(s.log.String(), "msg=mounted") {
		t.Error("it left a mount, or made one first")
	}
	if left := s.leftovers(); len(left) > 0 {
		t.Errorf("it left processes: %v", left)
	}
}

func TestUnusableMountPoint(t *testing.T) {
	t.Parallel()
	need(t, "nginx")
	for name, c := range map[string]struct {
		make func(path string) error
		says string
	}{
		"not empty": {func(path string) error {
			return os.MkdirAll(filepath.Join(path, "precious"), 0o755)
		}, "not empty (it has precious)"},
		"a file": {func(path string) error { return os.WriteFile(path, nil, 0o644) }, "not a directory"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newServer(t)
			if err := c.make(s.mount()); err != nil {
				t.Fatal(err)
			}
			s.fails(c.says)
			s.says(s.mount())
		})
	}
}

func TestUnprivileged(t *testing.T) {
	t.Parallel()
	need(t, "nginx", "fusermount3")
	s := newServer(t)
	openFuse(t)
	s.asNobody()
	s.start()
	s.describe(0)
	_, body := s.get("/notepat-os.iso")
	if got := digest(body); got != s.published("/notepat-os.iso") {
		t.Error("the download does not have the published digest")
	}
	s.endsClean()
}

// asNobody makes a user without rights run the program, if root runs the test.
func (s *server) asNobody() {
	s.t.Helper()
	if os.Geteuid() != 0 {
		return
	}
	nobody, err := user.Lookup("nobody")
	if err != nil {
		testkit.Lack(s.t, err.Error())
	}
	uid, _ := strconv.Atoi(nobody.Uid)
	gid, _ := strconv.Atoi(nobody.Gid)
	s.as = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
	if err := os.Chown(s.dir, uid, gid); err != nil {
		s.t.Fatal(err)
	}
}

// again starts the program on the same directories. It does not wait for the end of the one before.
func (s *server) again() *server {
	s.t.Helper()
	next := &server{t: s.t, bin: s.bin, dir: s.dir, addr: s.addr, args: s.args, as: s.as}
	s.t.Cleanup(next.stop)
	next.start()
	return next
}

// numbered makes bundles for the pieces p0, p1 and so on.
func numbered(t *testing.T, n int) string {
	t.Helper()
	bundles := map[string]string{}
	for i := range n {
		bundles[fmt.Sprintf("p%d", i)] = page(fmt.Sprintf("Piece %d", i), 1<<20)
	}
	return pieces(t, bundles)
}

// describe returns for p0 to p(n-1) all that shows a client which image it is.
func (s *server) describe(n int) []string {
	s.t.Helper()
	var all []string
	for i := range n {
		path := fmt.Sprintf("/p%d-os.iso", i)
		resp, _ := s.request("HEAD", path)
		h := resp.Header
		all = append(all, fmt.Sprintf("%s %s %s %s %s %d", path, snapshotOf(s.t, h.Get("Link")), h.Get("Last-Modified"),
			h.Get("ETag"), h.Get("Digest"), resp.ContentLength))
	}
	return all
}

// A slowDownload is a download by curl or wget, so slow that it never completes.
type slowDownload struct {
	path string // at the server
	file string
	sum  string
	cmd  *exec.Cmd
}

// slowDownloads starts n downloads, of p0 to p(n-1), and returns when each has some bytes.
func (s *server) slowDownloads(n int) []*slowDownload {
	s.t.Helper()
	var all []*slowDownload
	for i := range n {
		d := &slowDownload{path: fmt.Sprintf("/p%d-os.iso", i)}
		d.file = filepath.Join(s.t.TempDir(), "part.iso")
		d.sum = s.published(d.path)
		d.cmd = exec.Command("curl", "-sSf", "--limit-rate", "300k", "-o", d.file, s.url(d.path))
		if i%2 == 1 {
			d.cmd = exec.Command("wget", "-q", "--tries=1", "--limit-rate=300k", "-O", d.file, s.url(d.path))
		}
		if err := d.cmd.Start(); err != nil {
			s.t.Fatal(err)
		}
		s.t.Cleanup(func() { _ = d.cmd.Process.Kill(); _ = d.cmd.Wait() })
		all = append(all, d)
	}
	testkit.Eventually(s.t, "bytes of all downloads", func() bool {
		return !slices.ContainsFunc(all, func(d *slowDownload) bool {
			fi, err := os.Stat(d.file)
			return err != nil || fi.Size() < 64<<10
		})
	})
	return all
}

// breaksOff waits for the client, which must notice that its file is incomplete.
func (d *slowDownload) breaksOff(t *testing.T) {
	t.Helper()
	if err := d.cmd.Wait(); err == nil {
		t.Errorf("%s takes its part of %s for the whole", d.cmd.Path, d.path)
	}
}

// resume completes the file with the same client and checks it.
func (d *slowDownload) resume(t *testing.T, s *server) {
	t.Helper()
	cmd := exec.Command("curl", "-sSf", "-C", "-", "-o", d.file, s.url(d.path))
	if strings.HasSuffix(d.cmd.Path, "wget") {
		cmd = exec.Command("wget", "-q", "-c", "-O", d.file, s.url(d.path))
	}
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v: %v\n%s", cmd.Args, err, out)
		return
	}
	body, err := os.ReadFile(d.file)
	if err != nil {
		t.Fatal(err)
	}
	if digest(body) != d.sum {
		t.Errorf("%v gave another image", cmd.Args)
	}
}

// endsClean stops the program. It must succeed and leave nothing behind.
func (s *server) endsClean() {
	s.t.Helper()
	family := descendants(s.cmd.Process.Pid)
	s.stop()
	if s.err != nil {
		s.t.Errorf("it ended with %v\n%s", s.err, s.log.String())
	}
	if strings.Contains(s.log.String(), "panic:") {
		s.t.Errorf("it panicked:\n%s", s.log.String())
	}
	if s.mounted() {
		s.t.Error("it left its mount")
	}
	testkit.Eventually(s.t, "its processes to end", func() bool { return !slices.ContainsFunc(family, isRunning) })
	if left := s.leftovers(); len(left) > 0 {
		s.t.Errorf("it left processes: %v", left)
	}
}

// fails runs the program. It must end, fail, and say why.
func (s *server) fails(why string) {
	s.t.Helper()
	s.launch()
	s.wait()
	if s.err == nil {
		s.t.Error("it did not fail")
	}
	s.says(why)
}

// says waits for words in the log. The log may have them a little after the client has its answer.
func (s *server) says(words string) {
	s.t.Helper()
	testkit.Eventually(s.t, fmt.Sprintf("the log to say %q", words), func() bool { return strings.Contains(s.log.String(), words) })
}

// mounted reads the kernel's list of mounts, which cannot hang.
func (s *server) mounted() bool {
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		s.t.Fatal(err)
	}
	return strings.Contains(string(mounts), " "+s.mount()+" ")
}

// named returns the child of isofs that runs the program of that name.
func (s *server) named(name string) int {
	s.t.Helper()
	pid := s.child(name)
	if pid == 0 {
		s.t.Fatalf("isofs has no child %s", name)
	}
	return pid
}

// child is named, but returns 0 if there is no such child. A process that isofs forks to run
// another program has isofs's executable and command line at first, so child checks both.
func (s *server) child(name string) int {
	for _, pid := range children(s.cmd.Process.Pid) {
		exe, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", pid))
		if err != nil || filepath.Base(exe) != name {
			continue
		}
		line, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
		if name != "isofs" || bytes.HasPrefix(line, []byte("/proc/self/exe\x00")) {
			return pid
		}
	}
	return 0
}

// leftovers returns the command lines that name the server's folder.
func (s *server) leftovers() []string {
	all, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	var left []string
	for _, path := range all {
		if line, _ := os.ReadFile(path); bytes.Contains(line, []byte(s.dir+"/")) {
			left = append(left, strings.ReplaceAll(string(line), "\x00", " "))
		}
	}
	return left
}

func children(pid int) []int {
	lists, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	var pids []int
	for _, list := range lists {
		text, _ := os.ReadFile(list)
		for field := range strings.FieldsSeq(string(text)) {
			if child, err := strconv.Atoi(field); err == nil {
				pids = append(pids, child)
			}
		}
	}
	return pids
}

func descendants(pid int) []int {
	var all []int
	for _, child := range children(pid) {
		all = append(append(all, child), descendants(child)...)
	}
	return all
}

// isRunning is false for a process that has ended and is not yet reaped.
func isRunning(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return false
	}
	// The text is "17 (name) S ...". The name may contain any character.
	rest := stat[bytes.LastIndexByte(stat, ')')+1:]
	return !bytes.HasPrefix(rest, []byte(" Z")) && !bytes.HasPrefix(rest, []byte(" X"))
}

func kill(t *testing.T, pid int) {
	t.Helper()
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
}

// fuseUsers are the tests for which /dev/fuse is open to all users now.
var fuseUsers struct {
	sync.Mutex
	count int
	mode  os.FileMode // before the first of them
}

// openFuse lets all users open /dev/fuse during the test, as udev does. The last test to end
// restores the mode.
func openFuse(t *testing.T) {
	t.Helper()
	const device = "/dev/fuse"
	fuseUsers.Lock()
	defer fuseUsers.Unlock()
	if fuseUsers.count == 0 {
		fi, err := os.Stat(device)
		if err != nil {
			testkit.Lack(t, err.Error())
		}
		if fi.Mode().Perm() == 0o666 {
			return
		}
		if err := os.Chmod(device, 0o666); err != nil {
			testkit.Lack(t, "a /dev/fuse that everybody may open: chmod 666 /dev/fuse")
		}
		fuseUsers.mode = fi.Mode().Perm()
	}
	fuseUsers.count++
	t.Cleanup(func() {
		fuseUsers.Lock()
		defer fuseUsers.Unlock()
		if fuseUsers.count--; fuseUsers.count > 0 {
			return
		}
		if err := os.Chmod(device, fuseUsers.mode); err != nil {
			t.Error(err)
		}
	})
}

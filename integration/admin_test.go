package integration

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
)

const adminKey = "a key of the integration tests"

// keyFile writes a key that only the serving user can read.
func keyFile(t *testing.T, path, key string) {
	t.Helper()
	err := errors.Join(os.WriteFile(path, []byte(key+"\n"), 0o600), os.Chmod(path, 0o600))
	if err == nil && os.Geteuid() == 0 {
		var u *user.User
		if u, err = user.Lookup("isofs"); err == nil {
			uid, _ := strconv.Atoi(u.Uid)
			gid, _ := strconv.Atoi(u.Gid)
			err = os.Chown(path, uid, gid)
		}
	}
	if err != nil {
		t.Fatal(err)
	}
}

// admin posts a form to an action with a key.
func (s *server) admin(key, action string, form url.Values) (*http.Response, map[string]any) {
	s.t.Helper()
	req, err := http.NewRequestWithContext(s.t.Context(), http.MethodPost, s.url("/admin/"+action), strings.NewReader(form.Encode()))
	if err != nil {
		s.t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	if key != "" {
		req.Header.Set("X-Oven-Os-Key", key)
	}
	resp, err := noRedirects.Do(req)
	if err != nil {
		s.t.Fatal(err)
	}
	defer resp.Body.Close()
	var body map[string]any
	if err := json.NewDecoder(resp.Body).Decode(&body); err != nil {
		s.t.Fatalf("%s: %s: %v", action, resp.Status, err)
	}
	return resp, body
}

// anotherBase makes a base that differs from the usual one in a byte that no program reads.
func anotherBase(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp(workDir, "base-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(filepath.Join(baseDir, "base.iso"))
	if err != nil {
		t.Fatal(err)
	}
	data[7] ^= 0xff // in the boot code for BIOS; the test's machines boot by UEFI
	iso := filepath.Join(dir, "base.iso")
	if err := os.WriteFile(iso, data, 0o644); err != nil {
		t.Fatal(err)
	}
	if status, _, stderr := isofsCommand(t, nil, "base", "index", iso, "-o", filepath.Join(dir, "manifest.json"),
		"--flavor", "tiny", "--arch", "amd64", "--base-version", "2026-12-01"); status != 0 {
		t.Fatal(stderr)
	}
	if err := os.Chmod(filepath.Join(dir, "manifest.json"), 0o644); err != nil {
		t.Fatal(err)
	}
	return dir
}

// TestAdmin: an operator can take every action, through nginx and by the command. Without the key a
// client can take none.
func TestAdmin(t *testing.T) {
	t.Parallel()
	o := newOven(t, map[string]http.HandlerFunc{"piece=tone": baked(page("tone", 1000))})
	s := newServer(t, "--oven", o.URL)
	key := s.path("key")
	keyFile(t, key, adminKey)
	s.args = append(s.args, "--admin-key-file", key)
	s.start()

	resp, body := s.admin("", "drop", url.Values{"piece": {"notepat"}})
	if resp.StatusCode != 401 || body["error"] != "Unauthorized" || resp.Header.Get("WWW-Authenticate") == "" {
		t.Errorf("without a key: %s %v %v", resp.Status, resp.Header, body)
	}
	if resp, _ := s.get("/admin/drop"); resp.StatusCode != 405 || resp.Header.Get("Allow") != "POST" {
		t.Errorf("GET: %s %v", resp.Status, resp.Header)
	}
	for range 2 { // the oven gets a request each time
		if resp, body := s.admin(adminKey, "refresh", url.Values{"piece": {"tone"}}); resp.StatusCode != 200 || body["piece"] != "tone" {
			t.Errorf("refresh: %s %v", resp.Status, body)
		}
	}
	if n := len(o.requests()); n != 2 {
		t.Errorf("the oven got %d requests", n)
	}
	command := func(args ...string) string {
		t.Helper()
		args = append([]string{"admin"}, append(args, "--run", s.path("run"), "--admin-key-file", key)...)
		status, stdout, stderr := isofsCommand(t, nil, args...)
		if status != 0 {
			t.Fatalf("%q: %s", args, stderr)
		}
		return stdout
	}
	if status, stdout, stderr := isofsCommand(t, nil, "status", "--run", s.path("run")); !strings.Contains(stdout, "mount") || !strings.Contains(stdout, "fetching") || status != 0 && !strings.Contains(stderr, "not ready") {
		t.Errorf("isofs status: %d\n%s%s", status, stdout, stderr)
	}
	tone := s.snapshot("tone")
	if got := command("snapshots"); !strings.Contains(got, tone) || !strings.Contains(got, "current") {
		t.Errorf("isofs admin snapshots: %s", got)
	}
	if got := command("drop", "--snapshot", tone); !strings.Contains(got, tone) {
		t.Errorf("isofs admin drop: %s", got)
	}
	if resp, _ := s.get("/s/" + tone + "/tone-os.iso"); resp.StatusCode != 404 {
		t.Errorf("what was dropped: %s", resp.Status)
	}
	if got := command("prune", "--all"); !strings.Contains(got, "forgotten") {
		t.Errorf("isofs admin prune: %s", got)
	}
	status, _, stderr := isofsCommand(t, []string{"ISOFS_ADMIN_KEY=another key that is wrong"}, "admin", "prune", "--run", s.path("run"))
	if status == 0 || !strings.Contains(stderr, "Unauthorized") {
		t.Errorf("with a wrong key: %d, %s", status, stderr)
	}

	// The key changes without a restart.
	keyFile(t, key, adminKey+" 2")
	if err := s.cmd.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	s.says("read again")
	if resp, _ := s.admin(adminKey, "prune", nil); resp.StatusCode != 401 {
		t.Errorf("the old key: %s", resp.Status)
	}
	if resp, _ := s.admin(adminKey+" 2", "prune", nil); resp.StatusCode != 200 {
		t.Errorf("the new key: %s", resp.Status)
	}
	if strings.Contains(s.log.String(), adminKey) {
		t.Error("the log has the key")
	}
	socket, err := os.Stat(filepath.Join(s.path("run"), "api.sock"))
	if err != nil || socket.Mode().Perm() != 0o660 {
		t.Errorf("the API's socket: %v, %v", socket.Mode(), err)
	}
}

// TestAdminBase: the server changes to a new base without a restart. Downloads under way stay one
// image.
func TestAdminBase(t *testing.T) {
	t.Parallel()
	next := anotherBase(t)
	s := newServer(t)
	key := s.path("key")
	keyFile(t, key, adminKey)
	s.args = append(s.args, "--admin-key-file", key)
	s.start()
	old := s.snapshot("notepat")
	_, sum := s.get("/s/" + old + "/notepat-os.iso.sha256")
	s.get("/notepat-os.iso", "User-Agent: wget")
	running, err := http.Get(s.url("/notepat-os.iso"))
	if err != nil {
		t.Fatal(err)
	}
	defer running.Body.Close()
	digest := sha256.New()
	if _, err := io.CopyN(digest, running.Body, 1<<20); err != nil {
		t.Fatal(err)
	}

	for address, want := range map[string]int{next + "-none": 404, "relative/path": 400, "ftp://x/y": 400} {
		if resp, body := s.admin(adminKey, "base", url.Values{"address": {address}}); resp.StatusCode != want {
			t.Errorf("base %s: %s %v", address, resp.Status, body)
		}
	}
	resp, body := s.admin(adminKey, "base", url.Values{"address": {next}})
	if resp.StatusCode != 200 || body["version"] != "2026-12-01" || body["changed"] != true {
		t.Fatalf("%s %v", resp.Status, body)
	}
	made := s.snapshot("notepat")
	if made == old {
		t.Error("a new download gets the old image")
	}
	_, whole := s.get("/s/" + made + "/notepat-os.iso")
	_, madeSum := s.get("/s/" + made + "/notepat-os.iso.sha256")
	if got := sha256.Sum256(whole); !strings.HasPrefix(string(madeSum), hex.EncodeToString(got[:])) || whole[7] == 0 {
		t.Errorf("the new image has %x, and says %s", got, madeSum)
	}
	// The download under way, and then a resumed one, get the old image.
	if _, err := io.Copy(digest, running.Body); err != nil {
		t.Error(err)
	}
	if got := hex.EncodeToString(digest.Sum(nil)); !strings.HasPrefix(string(sum), got) {
		t.Errorf("the download that ran has %s, not %s", got, sum)
	}
	if resp, _ := s.get("/notepat-os.iso", "Range: bytes=5-10", "User-Agent: wget"); resp.Header.Get("X-Isofs-Snapshot") != old {
		t.Errorf("the rest is of %s, the beginning was of %s", resp.Header.Get("X-Isofs-Snapshot"), old)
	}
	// A restart returns to --base, and keeps the snapshots that were made.
	s.stop()
	s.start()
	if got := s.snapshot("notepat"); got == made {
		t.Error("after a restart the base is not that of --base")
	}
	if resp, again := s.get("/s/" + made + "/notepat-os.iso"); resp.StatusCode != 200 || sha256.Sum256(again) != sha256.Sum256(whole) {
		t.Errorf("after a restart, what was made before: %s", resp.Status)
	}
}

// TestNoAdminKey: without a key the server refuses every request below /admin/. It does not start
// with a key file that others can read.
func TestNoAdminKey(t *testing.T) {
	t.Parallel()
	s := serve(t)
	for _, key := range []string{"", adminKey} {
		if resp, body := s.admin(key, "drop", url.Values{"piece": {"notepat"}}); resp.StatusCode != 503 || body["error"] == nil {
			t.Errorf("with %q: %s %v", key, resp.Status, body)
		}
	}
	bad := newServer(t)
	file := bad.path("key")
	if err := errors.Join(os.WriteFile(file, []byte(adminKey), 0o644), os.Chmod(file, 0o644)); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(isofs, append(bad.args, "--admin-key-file", file)...)
	if out, err := cmd.CombinedOutput(); err == nil || !strings.Contains(string(out), "chmod 600") || strings.Contains(string(out), adminKey) {
		t.Errorf("a key that all can read: %v\n%s", err, out)
	}
}

// fromAddress returns a client with another loopback address. The limits count it as another
// client.
func fromAddress(ip string, most int) *http.Client {
	dialer := &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(ip)}}
	return &http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
			return dialer.DialContext(ctx, network, addr)
		},
		MaxIdleConnsPerHost: most,
	}, CheckRedirect: noRedirects.CheckRedirect}
}

// TestFloodOfNewNames: one client requests ten thousand names of pieces that do not exist. Only the
// burst reaches the oven. Another client gets known and new pieces, by name and by /os.
func TestFloodOfNewNames(t *testing.T) {
	t.Parallel()
	o := newOven(t, map[string]http.HandlerFunc{
		"piece=new":   baked(page("new", 1000)),
		"piece=newer": baked(page("newer", 1000)),
	})
	const burst, workers = 20, 16
	s := serve(t, "--oven", o.URL, "--limit-new-burst", fmt.Sprint(burst), "--limit-new", "0.001")
	flooder := fromAddress("127.0.0.1", workers)
	get := func(c *http.Client, path string) *http.Response {
		resp, err := c.Get(s.url(path))
		if err != nil {
			t.Error(err)
			return &http.Response{Header: http.Header{}}
		}
		_, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, 4096))
		resp.Body.Close()
		return resp
	}
	var all sync.WaitGroup
	var mu sync.Mutex
	statuses := map[int]int{}
	for w := range workers {
		all.Go(func() {
			for i := w; i < 10_000; i += workers {
				path := fmt.Sprintf("/random%d-os.iso", i)
				if i%2 == 0 {
					path = fmt.Sprintf("/os?piece=random%d", i)
				}
				resp := get(flooder, path)
				if resp.StatusCode == 429 && resp.Header.Get("Retry-After") == "" {
					t.Error("429 without Retry-After")
				}
				mu.Lock()
				statuses[resp.StatusCode]++
				mu.Unlock()
			}
		})
	}
	all.Wait()
	if len(o.requests()) != burst || statuses[404] != burst || statuses[429] != 10_000-burst {
		t.Errorf("the oven got %d requests; statuses %v", len(o.requests()), statuses)
	}
	other := fromAddress("127.0.0.2", 1)
	for path, want := range map[string]int{"/notepat-os.iso.sha256": 200, "/new-os.iso.sha256": 200, "/os?piece=newer": 302} {
		if resp := get(other, path); resp.StatusCode != want {
			t.Errorf("another client: %s: %d", path, resp.StatusCode)
		}
	}
	if resp := get(flooder, "/new-os.iso.sha256"); resp.StatusCode != 200 {
		t.Errorf("a piece that is known by now: %d", resp.StatusCode)
	}
}

// TestFullHouse: the server has as many fetches under way as its limit allows. It refuses a new
// piece, with a Retry-After, and serves the known ones.
func TestFullHouse(t *testing.T) {
	t.Parallel()
	started, release := make(chan struct{}), make(chan struct{})
	var once sync.Once
	o := newOven(t, map[string]http.HandlerFunc{"piece=slow": func(w http.ResponseWriter, r *http.Request) {
		once.Do(func() { close(started) })
		<-release
		baked(page("slow", 1000))(w, r)
	}})
	s := serve(t, "--oven", o.URL, "--limit-fetches", "1")
	s.get("/notepat-os.iso.sha256")
	slow := make(chan int)
	go func() {
		resp, err := http.Get(s.url("/slow-os.iso.sha256"))
		if err != nil {
			t.Error(err)
			slow <- 0
			return
		}
		resp.Body.Close()
		slow <- resp.StatusCode
	}()
	<-started
	if resp, _ := s.get("/other-os.iso"); resp.StatusCode != 503 || resp.Header.Get("Retry-After") == "" {
		t.Errorf("one fetch too many: %s %v", resp.Status, resp.Header)
	}
	if resp, _ := s.get("/notepat-os.iso.sha256"); resp.StatusCode != 200 {
		t.Errorf("a known piece: %s", resp.Status)
	}
	close(release)
	if status := <-slow; status != 200 {
		t.Errorf("the slow one: %d", status)
	}
}

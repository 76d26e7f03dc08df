package integration

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"aesthetic.computer/isofs/integration/s3test"
	"aesthetic.computer/isofs/integration/testkit"
)

// conflicted is a publisher's exit status if another one changed the channel first.
const conflicted = 4

// variations are bases that differ in one byte of their second partition: 2026-12-01 to 2026-12-04.
// All tests share them.
var variations = sync.OnceValues(func() ([]string, error) {
	var dirs []string
	for i := range 4 {
		dir := filepath.Join(workDir, fmt.Sprintf("variation-%d", i+1))
		iso := filepath.Join(dir, "base.iso")
		if err := errors.Join(os.Mkdir(dir, 0o755), command("cp", "--sparse=always", filepath.Join(baseDir, "base.iso"), iso)); err != nil {
			return nil, err
		}
		f, err := os.OpenFile(iso, os.O_WRONLY, 0)
		if err != nil {
			return nil, err
		}
		_, err = f.WriteAt([]byte{byte(i + 1)}, variedByte)
		if err := errors.Join(err, f.Close()); err != nil {
			return nil, err
		}
		if err := command(isofs, "base", "index", iso, "--base-version", fmt.Sprintf("2026-12-%02d", i+1)); err != nil {
			return nil, err
		}
		dirs = append(dirs, dir)
	}
	return dirs, nil
})

// variedByte is near the end of the second partition.
const variedByte = 40 << 20

// A site is a place where bases are published.
type site struct {
	t     *testing.T
	to    string   // the site's address for publishers
	env   []string // environment of publishers
	flags []string // flags of publishers
	serve []string // flags of servers
	hide  func()   // makes the site unreachable
	show  func()
}

// folderSite is a site in a folder.
func folderSite(t *testing.T) *site {
	dir, err := os.MkdirTemp(workDir, "site-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	www := filepath.Join(dir, "www")
	move := func(from, to string) func() {
		return func() {
			if err := os.Rename(from, to); err != nil {
				t.Fatal(err)
			}
		}
	}
	return &site{t: t, to: www, hide: move(www, www+"-away"), show: move(www+"-away", www)}
}

// bucketSite is a site in a bucket that all clients may read.
func bucketSite(t *testing.T) (*site, *s3test.Server) {
	b := s3test.Start(t)
	b.Publish(true)
	s := &site{t: t, to: "s3://" + s3test.Bucket + "/images", hide: b.Kill, show: b.Restart}
	s.env = []string{"AWS_ACCESS_KEY_ID=" + s3test.Access, "AWS_SECRET_ACCESS_KEY=" + s3test.Secret}
	s.flags = []string{"--s3-endpoint", b.Endpoint()}
	s.serve = []string{"--s3-endpoint", b.Endpoint(), "--s3-anonymous"}
	return s, b
}

// base runs isofs base.
func (p *site) base(args ...string) (status int, stdout, stderr string) {
	p.t.Helper()
	return isofsCommand(p.t, p.env, append(append([]string{"base"}, args...), p.flags...)...)
}

// does is base, which must succeed.
func (p *site) does(args ...string) string {
	p.t.Helper()
	status, stdout, stderr := p.base(args...)
	if status != 0 {
		p.t.Fatalf("isofs base %q: exit status %d\n%s", args, status, stderr)
	}
	return stdout
}

// listed returns the published versions: "04 current, 03 previous, ...".
func (p *site) listed() string {
	p.t.Helper()
	var all []string
	for line := range strings.Lines(p.does("list", "--from", p.to)) {
		fields := strings.Fields(line)
		all = append(all, strings.TrimPrefix(fields[2], "2026-12-")+" "+strings.Join(fields[4:], " "))
	}
	return strings.Join(all, ", ")
}

// follower is a server that follows the site's channel, and reads it only on request.
func (p *site) follower() *server {
	p.t.Helper()
	need(p.t, "nginx")
	s := newServer(p.t, append([]string{"--channel", p.to + "/channels/tiny-amd64.json", "--channel-poll", "24h"}, p.serve...)...)
	at := slices.Index(s.args, "--base")
	s.args = slices.Delete(s.args, at, at+2)
	key := s.path("key")
	keyFile(p.t, key, adminKey)
	s.args = append(s.args, "--admin-key-file", key)
	return s
}

// follows makes the server read its channel, and checks the version that it then has.
func (s *server) follows(version string, changed bool) {
	s.t.Helper()
	resp, body := s.admin(adminKey, "channel", nil)
	if resp.StatusCode != 200 || body["version"] != version || body["changed"] != changed {
		s.t.Errorf("follow: %s %v, want version %s, changed %v", resp.Status, body, version, changed)
	}
}

// downloads downloads images until the changes are over. Each download spans a change: its first
// half comes before, its second half after. Each image must be wholly one that was published.
func (s *server) downloads(changes *bell) {
	for {
		changed := changes.next()
		if changed == nil {
			return
		}
		resp, err := http.Get(s.url("/notepat-os.iso"))
		if err != nil {
			s.t.Error(err)
			return
		}
		sum := sha256.New()
		half, err := io.CopyN(sum, resp.Body, variedByte/2)
		<-changed
		rest, err2 := io.Copy(sum, resp.Body)
		resp.Body.Close()
		if err := errors.Join(err, err2); err != nil || half+rest <= variedByte {
			s.t.Errorf("a download ended after %d bytes: %v", half+rest, err)
			return
		}
		resp, err = http.Get(s.url("/s/" + resp.Header.Get("X-Isofs-Snapshot") + "/notepat-os.iso.sha256"))
		if err != nil {
			s.t.Error(err)
			return
		}
		want, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if got := hex.EncodeToString(sum.Sum(nil)); err != nil || !strings.HasPrefix(string(want), got) {
			s.t.Errorf("a download has %s, published is %s (%v)", got, want, err)
		}
	}
}

// A bell rings for all goroutines that wait for it, until it has rung for the last time.
type bell struct {
	mu   sync.Mutex
	ring chan struct{} // closed at the next ring; nil: it has rung for the last time
}

func newBell() *bell { return &bell{ring: make(chan struct{})} }

// next returns a channel that is closed at the next ring; nil if there is no next ring.
func (b *bell) next() <-chan struct{} {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.ring
}

// rings rings; last makes it the last time.
func (b *bell) rings(last bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.ring == nil {
		return
	}
	close(b.ring)
	if b.ring = nil; !last {
		b.ring = make(chan struct{})
	}
}

// TestFollowAFolder and TestFollowABucket: bases are published, rolled back and
// pruned while clients download.
func TestFollowAFolder(t *testing.T) {
	t.Parallel()
	leftOut(t, "TestFollowABucket")
	p := folderSite(t)
	p.followed(func(content []byte) {
		write(t, filepath.Join(p.to, "channels", "tiny-amd64.json"), string(content))
	})
}

func TestFollowABucket(t *testing.T) {
	t.Parallel()
	p, b := bucketSite(t)
	p.followed(func(content []byte) { b.Put("images/channels/tiny-amd64.json", content) })
}

// followed goes through all changes. put replaces the channel in a way that publishers do not.
func (p *site) followed(put func(content []byte)) {
	t := p.t
	versions, err := variations()
	if err != nil {
		t.Fatal(err)
	}
	p.does("publish", versions[0], "--to", p.to)
	s := p.follower()
	s.start()
	s.follows("2026-12-01", false)

	changes := newBell()
	var clients sync.WaitGroup
	halt := func() { changes.rings(true); clients.Wait() }
	t.Cleanup(halt)
	for range 2 {
		clients.Go(func() { s.downloads(changes) })
	}
	for i, dir := range versions[1:3] {
		p.does("publish", dir, "--to", p.to)
		s.follows(fmt.Sprintf("2026-12-%02d", i+2), true)
		changes.rings(false)
	}
	// wget stops in the middle before the next change, and resumes after it.
	old := s.snapshot("notepat")
	_, oldSum := s.get("/s/" + old + "/notepat-os.iso.sha256")
	sum, size := sha256.New(), s.beginning("/notepat-os.iso", 3<<20)
	sum.Write(size)
	if output := p.does("publish", versions[3], "--to", p.to); !strings.Contains(output, "removed 2026-12-01") {
		t.Errorf("publish says %s", output)
	}
	s.follows("2026-12-04", true)
	changes.rings(false)
	if got := p.listed(); got != "04 current, 03 previous, 02 previous" {
		t.Errorf("after four: %s", got)
	}
	resp, rest := s.get("/notepat-os.iso", "User-Agent: Wget/1.21", fmt.Sprintf("Range: bytes=%d-", len(size)))
	sum.Write(rest)
	if got := hex.EncodeToString(sum.Sum(nil)); resp.StatusCode != 206 || !strings.HasPrefix(string(oldSum), got) {
		t.Errorf("the resumed download: %s, %s, want %s", resp.Status, got, oldSum)
	}

	four := s.snapshot("notepat")
	// The server returns to the first base after a signal. It makes new images with a later time.
	p.does("rollback", "--at", p.to)
	if err := s.cmd.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, "the rollback", func() bool { return s.snapshot("notepat") != four })
	s.follows("2026-12-03", false)
	halt()
	back := s.snapshot("notepat")

	// A channel that is damaged or an old copy changes nothing.
	for _, content := range []string{"{", strings.ReplaceAll(p.content(1), "tiny", "debian"), p.content(1)} {
		put([]byte(content))
		if resp, body := s.admin(adminKey, "channel", nil); resp.StatusCode < 500 || body["error"] == nil {
			t.Errorf("a wrong channel: %s %v", resp.Status, body)
		}
	}
	s.kill()
	s.start() // does not return to the old copy's base either
	s.says("the channel cannot be followed")
	if got := s.snapshot("notepat"); got != back {
		t.Errorf("a restart goes back in time: %s, and it was %s", got, back)
	}
	s.kill()
	p.hide()
	s.start()
	if _, body := s.get("/s/" + old + "/notepat-os.iso"); s.snapshot("notepat") != back || !strings.HasPrefix(string(oldSum), digest(body)) {
		t.Error("a restart without the channel serves something else")
	}
	if resp, body := s.admin(adminKey, "base", url.Values{"address": {baseDir}}); resp.StatusCode != 400 {
		t.Errorf("a base beside the channel: %s %v", resp.Status, body)
	}
	p.show()
	put([]byte(p.content(99)))
	s.follows("2026-12-02", true)
}

// content is a channel that names the second variation.
func (p *site) content(revision int) string {
	p.t.Helper()
	dirs, err := variations()
	if err != nil {
		p.t.Fatal(err)
	}
	image, err := os.ReadFile(filepath.Join(dirs[1], "base.iso"))
	if err != nil {
		p.t.Fatal(err)
	}
	return fmt.Sprintf(`{"flavor": "tiny", "arch": "amd64", "revision": %d, "updatedAt": "2026-12-24T00:00:00Z", "previous": [],
		"current": {"version": "2026-12-02", "sha256": %q, "path": "bases/tiny/amd64/2026-12-02"}}`, revision, digest(image))
}

// beginning returns the first bytes of a download that wget starts and breaks off.
func (s *server) beginning(path string, n int64) []byte {
	s.t.Helper()
	req, err := http.NewRequestWithContext(s.t.Context(), http.MethodGet, s.url(path), nil)
	if err != nil {
		s.t.Fatal(err)
	}
	req.Header.Set("User-Agent", "Wget/1.21")
	resp, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		s.t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, n))
	if err != nil {
		s.t.Fatal(err)
	}
	return body
}

// A publishing proxy stands before an S3 server. It counts uploaded parts, and holds requests.
type publishingProxy struct {
	mu    sync.Mutex
	parts int                        // parts that the server accepted
	hold  func(r *http.Request) bool // whether to hold a request; may be nil
	held  chan string                // gets the path of each held request
	free  chan struct{}              // closed: all held requests fail
	proxy *httputil.ReverseProxy
}

func newPublishingProxy(t *testing.T, p *site, b *s3test.Server) *publishingProxy {
	t.Helper()
	to, err := url.Parse(b.Endpoint())
	if err != nil {
		t.Fatal(err)
	}
	x := &publishingProxy{held: make(chan string, 100), free: make(chan struct{})}
	x.proxy = &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
		r.Out.URL.Scheme, r.Out.URL.Host = to.Scheme, to.Host // the host name is part of the signature, so it stays
	}}
	server := httptest.NewServer(x)
	t.Cleanup(server.CloseClientConnections)
	p.flags = []string{"--s3-endpoint", server.URL}
	return x
}

func (x *publishingProxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	x.mu.Lock()
	hold := x.hold
	x.mu.Unlock()
	if hold != nil && hold(r) {
		x.held <- r.URL.Path
		<-x.free
		panic(http.ErrAbortHandler) // the client is gone
	}
	x.proxy.ServeHTTP(w, r)
	if r.Method == http.MethodPut && r.URL.Query().Has("partNumber") {
		x.mu.Lock()
		x.parts++
		x.mu.Unlock()
	}
}

func (x *publishingProxy) taken() int {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.parts
}

func (x *publishingProxy) holding(what func(r *http.Request) bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.hold = what
}

// started starts isofs base in the background.
func (p *site) started(args ...string) (*exec.Cmd, *testkit.Buffer) {
	p.t.Helper()
	var out testkit.Buffer
	cmd := exec.Command(isofs, append(append([]string{"base"}, args...), p.flags...)...)
	cmd.Env = append(os.Environ(), p.env...)
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	return cmd, &out
}

// TestPublishKilledInABucket: kill -9 in the middle of an upload leaves nothing that clients see.
// The next publisher sends only the missing parts. Of two publishers at once, the later one gets a
// conflict.
func TestPublishKilledInABucket(t *testing.T) {
	t.Parallel()
	versions, err := variations()
	if err != nil {
		t.Fatal(err)
	}
	p, b := bucketSite(t)
	x := newPublishingProxy(t, p, b)
	x.holding(func(r *http.Request) bool {
		n := r.URL.Query().Get("partNumber")
		return r.Method == http.MethodPut && n != "" && n != "1" && n != "2" && n != "3"
	})
	cmd, _ := p.started("publish", versions[0], "--to", p.to)
	testkit.Eventually(t, "three parts", func() bool { return x.taken() == 3 })
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	x.holding(nil)
	close(x.free)
	x.free = make(chan struct{})
	if got := p.listed(); got != "" {
		t.Errorf("half a publication is seen: %s", got)
	}
	p.does("publish", versions[0], "--to", p.to)
	if got := x.taken(); got != 8 {
		t.Errorf("%d parts of 8 were sent in all", got)
	}

	x.held = make(chan string, 100)
	var once sync.Once
	x.holding(func(r *http.Request) (hold bool) {
		if r.Method == http.MethodPut && strings.HasSuffix(r.URL.Path, "/channels/tiny-amd64.json") {
			once.Do(func() { hold = true })
		}
		return hold
	})
	late, output := p.started("publish", versions[2], "--to", p.to)
	<-x.held
	p.does("publish", versions[1], "--to", p.to)
	close(x.free) // cuts that request; the publisher's next attempt comes too late
	if err := late.Wait(); late.ProcessState.ExitCode() != conflicted || !strings.Contains(output.String(), "2026-12-02") {
		t.Errorf("the late one: %v\n%s", err, output)
	}
	if got := p.listed(); got != "03 not in the channel, 02 current, 01 previous" {
		t.Error(got)
	}
	p.does("publish", versions[2], "--to", p.to)
	if got := p.listed(); got != "03 current, 02 previous, 01 previous" {
		t.Error(got)
	}
}

// TestPublishKilledInAFolder: the same in a folder, whenever the kill comes.
func TestPublishKilledInAFolder(t *testing.T) {
	t.Parallel()
	leftOut(t, "TestPublishKilledInABucket, with store.TestInterruptedUpload of a folder,")
	versions, err := variations()
	if err != nil {
		t.Fatal(err)
	}
	p := folderSite(t)
	if output := p.does("publish", versions[0], "--to", p.to, "--dry-run"); output != "" {
		t.Errorf("a dry run says it did %s", output)
	}
	if _, err := os.Stat(p.to); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a dry run made something: %v", err)
	}
	cmd, _ := p.started("publish", versions[0], "--to", p.to)
	testkit.Eventually(t, "the upload", func() bool {
		some, _ := filepath.Glob(filepath.Join(p.to, "bases/tiny/amd64/2026-12-01/*base.iso*"))
		hidden, _ := filepath.Glob(filepath.Join(p.to, "bases/tiny/amd64/2026-12-01/.base.iso*"))
		return len(some)+len(hidden) > 0
	})
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	if got := p.listed(); got != "" && got != "01 current" {
		t.Errorf("half a publication is seen: %s", got)
	}
	p.does("publish", versions[0], "--to", p.to)
	must(t, isofs, "base", "verify", filepath.Join(p.to, "bases/tiny/amd64/2026-12-01"))

	// Refused are other bytes under the same version, and a base that does not match its manifest.
	if status, _, stderr := p.base("publish", filepath.Join(versions[1], "base.iso"), filepath.Join(versions[0], "manifest.json"), "--to", p.to); status != corrupt {
		t.Errorf("an image of another manifest: %d, %s", status, stderr)
	}
	other := filepath.Join(t.TempDir(), "manifest.json")
	must(t, isofs, "base", "index", filepath.Join(versions[1], "base.iso"), "--base-version", "2026-12-01", "-o", other)
	if status, _, stderr := p.base("publish", filepath.Join(versions[1], "base.iso"), other, "--to", p.to); status != misused || !strings.Contains(stderr, "a version of its own") {
		t.Errorf("other bytes: %d, %s", status, stderr)
	}
	p.does("publish", versions[1], "--to", p.to)
	p.does("publish", versions[2], "--to", p.to, "--keep", "2")
	p.does("rollback", "2026-12-02", "--at", p.to, "--flavor", "tiny", "--arch", "amd64")
	p.does("prune", "--at", p.to, "--keep", "1")
	if got := p.listed(); got != "03 not in the channel, 02 current" {
		t.Error(got)
	}
	for _, c := range [][]string{{"publish", versions[0]}, {"list"}, {"rollback", "--at", p.to, "tomorrow"}, {"prune", "--at", p.to, "--keep", "0"}, {"list", "--from", "https://h/x"}} {
		if status, _, stderr := p.base(c...); status != misused {
			t.Errorf("%q: %d, %s", c, status, stderr)
		}
	}
}

package integration

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"aesthetic.computer/isofs/integration/testkit"
)

// A client is a program that downloads and can continue after a cut. None of these sends a
// validator with its Range.
type client struct {
	name    string // also in its piece's name, so that each client has its piece
	program string
	// args make it load url into file, and continue at the file's end.
	args func(url, file string) []string
	// kill is the signal that ends it in the middle.
	kill syscall.Signal
	// retries says that the client is not killed: it continues itself.
	retries bool
}

var clients = []client{
	{name: "wget", program: "wget", kill: syscall.SIGKILL, args: func(url, file string) []string {
		return []string{"--no-config", "-nv", "-c", "--tries=1", "-O", file, url}
	}},
	{name: "curl", program: "curl", kill: syscall.SIGKILL, args: func(url, file string) []string {
		return []string{"-q", "-sS", "-C", "-", "-o", file, url}
	}},
	// A killed aria2 does not record its progress, and starts from zero.
	{name: "aria2", program: "aria2c", kill: syscall.SIGTERM, args: func(url, file string) []string {
		return []string{"--no-conf", "-c", "-x8", "-s8", "-k1M", "--file-allocation=none", "--disk-cache=0", "--max-tries=1",
			"--console-log-level=warn", "--show-console-readout=false", "--summary-interval=0", "-d", filepath.Dir(file), "-o", filepath.Base(file), url}
	}},
	{name: "wget-retry", program: "wget", retries: true, args: func(url, file string) []string {
		return []string{"--no-config", "-nv", "--tries=5", "--waitretry=0", "-O", file, url}
	}},
}

// cuts are the places of the cuts, as numbers of bytes.
var cuts = []struct {
	name string
	at   func(manifest) int64
}{
	{"before-the-slot", func(m manifest) int64 { return m.Size * 2 / 5 }},
	{"in-the-slot", func(m manifest) int64 { return m.Slot + m.SlotSize/4 }},
}

// A download is a client's download that is cut in the middle.
type download struct {
	t       *testing.T
	client  client
	piece   string
	file    string
	gate    *gate
	let     int64  // how many bytes the gate passes
	path    string // in the URL
	running *exec.Cmd
	output  *testkit.Buffer
	before  string // digest of the image of the first part
}

// downloads starts a download for each client and cut, and cuts it. Each has its own piece. The
// addresses are plain names, or those of the snapshots if permanent.
func downloads(t *testing.T, s *server, from string, permanent bool) []*download {
	t.Helper()
	need(t, "wget", "curl", "aria2c")
	m := readManifest(t)
	var all []*download
	using := clients
	if permanent {
		// At a snapshot's address the server needs to know nothing of the client. One client with
		// one connection and one with many are enough.
		using = []client{clients[0], clients[2]}
	}
	for _, cut := range cuts {
		for _, c := range using {
			d := &download{t: t, client: c, piece: c.name + "-" + cut.name}
			publish(t, from, d.piece, unlike(1, 12<<20), 1)
			d.before = s.digest(d.piece)
			d.path = "/" + d.piece + "-os.iso"
			if permanent {
				d.path = "/s/" + s.snapshot(d.piece) + d.path
			}
			d.file = filepath.Join(t.TempDir(), "part.iso")
			d.let = cut.at(m)
			d.gate = newGate(t, s.addr, d.let)
			d.start()
			all = append(all, d)
		}
	}
	for _, d := range all {
		d.cut()
	}
	return all
}

// start starts the client.
func (d *download) start() {
	d.t.Helper()
	d.output = &testkit.Buffer{}
	d.running = exec.Command(d.client.program, d.client.args(d.gate.url(d.path), d.file)...)
	d.running.Stdout, d.running.Stderr = d.output, d.output
	if err := d.running.Start(); err != nil {
		d.t.Fatal(err)
	}
	cmd := d.running
	d.t.Cleanup(func() {
		_ = cmd.Process.Kill() // it has ended unless the test failed
		_ = cmd.Wait()
	})
}

// cut waits until the client has what the gate passes, and ends the client.
func (d *download) cut() {
	d.t.Helper()
	select {
	case <-d.gate.spent:
	case <-time.After(patience):
		d.t.Fatalf("%s: it did not come to the cut\n%s", d.piece, d.output.String())
	}
	if d.client.retries {
		return // the gate still holds it
	}
	// Sockets and buffers hold some of what the gate passed.
	want := d.let - 1<<20
	if d.client.program == "aria2c" {
		// It closes some connections before it has read all.
		want = d.let / 2
	}
	deadline := time.Now().Add(patience)
	for onDisk(d.file) < want {
		if time.Now().After(deadline) {
			d.t.Fatalf("%s: the file stays at %d bytes\n%s", d.piece, onDisk(d.file), d.output.String())
		}
		time.Sleep(10 * time.Millisecond)
	}
	if err := d.running.Process.Signal(d.client.kill); err != nil {
		d.t.Fatalf("%s: %v\n%s", d.piece, err, d.output.String())
	}
	_ = d.running.Wait() // killed
	d.gate.release()
}

// onDisk is how many bytes of a file are allocated. Holes do not count.
func onDisk(path string) int64 {
	var st syscall.Stat_t
	if syscall.Stat(path, &st) != nil {
		return 0
	}
	return st.Blocks * 512
}

// resume lets the client continue and returns its exit status.
func (d *download) resume() int {
	d.t.Helper()
	if d.client.retries {
		d.gate.release()
	} else {
		d.start()
	}
	_ = d.running.Wait() // the exit status has the result
	return d.running.ProcessState.ExitCode()
}

// resumeWhole lets the client continue. The file must become the image of its first part.
func (d *download) resumeWhole() {
	d.t.Helper()
	if status := d.resume(); status != 0 {
		d.t.Errorf("%s: exit status %d\n%s", d.piece, status, d.output.String())
	}
	if sum := fileSum(d.t, d.file); sum != d.before {
		d.t.Errorf("%s: the file has %s, the image it began with %s\n%s", d.piece, sum, d.before, d.output.String())
	}
}

// digest is the SHA-256 of the piece's current image.
func (s *server) digest(piece string) string {
	s.t.Helper()
	resp, _ := s.request(http.MethodHead, "/"+piece+"-os.iso", "User-Agent: probe")
	raw, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(resp.Header.Get("Digest"), "SHA-256="))
	if err != nil || len(raw) != 32 {
		s.t.Fatalf("HEAD of %s: %s, Digest %q", piece, resp.Status, resp.Header.Get("Digest"))
	}
	return hex.EncodeToString(raw)
}

// rebundle gives every piece another bundle. It waits until a new client gets it.
func rebundle(t *testing.T, s *server, from string, all []*download) {
	t.Helper()
	for _, d := range all {
		publish(t, from, d.piece, unlike(2, 13<<20), 2)
	}
	awaitNew(t, s, all)
}

func awaitNew(t *testing.T, s *server, all []*download) {
	t.Helper()
	for _, d := range all {
		testkit.Eventually(t, d.piece+": the new bundle", func() bool { return s.digest(d.piece) != d.before })
	}
}

// TestResume cuts downloads and lets them continue, with no other change.
func TestResume(t *testing.T) {
	t.Parallel()
	from := pieces(t, nil)
	s := serve(t, "--pieces", from)
	for _, d := range downloads(t, s, from, false) {
		d.resumeWhole()
	}
}

// TestResumeIsOneImage: each piece gets a new bundle during its download.
func TestResumeIsOneImage(t *testing.T) {
	t.Parallel()
	for _, permanent := range []bool{false, true} {
		t.Run(fmt.Sprintf("permanent=%v", permanent), func(t *testing.T) {
			t.Parallel()
			from := pieces(t, nil)
			s := serve(t, "--pieces", from)
			all := downloads(t, s, from, permanent)
			rebundle(t, s, from, all)
			for _, d := range all {
				d.resumeWhole()
			}
		})
	}
}

// TestResumeAfterRestart also kills isofs. It must still have which client began with which image.
func TestResumeAfterRestart(t *testing.T) {
	t.Parallel()
	from := pieces(t, nil)
	s := serve(t, "--pieces", from)
	all := downloads(t, s, from, false)
	rebundle(t, s, from, all)
	s.kill()
	s.start()
	awaitNew(t, s, all)
	for _, d := range all {
		d.resumeWhole()
	}
}

// TestResumeOfWhatIsGone: isofs has removed the image of a download's first part. The client fails,
// and its part stays unchanged. It never becomes a mixture.
func TestResumeOfWhatIsGone(t *testing.T) {
	t.Parallel()
	for _, permanent := range []bool{false, true} {
		t.Run(fmt.Sprintf("permanent=%v", permanent), func(t *testing.T) {
			t.Parallel()
			from := pieces(t, nil)
			s := serve(t, "--pieces", from)
			all := downloads(t, s, from, permanent)
			rebundle(t, s, from, all)
			s.stop()
			s.args = append(s.args, "--retain", "1ms")
			s.start()
			for _, d := range all {
				d.resumeRefused(s)
			}
		})
	}
}

// resumeRefused lets the client continue. It must fail, with its part unchanged.
func (d *download) resumeRefused(s *server) {
	d.t.Helper()
	part, err := os.ReadFile(d.file)
	if err != nil {
		d.t.Fatal(err)
	}
	status := d.resume()
	if d.client.program == "aria2c" && !strings.HasPrefix(d.path, "/s/") {
		// Its requests look like those of a new client, so isofs cannot refuse them. But isofs
		// sends the digest of its image, and aria2 compares it.
		const checksumError = 32
		// If no connection had reached the slot, the result is the current image, whole.
		m := readManifest(d.t)
		ofSlot := part[min(m.Slot, int64(len(part))):min(m.Slot+m.SlotSize, int64(len(part)))]
		whole := status == 0 && len(bytes.Trim(ofSlot, "\x00")) == 0 && fileSum(d.t, d.file) == s.digest(d.piece)
		if status != checksumError && !whole {
			d.t.Errorf("%s: exit status %d, not %d\n%s", d.piece, status, checksumError, d.output.String())
		}
		return
	}
	now, err := os.ReadFile(d.file)
	if err != nil {
		d.t.Fatal(err)
	}
	if status == 0 {
		d.t.Errorf("%s: exit status 0 for an image that was removed\n%s", d.piece, d.output.String())
	}
	// wget's retry may write bytes that it had in memory at the cut.
	if !bytes.HasPrefix(now, part) || len(now) > len(part) && !d.client.retries {
		d.t.Errorf("%s: the part was changed from %d to %d bytes\n%s", d.piece, len(part), len(now), d.output.String())
	}
	if !strings.HasPrefix(d.path, "/s/") && d.client.program == "wget" && !strings.Contains(d.output.String(), "412") {
		d.t.Errorf("%s: it did not get a 412\n%s", d.piece, d.output.String())
	}
}

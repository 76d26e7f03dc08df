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

// A client is a program that downloads and is able to go on after it was cut.
// None of them sends a validator with its Range.
type client struct {
	name    string // also of its piece, so that none meets another's traces
	program string
	// args make it load url into file, from where the file ends.
	args func(url, file string) []string
	// kill is how it is ended in the middle.
	kill syscall.Signal
	// retries says that it is not ended: it goes on by itself.
	retries bool
}

var clients = []client{
	{name: "wget", program: "wget", kill: syscall.SIGKILL, args: func(url, file string) []string {
		return []string{"--no-config", "-nv", "-c", "--tries=1", "-O", file, url}
	}},
	{name: "curl", program: "curl", kill: syscall.SIGKILL, args: func(url, file string) []string {
		return []string{"-q", "-sS", "-C", "-", "-o", file, url}
	}},
	// A killed aria2 has not written down what it has, and begins anew.
	{name: "aria2", program: "aria2c", kill: syscall.SIGTERM, args: func(url, file string) []string {
		return []string{"--no-conf", "-c", "-x8", "-s8", "-k1M", "--file-allocation=none", "--disk-cache=0", "--max-tries=1",
			"--console-log-level=warn", "--show-console-readout=false", "--summary-interval=0", "-d", filepath.Dir(file), "-o", filepath.Base(file), url}
	}},
	{name: "wget-retry", program: "wget", retries: true, args: func(url, file string) []string {
		return []string{"--no-config", "-nv", "--tries=5", "--waitretry=0", "-O", file, url}
	}},
}

// cuts are the places at which a download is cut, by how many bytes came.
var cuts = []struct {
	name string
	at   func(manifest) int64
}{
	{"before-the-slot", func(m manifest) int64 { return m.Size * 2 / 5 }},
	{"in-the-slot", func(m manifest) int64 { return m.Slot + m.SlotSize/4 }},
}

// A download is one client's, cut in the middle.
type download struct {
	t       *testing.T
	client  client
	piece   string
	file    string
	gate    *gate
	let     int64  // bytes that the gate lets through
	path    string // in the URL
	running *exec.Cmd
	said    *testkit.Buffer
	before  string // digest of the image that it began with
}

// downloads begins one for each client and cut and leaves them cut, each of a
// piece of its own; by plain names, or by the addresses of the snapshots.
func downloads(t *testing.T, s *server, from string, permanent bool) []*download {
	t.Helper()
	need(t, "wget", "curl", "aria2c")
	m := readManifest(t)
	var all []*download
	using := clients
	if permanent {
		// The server is told no more than an address, so one client of each kind
		// will do: with one connection and with many.
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

// start runs the client.
func (d *download) start() {
	d.t.Helper()
	d.said = &testkit.Buffer{}
	d.running = exec.Command(d.client.program, d.client.args(d.gate.url(d.path), d.file)...)
	d.running.Stdout, d.running.Stderr = d.said, d.said
	if err := d.running.Start(); err != nil {
		d.t.Fatal(err)
	}
	cmd := d.running
	d.t.Cleanup(func() {
		_ = cmd.Process.Kill() // it has ended, unless the test failed
		_ = cmd.Wait()
	})
}

// cut waits until the client has what the gate lets through, and ends it.
func (d *download) cut() {
	d.t.Helper()
	select {
	case <-d.gate.spent:
	case <-time.After(patience):
		d.t.Fatalf("%s: it did not come to the cut\n%s", d.piece, d.said.String())
	}
	if d.client.retries {
		return // still held at the gate
	}
	// What the gate let through is in sockets and buffers, and then in the file.
	want := d.let - 1<<20
	if d.client.program == "aria2c" {
		// It closes connections of which it has not read all.
		want = d.let / 2
	}
	deadline := time.Now().Add(patience)
	for onDisk(d.file) < want {
		if time.Now().After(deadline) {
			d.t.Fatalf("%s: the file has %d bytes and gets no more\n%s", d.piece, onDisk(d.file), d.said.String())
		}
		time.Sleep(10 * time.Millisecond)
	}
	if err := d.running.Process.Signal(d.client.kill); err != nil {
		d.t.Fatalf("%s: %v\n%s", d.piece, err, d.said.String())
	}
	_ = d.running.Wait() // killed
	d.gate.release()
}

// onDisk is how much of a file is written; holes do not count.
func onDisk(path string) int64 {
	var st syscall.Stat_t
	if syscall.Stat(path, &st) != nil {
		return 0
	}
	return st.Blocks * 512
}

// resume lets the client go on and returns its exit status.
func (d *download) resume() int {
	d.t.Helper()
	if d.client.retries {
		d.gate.release()
	} else {
		d.start()
	}
	_ = d.running.Wait() // the status is read below
	return d.running.ProcessState.ExitCode()
}

// resumeWhole lets the client go on; the file must become the image that it
// began with.
func (d *download) resumeWhole() {
	d.t.Helper()
	if status := d.resume(); status != 0 {
		d.t.Errorf("%s: exit status %d\n%s", d.piece, status, d.said.String())
	}
	if sum := fileSum(d.t, d.file); sum != d.before {
		d.t.Errorf("%s: the file has %s, the image it began with %s\n%s", d.piece, sum, d.before, d.said.String())
	}
}

// digest is the SHA-256 of the image that a piece has now.
func (s *server) digest(piece string) string {
	s.t.Helper()
	resp, _ := s.request(http.MethodHead, "/"+piece+"-os.iso", "User-Agent: probe")
	raw, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(resp.Header.Get("Digest"), "SHA-256="))
	if err != nil || len(raw) != 32 {
		s.t.Fatalf("HEAD of %s: %s, Digest %q", piece, resp.Status, resp.Header.Get("Digest"))
	}
	return hex.EncodeToString(raw)
}

// rebundle gives every piece another bundle and waits until it is what a
// client that comes now gets.
func rebundle(t *testing.T, s *server, from string, all []*download) {
	t.Helper()
	for _, d := range all {
		publish(t, from, d.piece, unlike(2, 13<<20), 2)
	}
	awaitNew(t, s, all)
}

func awaitNew(t *testing.T, s *server, all []*download) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for _, d := range all {
		for s.digest(d.piece) == d.before {
			if time.Now().After(deadline) {
				t.Fatalf("%s: the new bundle is not seen", d.piece)
			}
			time.Sleep(20 * time.Millisecond)
		}
	}
}

// TestResume cuts downloads and lets them go on; nothing else happens.
func TestResume(t *testing.T) {
	t.Parallel()
	from := pieces(t, nil)
	s := serve(t, "--pieces", from)
	for _, d := range downloads(t, s, from, false) {
		d.resumeWhole()
	}
}

// TestResumeIsOneImage has each piece bundled anew while it is downloaded.
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

// TestResumeAfterRestart kills isofs as well: which client began with which
// image outlives it.
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

// TestResumeOfWhatIsGone: when the image that a download began with is kept no
// more, the client fails and the part stays what it was: no mixture that passes
// for an image, ever.
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

// resumeRefused lets the client go on, which has to fail with the part as it was.
func (d *download) resumeRefused(s *server) {
	d.t.Helper()
	part, err := os.ReadFile(d.file)
	if err != nil {
		d.t.Fatal(err)
	}
	status := d.resume()
	if d.client.program == "aria2c" && !strings.HasPrefix(d.path, "/s/") {
		// It asks like one that begins, so it cannot be refused without refusing
		// those too. But it is told the digest of what it gets, and checks it.
		const checksumError = 32
		// Only if none of its connections had come to the slot yet, what it gets is the present image, whole.
		m := readManifest(d.t)
		ofSlot := part[min(m.Slot, int64(len(part))):min(m.Slot+m.SlotSize, int64(len(part)))]
		whole := status == 0 && len(bytes.Trim(ofSlot, "\x00")) == 0 && fileSum(d.t, d.file) == s.digest(d.piece)
		if status != checksumError && !whole {
			d.t.Errorf("%s: exit status %d, not %d\n%s", d.piece, status, checksumError, d.said.String())
		}
		return
	}
	now, err := os.ReadFile(d.file)
	if err != nil {
		d.t.Fatal(err)
	}
	if status == 0 {
		d.t.Errorf("%s: exit status 0 for an image that is gone\n%s", d.piece, d.said.String())
	}
	// wget's retry may write out what it had in memory when it was cut.
	if !bytes.HasPrefix(now, part) || len(now) > len(part) && !d.client.retries {
		d.t.Errorf("%s: the part was changed from %d to %d bytes\n%s", d.piece, len(part), len(now), d.said.String())
	}
	if !strings.HasPrefix(d.path, "/s/") && d.client.program == "wget" && !strings.Contains(d.said.String(), "412") {
		d.t.Errorf("%s: it was not told 412\n%s", d.piece, d.said.String())
	}
}

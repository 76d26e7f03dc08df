package integration

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"
)

const (
	firmware     = "/usr/share/OVMF/OVMF_CODE_4M.fd"
	firmwareVars = "/usr/share/OVMF/OVMF_VARS_4M.fd"
	// bootPatience is for an emulated machine on a loaded one.
	bootPatience = 120 * time.Second
	// probePatience is for a machine that is not emulated, and boots in three seconds.
	probePatience = 8 * time.Second
)

// What the piece's side of an image says when it boots; see bake/tiny/init.
type boot struct {
	piece, title, about string // after ISOFS-PIECE, ISOFS-TITLE, ISOFS-JSON
	fail                string // after ISOFS-FAIL
	ok                  bool
	console             string // everything
}

func TestBootStraightFromTheMount(t *testing.T) {
	t.Parallel()
	needQEMU(t)
	const html = "<!doctype html><title>From the mount</title>\n<p>no copy of me was made\n"
	s := serve(t, "--pieces", pieces(t, map[string]string{"mounted": html}))
	id := s.snapshot("mounted")
	checkBoot(t, runQEMU(t, filepath.Join(s.mount(), "mounted-os.iso")), html, "From the mount", id)
}

func TestBootOfADownload(t *testing.T) {
	t.Parallel()
	needQEMU(t)
	html := page("A large piece", 3<<20)
	s := serve(t, "--pieces", "embedded,"+pieces(t, map[string]string{"large": html}))
	s.get("/notepat-os.iso") // another piece of the same base, before it
	image := filepath.Join(t.TempDir(), "large-os.iso")
	resp, body := s.get("/large-os.iso")
	if err := os.WriteFile(image, body, 0o644); err != nil {
		t.Fatal(err)
	}
	checkBoot(t, runQEMU(t, image), html, "A large piece", snapshotOf(t, resp.Header.Get("Link")))
}

func TestBootOfADamagedStickSaysSo(t *testing.T) {
	t.Parallel()
	needQEMU(t)
	const html = "<!doctype html><title>Whole</title>\n<p>one bit of this flips\n"
	s := serve(t, "--pieces", pieces(t, map[string]string{"whole": html}))
	_, body := s.get("/whole-os.iso")
	at := bytes.LastIndex(body, []byte(html))
	if at < 0 {
		t.Fatal("the bundle is not in the image")
	}
	body[at+len(html)-3] ^= 1
	image := filepath.Join(t.TempDir(), "damaged.iso")
	if err := os.WriteFile(image, body, 0o644); err != nil {
		t.Fatal(err)
	}
	b := runQEMU(t, image)
	if b.ok || !strings.Contains(b.fail, "piece.json") {
		t.Fatalf("a damaged piece was taken for whole:\n%s", b.console)
	}
}

func TestBootFromTheAddress(t *testing.T) {
	t.Parallel()
	needQEMU(t)
	// Nobody listens there: with the driver the error is that of the connection.
	out, _ := exec.Command("qemu-system-x86_64", "-machine", "none", "-display", "none", "-nodefaults",
		"-drive", "if=none,format=raw,readonly=on,file=http://127.0.0.1:1/x").CombinedOutput()
	if bytes.Contains(out, []byte("Unknown protocol")) {
		lack(t, "needs QEMU's curl driver: apt-get install qemu-block-extra")
	}
	s := serve(t)
	b := runQEMU(t, s.url("/notepat-os.iso"))
	if !b.ok {
		t.Fatalf("no boot:\n%s", b.console)
	}
}

// checkBoot compares what a booted image says with what it was made of.
func checkBoot(t *testing.T, b boot, html, title, id string) {
	t.Helper()
	if !b.ok {
		t.Fatalf("not ISOFS-OK:\n%s", b.console)
	}
	if want := fmt.Sprintf("sha256=%x size=%d", sha256.Sum256([]byte(html)), len(html)); b.piece != want {
		t.Errorf("piece is %q, want %q", b.piece, want)
	}
	if b.title != title {
		t.Errorf("title is %q, want %q", b.title, title)
	}
	if !json.Valid([]byte(b.about)) || !strings.Contains(b.about, id) {
		t.Errorf("piece.json does not name snapshot %s: %s", id, b.about)
	}
}

// snapshotOf finds the id in the header Link of a download.
func snapshotOf(t *testing.T, link string) string {
	t.Helper()
	found := regexp.MustCompile(`^</s/([0-9a-f]{32})/[^>]*>; rel="canonical"`).FindStringSubmatch(link)
	if found == nil {
		t.Fatalf("no snapshot in Link: %q", link)
	}
	return found[1]
}

func needQEMU(t *testing.T) {
	t.Helper()
	need(t, "qemu-system-x86_64")
	for _, path := range []string{firmware, firmwareVars} {
		if _, err := os.Stat(path); err != nil {
			lack(t, "needs "+path+": apt-get install ovmf")
		}
	}
}

// runQEMU boots an image, a file or an address, until it has said whether its
// piece is whole.
func runQEMU(t *testing.T, image string) boot {
	t.Helper()
	b, err := tryQEMU(t.TempDir(), image, accelerator(t), bootPatience, func(b boot) bool { return b.ok || b.fail != "" })
	if err != nil {
		t.Fatalf("%v; the console:\n%s", err, b.console)
	}
	return b
}

var probe sync.Once
var hardware bool

// accelerator returns QEMU's arguments for KVM if guests run by it. That
// /dev/kvm is there and that firmware runs are no proof: kernels were seen to
// hang behind both.
func accelerator(t *testing.T) []string {
	kvm := []string{"-accel", "kvm", "-cpu", "host"}
	probe.Do(func() {
		if _, err := os.Stat("/dev/kvm"); err != nil {
			return
		}
		_, err := tryQEMU(t.TempDir(), filepath.Join(baseDir, "base.iso"), kvm, probePatience, func(b boot) bool {
			return strings.Contains(b.console, "ISOFS-BOOT")
		})
		hardware = err == nil
	})
	if hardware {
		return kvm
	}
	return []string{"-accel", "tcg,thread=multi", "-cpu", "max"}
}

// oneMachine lets emulated machines, which take all processors, run one by one,
// so that none waits for the others within its patience.
var oneMachine sync.Mutex

// tryQEMU boots an image read-only until enough was said, and ends the machine.
func tryQEMU(dir, image string, accel []string, patience time.Duration, enough func(boot) bool) (boot, error) {
	var b boot
	vars := filepath.Join(dir, "vars.fd")
	data, err := os.ReadFile(firmwareVars)
	if err != nil {
		return b, err
	}
	if err := os.WriteFile(vars, data, 0o644); err != nil {
		return b, err
	}
	args := append([]string{
		"-machine", "q35", "-smp", "2", "-m", "512", "-display", "none", "-nodefaults", "-vga", "std",
		"-serial", "stdio", "-no-reboot", "-monitor", "none",
		"-drive", "if=pflash,format=raw,unit=0,readonly=on,file=" + firmware,
		"-drive", "if=pflash,format=raw,unit=1,file=" + vars,
		"-drive", "if=virtio,format=raw,readonly=on,file=" + image,
	}, accel...)
	cmd := exec.Command("qemu-system-x86_64", args...)
	console, err := cmd.StdoutPipe()
	if err != nil {
		return b, err
	}
	var says lockedBuffer
	cmd.Stderr = &says
	oneMachine.Lock()
	defer oneMachine.Unlock()
	if err := cmd.Start(); err != nil {
		return b, err
	}
	// It has nothing to save; and when it is gone, the reading below ends.
	limit := time.AfterFunc(patience, func() { _ = cmd.Process.Kill() })
	err = b.listen(console, enough)
	gaveUp := !limit.Stop()
	_ = cmd.Process.Kill()
	_ = cmd.Wait() // killed, or ended by itself: what was said counts
	switch {
	case err != nil && gaveUp:
		return b, fmt.Errorf("nothing of interest within %s: %s", patience, says.String())
	case err != nil:
		return b, fmt.Errorf("QEMU ended: %s", says.String())
	}
	return b, nil
}

// listen reads lines until enough is known; io.EOF if that never comes.
func (b *boot) listen(console io.Reader, enough func(boot) bool) error {
	lines := bufio.NewScanner(console)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		line := strings.TrimRight(lines.Text(), "\r")
		b.console += line + "\n"
		// The firmware's escape sequences may stand before it.
		if i := strings.Index(line, "ISOFS-"); i >= 0 {
			word, rest, _ := strings.Cut(line[i:], " ")
			switch word {
			case "ISOFS-PIECE":
				b.piece = rest
			case "ISOFS-TITLE":
				b.title = rest
			case "ISOFS-JSON":
				b.about = rest
			case "ISOFS-FAIL":
				b.fail = rest
			case "ISOFS-OK":
				b.ok = true
			}
		}
		if enough(*b) {
			return nil
		}
	}
	return io.EOF
}

package integration

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"aesthetic.computer/isofs/integration/testkit"
)

const (
	firmware = "/usr/share/OVMF/OVMF_CODE_4M.fd"
	// bootPatience is long, since the machine that emulates is busy with other tests.
	bootPatience = 300 * time.Second
)

// A boot is what the booted piece writes to the serial port; see bake/init.sh.
type boot struct {
	piece, title, about string   // after ISOFS-PIECE, ISOFS-TITLE and ISOFS-JSON
	fail                string   // after ISOFS-FAIL
	medium              string   // after ISOFS-MEDIUM
	words               []string // the first word of each line, in order: ISOFS-BOOT, ...
	console             string   // everything
}

// TestBootStraightFromTheMount boots a large piece as a CD-ROM by UEFI. Its base has served another
// piece before. TestDownload compares the bytes. Other tests boot in other ways: TestReleaseBoots
// as a disk by BIOS, TestBootFromTheAddress as a CD-ROM by BIOS, TestBootOfADamagedStickSaysSo as a
// disk by UEFI.
func TestBootStraightFromTheMount(t *testing.T) {
	t.Parallel()
	needQEMU(t)
	html := page("From the mount", 3<<20)
	s := serve(t, "--pieces", "embedded,"+pieces(t, map[string]string{"mounted": html}))
	s.snapshot("notepat")
	id := s.snapshot("mounted")
	b := runQEMU(t, filepath.Join(s.mount(), "mounted-os.iso"), "--as", "virtio-cd")
	checkBoot(t, b, html, "From the mount", id)
	if want := "medium=cd device=/dev/sr0 firmware=uefi secureboot=off"; b.medium != want {
		t.Errorf("it was booted from %s, want %s", b.medium, want)
	}
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
	if slices.Contains(b.words, "ISOFS-OK") || !strings.Contains(b.fail, "piece.json") {
		t.Fatalf("a damaged piece was taken for whole:\n%s", b.console)
	}
	if want := "medium=disk device=/dev/vda2 firmware=uefi secureboot=off"; b.medium != want {
		t.Errorf("it was booted from %s, want %s", b.medium, want)
	}
}

func TestBootFromTheAddress(t *testing.T) {
	t.Parallel()
	needQEMU(t)
	// No server listens at port 1. With the curl driver, QEMU reports the failed connection.
	out, _ := exec.Command("qemu-system-x86_64", "-machine", "none", "-display", "none", "-nodefaults",
		"-drive", "if=none,format=raw,readonly=on,file=http://127.0.0.1:1/x").CombinedOutput()
	if bytes.Contains(out, []byte("Unknown protocol")) {
		testkit.Lack(t, "QEMU's curl driver: apt-get install qemu-block-extra")
	}
	s := serve(t)
	dir := t.TempDir()
	r, err := bootTestOf(t, s.url("/notepat-os.iso"), "--piece", "notepat", "--expect-serial", "^ISOFS-OK$",
		"--as", "virtio-cd", "--firmware", "bios", "--screenshots", dir, "--json", filepath.Join(dir, "result.json"))
	if err != nil || !r.Passed || r.Times.Handover == nil || r.Times.Piece == nil {
		t.Fatalf("no boot (%v): %+v", err, r)
	}
	if !slices.ContainsFunc(r.Serial, func(line string) bool { return strings.HasPrefix(line, "ISOFS-MEDIUM medium=cd ") }) {
		t.Errorf("not from a CD-ROM: %q", r.Serial)
	}
	last := r.Screenshots[len(r.Screenshots)-1]
	if data, err := os.ReadFile(last.Path); err != nil || last.Why != "piece" || !bytes.HasPrefix(data, []byte("\x89PNG")) {
		t.Errorf("the last picture is %+v (%v)", last, err)
	}
	if data, err := os.ReadFile(filepath.Join(dir, "result.json")); err != nil || !json.Valid(data) {
		t.Errorf("the result's file has %q, %v", data, err)
	}
}

// TestBootOfAnotherPiece: an unexpected piece gives exit status 1, and the reason in JSON.
func TestBootOfAnotherPiece(t *testing.T) {
	t.Parallel()
	needQEMU(t)
	r, err := bootTestOf(t, filepath.Join(baseDir, "base.iso"), "--firmware", "bios", "--piece", "notepat", "--timeout", "3s")
	if exit, ok := errors.AsType[*exec.ExitError](err); !ok || exit.ExitCode() != 1 {
		t.Errorf("exit status: %v", err)
	}
	if r.Passed || r.Reason != "not seen within 3s; lacking: piece notepat" {
		t.Errorf("passed %v, reason %q", r.Passed, r.Reason)
	}
}

// checkBoot compares what a booted image says with what the image was made of.
func checkBoot(t *testing.T, b boot, html, title, id string) {
	t.Helper()
	want := []string{"ISOFS-BOOT", "ISOFS-MEDIUM", "ISOFS-LIVE", "ISOFS-PIECE", "ISOFS-TITLE", "ISOFS-JSON", "ISOFS-OK"}
	if !slices.Equal(b.words, want) {
		t.Fatalf("it says %v, want %v:\n%s", b.words, want, b.console)
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
	if _, err := os.Stat(firmware); err != nil {
		testkit.Lack(t, ""+firmware+": apt-get install ovmf")
	}
}

// A bootTest is what isofs boot-test prints.
type bootTest struct {
	Accel, Reason string
	Passed        bool
	Serial        []string
	Times         struct{ Handover, Splash, Piece *float64 }
	Screenshots   []struct{ Path, Why string }
}

// oneMachine makes emulated machines run one by one. Each uses all processors, so a second one
// could exceed its patience. The first one finds out which accelerator works.
var oneMachine struct {
	sync.Mutex
	accel string
}

// bootTestOf runs isofs boot-test on an image, which is a file or an address. The image is a virtio
// disk unless the flags say otherwise. The error is the command's.
func bootTestOf(t *testing.T, image string, flags ...string) (r bootTest, err error) {
	t.Helper()
	oneMachine.Lock()
	defer oneMachine.Unlock()
	if oneMachine.accel == "" {
		oneMachine.accel = "auto"
	}
	args := append([]string{"boot-test", image, "--as", "disk", "--memory", "512", "--timeout", bootPatience.String(), "--accel", oneMachine.accel}, flags...)
	cmd := exec.Command(isofs, args...)
	var says bytes.Buffer
	cmd.Stderr = &says
	out, err := cmd.Output()
	if len(out) == 0 {
		t.Fatalf("isofs %s: %v: %s", strings.Join(args, " "), err, says.String())
	}
	if err := json.Unmarshal(out, &r); err != nil {
		t.Fatalf("isofs boot-test prints %q: %v", out, err)
	}
	oneMachine.accel = r.Accel
	return r, err
}

// runQEMU boots an image until it has reported whether its piece is whole.
func runQEMU(t *testing.T, image string, flags ...string) boot {
	t.Helper()
	r, _ := bootTestOf(t, image, append(flags, "--expect-serial", "^ISOFS-(OK|FAIL)")...)
	b := boot{console: strings.Join(r.Serial, "\n") + "\n" + r.Reason}
	for _, line := range r.Serial {
		word, rest, _ := strings.Cut(line, " ")
		if strings.HasPrefix(word, "ISOFS-") {
			b.words = append(b.words, word)
		}
		switch word {
		case "ISOFS-MEDIUM":
			b.medium = rest
		case "ISOFS-PIECE":
			b.piece = rest
		case "ISOFS-TITLE":
			b.title = rest
		case "ISOFS-JSON":
			b.about = rest
		case "ISOFS-FAIL":
			b.fail = rest
		}
	}
	return b
}

package integration

import (
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// TestDownload checks an image with tools that are not part of isofs.
func TestDownload(t *testing.T) {
	t.Parallel()
	need(t, "wget", "sha256sum", "cmp", "dd", "e2fsck", "sgdisk")
	for _, profile := range []string{"direct", "page-cache"} {
		t.Run(profile, func(t *testing.T) {
			t.Parallel()
			html := unlike(1, 5<<20+123)
			from := pieces(t, nil)
			publish(t, from, "demo", html, 1)
			s := serve(t, "--profile", profile, "--pieces", from)
			dir := t.TempDir()
			for _, name := range []string{"demo-os.iso", "demo-os.iso.sha256"} {
				must(t, "wget", "-q", "-P", dir, s.url("/"+name))
			}
			iso := filepath.Join(dir, "demo-os.iso")
			t.Run("published digest", func(t *testing.T) {
				check := exec.Command("sha256sum", "-c", "demo-os.iso.sha256")
				check.Dir = dir
				if out, err := check.CombinedOutput(); err != nil {
					t.Fatalf("sha256sum -c: %v\n%s", err, out)
				}
			})
			t.Run("pack", func(t *testing.T) { must(t, "cmp", iso, pack(t, "demo", from)) })
			t.Run("base around the slot", func(t *testing.T) { checkAroundSlot(t, iso) })
			t.Run("partitions", func(t *testing.T) { checkPartitions(t, iso) })
			t.Run("volume", func(t *testing.T) { checkVolume(t, iso) })
			t.Run("mounted by the kernel", func(t *testing.T) { checkKernelMount(t, s, iso, html) })
			t.Run("mount", func(t *testing.T) { checkMount(t, s, iso) })
		})
	}
}

// checkAroundSlot: two images of one base differ in the slot and nowhere else.
func checkAroundSlot(t *testing.T, iso string) {
	m := readManifest(t)
	baseISO := filepath.Join(baseDir, "base.iso")
	must(t, "cmp", "-n", fmt.Sprint(m.Slot), baseISO, iso)
	must(t, "cmp", "-i", fmt.Sprint(m.Slot+m.SlotSize), baseISO, iso)
	if exec.Command("cmp", "-s", baseISO, iso).Run() == nil {
		t.Error("the image is the base: nothing is in its slot")
	}
}

func checkPartitions(t *testing.T, iso string) {
	if out := must(t, "sgdisk", "--verify", iso); !strings.Contains(out, "No problems found") {
		t.Errorf("sgdisk --verify: %s", out)
	}
	m := readManifest(t)
	// sgdisk prints the slot's first and last sector. The last one is inside the slot.
	info := must(t, "sgdisk", "--info=3", iso)
	for _, want := range []string{fmt.Sprintf("First sector: %d ", m.Slot/512), fmt.Sprintf("Last sector: %d ", (m.Slot+m.SlotSize)/512-1)} {
		if !strings.Contains(info, want) {
			t.Errorf("sgdisk --info=3 has no %q:\n%s", want, info)
		}
	}
}

// quietE2fsck matches what e2fsck prints if it finds no problem. The exit status is 0 for some
// problems, too.
var quietE2fsck = regexp.MustCompile(`^e2fsck [^\n]*\n(Pass [1-5]: [^\n]*\n){5}FEDAC-PIECE: \d+/\d+ files \([^)]*\), \d+/\d+ blocks\n$`)

func checkVolume(t *testing.T, iso string) {
	m := readManifest(t)
	volume := filepath.Join(t.TempDir(), "volume")
	must(t, "dd", "if="+iso, "of="+volume, "bs=64K", "iflag=skip_bytes,count_bytes",
		fmt.Sprintf("skip=%d", m.Slot), fmt.Sprintf("count=%d", m.SlotSize))
	// The second run has the clock of a machine without a battery.
	for _, clock := range []string{"", "E2FSCK_TIME=1"} {
		cmd := exec.Command("/usr/sbin/e2fsck", "-fn", volume)
		cmd.Env = append(os.Environ(), "LC_ALL=C")
		if clock != "" {
			cmd.Env = append(cmd.Env, clock)
		}
		out, err := cmd.CombinedOutput()
		if err != nil || !quietE2fsck.Match(out) {
			t.Errorf("%s e2fsck -fn: %v\n%s", clock, err, out)
		}
	}
}

// checkKernelMount mounts the piece as a booted machine does, and reads it.
func checkKernelMount(t *testing.T, s *server, iso, html string) {
	needRoot(t)
	m := readManifest(t)
	dir := t.TempDir()
	must(t, "mount", "-o", fmt.Sprintf("ro,loop,offset=%d,sizelimit=%d", m.Slot, m.SlotSize), "-t", "ext4", iso, dir)
	t.Cleanup(func() {
		if err := unix.Unmount(dir, 0); err != nil {
			t.Errorf("unmount: %v", err)
		}
	})
	got, err := os.ReadFile(filepath.Join(dir, "piece.html"))
	if err != nil || string(got) != html {
		t.Errorf("piece.html has %d bytes that are not the bundle's %d (%v)", len(got), len(html), err)
	}
	data, err := os.ReadFile(filepath.Join(dir, "piece.json"))
	if err != nil {
		t.Fatal(err)
	}
	var about map[string]any
	if err := json.Unmarshal(data, &about); err != nil {
		t.Fatalf("piece.json: %v\n%s", err, data)
	}
	for key, want := range map[string]any{
		"piece": "demo", "title": "bundle 1", "bundleSha256": textSum(html), "bundleSize": float64(len(html)),
		"baseSha256": m.SHA256, "baseVersion": m.Version, "arch": "amd64", "snapshot": s.snapshot("demo"),
	} {
		if about[key] != want {
			t.Errorf("piece.json has %s %v, not %v", key, about[key], want)
		}
	}
}

// checkMount reads the same image without nginx, under all of its names.
func checkMount(t *testing.T, s *server, iso string) {
	id := s.snapshot("demo")
	resp, _ := s.request(http.MethodHead, "/s/"+id+"/demo-os.iso")
	modified, err := http.ParseTime(resp.Header.Get("Last-Modified"))
	if err != nil {
		t.Fatal(err)
	}
	m := readManifest(t)
	for _, path := range []string{"demo-os.iso", "s/" + id + "/demo-os.iso"} {
		path = filepath.Join(s.mount(), path)
		must(t, "cmp", path, iso)
		fi, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if fi.Size() != m.Size || !fi.ModTime().Equal(modified) || fi.Mode().String() != "-r--r--r--" {
			t.Errorf("%s is %s, %d bytes, of %s; want -r--r--r--, %d, %s",
				path, fi.Mode(), fi.Size(), fi.ModTime(), m.Size, modified)
		}
	}
	for _, name := range []string{"demo-os.iso", "demo-os.iso.sha256"} {
		list := must(t, "ls", "-l", "--time-style=+%s", s.mount())
		row := regexp.MustCompile(`(?m)^-r--r--r-- .* (\d+) (\d+) ` + regexp.QuoteMeta(name) + `$`).FindStringSubmatch(list)
		if row == nil || row[2] != fmt.Sprint(modified.Unix()) {
			t.Errorf("ls -l does not show %s of %d:\n%s", name, modified.Unix(), list)
		}
	}
}

// TestAria2VerifiesByTheDigest shows that aria2 verifies a download by the Digest header.
func TestAria2VerifiesByTheDigest(t *testing.T) {
	t.Parallel()
	need(t, "aria2c")
	s := serve(t)
	dir := t.TempDir()
	out := must(t, "aria2c", "--no-conf", "-x8", "-s8", "-k1M", "--file-allocation=none", "--console-log-level=notice",
		"-d", dir, "-o", "a.iso", s.url("/notepat-os.iso"))
	if !strings.Contains(out, "Verification finished successfully") {
		t.Errorf("aria2c had no checksum to compare:\n%s", out)
	}
	sum := fileSum(t, filepath.Join(dir, "a.iso"))
	raw, err := hex.DecodeString(sum)
	if err != nil {
		t.Fatal(err)
	}
	resp, _ := s.request(http.MethodHead, "/notepat-os.iso")
	want := base64.StdEncoding.EncodeToString(raw)
	if got := resp.Header.Get("Digest"); got != "SHA-256="+want {
		t.Errorf("Digest is %q; the file has %q", got, want)
	}
	if got := resp.Header.Get("Repr-Digest"); got != "sha-256=:"+want+":" {
		t.Errorf("Repr-Digest is %q; the file has %q", got, want)
	}
}

// snapshot returns the id of the piece's current snapshot.
func (s *server) snapshot(piece string) string {
	s.t.Helper()
	resp, _ := s.request(http.MethodHead, "/"+piece+"-os.iso", "User-Agent: probe")
	return snapshotOf(s.t, resp.Header.Get("Link"))
}

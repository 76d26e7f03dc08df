package integration

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"aesthetic.computer/isofs/integration/testkit"
	"golang.org/x/sys/unix"
)

// runStick runs isofs stick and returns its output and exit status.
func runStick(t *testing.T, args ...string) (output string, status int) {
	t.Helper()
	out, err := exec.Command(isofs, append([]string{"stick"}, args...)...).CombinedOutput()
	exit, ended := errors.AsType[*exec.ExitError](err)
	if err != nil && !ended {
		t.Fatal(err)
	}
	if ended {
		status = exit.ExitCode()
	}
	return string(out), status
}

// flashed returns a file with the image, and 3 MiB more.
func flashed(t *testing.T, image []byte) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "stick")
	if err := os.WriteFile(file, append(bytes.Clone(image), make([]byte, 3<<20)...), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// holds reports whether a file begins with the image.
func holds(t *testing.T, file string, image []byte) bool {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return len(data) == len(image)+3<<20 && bytes.Equal(data[:len(image)], image)
}

// TestSlotByHTTP: the content of the slot is a file, by HTTP and in the mount.
func TestSlotByHTTP(t *testing.T) {
	t.Parallel()
	s := serve(t)
	_, image := s.get("/notepat-os.iso")
	resp, slot := s.get("/notepat-piece.img")
	if len(slot) != 20<<20 || !bytes.Contains(image, slot) {
		t.Fatalf("%d bytes, which are not in the image", len(slot))
	}
	folder := "/s/" + resp.Header.Get("X-Isofs-Snapshot") + "/"
	if resp.Header.Get("Digest") == "" || resp.Header.Get("ETag") == "" || resp.Header.Get("Content-Disposition") != `attachment; filename="notepat-piece.img"` {
		t.Errorf("headers: %v", resp.Header)
	}
	sum := fmt.Sprintf("%x  notepat-piece.img\n", sha256.Sum256(slot))
	for _, path := range []string{"/notepat-piece.img.sha256", folder + "notepat-piece.img.sha256"} {
		if _, got := s.get(path); string(got) != sum {
			t.Errorf("%s is %q, want %q", path, got, sum)
		}
	}
	if resp, part := s.get(folder+"notepat-piece.img", "Range: bytes=1000-2999"); resp.StatusCode != 206 || !bytes.Equal(part, slot[1000:3000]) {
		t.Errorf("a range: %s, %d bytes", resp.Status, len(part))
	}
	if resp, _ := s.get("/notepat-piece.img", "Range: bytes=1000-2999"); resp.StatusCode != 412 {
		t.Errorf("a range by the plain name: %s", resp.Status)
	}
	if resp, part := s.get("/notepat-piece.img", "Range: bytes=1000-2999", "If-Range: "+resp.Header.Get("ETag")); resp.StatusCode != 206 || !bytes.Equal(part, slot[1000:3000]) {
		t.Errorf("a range with its ETag: %s, %d bytes", resp.Status, len(part))
	}
	for _, name := range []string{"notepat-piece.img", folder + "notepat-piece.img"} {
		if got, err := os.ReadFile(filepath.Join(s.mount(), name)); err != nil || !bytes.Equal(got, slot) {
			t.Errorf("%s in the mount: %d bytes (%v)", name, len(got), err)
		}
	}
	if _, manifest := s.get(folder + "notepat-os.iso.manifest"); !bytes.Contains(manifest, []byte(`"blocks"`)) {
		t.Errorf("the manifest is %.100q", manifest)
	}
}

// TestStick: a stick (here a file) with one piece becomes another piece.
func TestStick(t *testing.T) {
	t.Parallel()
	dir := pieces(t, map[string]string{"one": page("one", 100_000), "two": page("two", 3_000_000)})
	s := serve(t, "--pieces", dir)
	_, one := s.get("/one-os.iso")
	_, two := s.get("/two-os.iso")
	file := flashed(t, one)
	address := s.url("/os:two")

	if output, status := runStick(t, "update", file, address, "--dry-run"); status != 0 || !strings.Contains(output, `"one"`) || !strings.Contains(output, "writes    20971520 bytes") || !holds(t, file, one) {
		t.Errorf("a dry run: %d\n%s", status, output)
	}
	if output, status := runStick(t, "update", file, address); status != 2 || !strings.Contains(output, "--yes") || !holds(t, file, one) {
		t.Errorf("without a terminal: %d\n%s", status, output)
	}
	if output, status := runStick(t, "update", file, address, "--yes", "--verify-base"); status != 0 || !holds(t, file, two) {
		t.Errorf("an update: %d\n%s", status, output)
	}
	if output, status := runStick(t, "update", file, address, "--yes"); status != 0 || !strings.Contains(output, "nothing was written") {
		t.Errorf("a second one: %d\n%s", status, output)
	}
	if output, status := runStick(t, "verify", file, s.url("/")); status != 0 || !strings.Contains(output, fmt.Sprintf("%x", sha256.Sum256(two))) {
		t.Errorf("verified: %d\n%s", status, output)
	}
	// The piece changes. The stick's image is still a retained snapshot.
	write(t, filepath.Join(dir, "two.html"), page("two again", 1000))
	if output, status := runStick(t, "verify", file, s.url("/")); status != 0 {
		t.Errorf("verified after a change: %d\n%s", status, output)
	}

	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	data[5<<20]++
	if err := os.WriteFile(file, data, 0o600); err != nil {
		t.Fatal(err)
	}
	if output, status := runStick(t, "verify", file, s.url("/")); status != 3 || !strings.Contains(output, "block 20 ") {
		t.Errorf("verified with a wrong byte: %d\n%s", status, output)
	}
	output, status := runStick(t, "update", file, s.url("/one-os.iso"), "--yes", "--verify-base")
	if status != 5 || !strings.Contains(output, "1 of its ") || !strings.Contains(output, "isofs stick update --repair "+file) {
		t.Errorf("an update on a base with a wrong byte: %d\n%s", status, output)
	}
	// A stick with hardly any block of this base has another base.
	for at := 5 << 20; at < len(two)-21<<20; at += 256 << 10 {
		data[at]++
	}
	if err := os.WriteFile(file, data, 0o600); err != nil {
		t.Fatal(err)
	}
	output, status = runStick(t, "update", file, s.url("/one-os.iso"), "--yes", "--repair")
	if status != 5 || !strings.Contains(output, "isofs stick write "+file) || !strings.Contains(output, "nothing was written") {
		t.Errorf("an update on another base: %d\n%s", status, output)
	}
	if output, status := runStick(t, "write", file, s.url("/one-os.iso"), "--yes"); status != 0 || !holds(t, file, one) {
		t.Errorf("all of it: %d\n%s", status, output)
	}
	none := flashed(t, make([]byte, len(one)))
	if output, status := runStick(t, "update", none, address, "--yes"); status != 2 || !strings.Contains(output, "not a stick of isofs") {
		t.Errorf("a file that is not a stick: %d\n%s", status, output)
	}
}

// TestUsedStick: isofs repairs a stick to which the kernel and mtools wrote, also with a keyring.
func TestUsedStick(t *testing.T) {
	t.Parallel()
	needRoot(t)
	need(t, "mmd", "mount")
	_, secret, ring := newSigningKey(t, "used")
	s := serve(t, "--pieces", pieces(t, map[string]string{"one": page("one", 1000), "two": page("two", 2000)}), "--sign-key", secret)
	_, one := s.get("/one-os.iso")
	_, two := s.get("/two-os.iso")
	file, folder := flashed(t, one), t.TempDir()
	must(t, "mmd", "-i", file+"@@1048576", "::/System Volume Information")
	live := bytes.Index(one, []byte("FEDAC-LIVE\x00")) - 1024 - 0x78
	if out, err := exec.Command("mount", "-t", "ext4", "-o", fmt.Sprintf("loop,offset=%d,sizelimit=%d", live, bytes.Index(one, []byte("FEDAC-PIECE\x00"))-1024-0x78-live), file, folder).CombinedOutput(); err != nil {
		testkit.Lack(t, fmt.Sprintf("needs loop devices: %v\n%s", err, out))
	}
	if err := unix.Unmount(folder, 0); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	data[446] = 0x80 // as parted sets by pmbr_boot
	if err := os.WriteFile(file, data, 0o600); err != nil {
		t.Fatal(err)
	}
	if output, status := runStick(t, "update", file, s.url("/os:two"), "--yes"); status != 5 || !strings.Contains(output, "blocks were changed") || !strings.Contains(output, "update --repair "+file) {
		t.Errorf("as it is: %d\n%s", status, output)
	}
	if output, status := runStick(t, "verify", file, s.url("/")); status != 3 || !strings.Contains(output, "update --repair") {
		t.Errorf("verified: %d\n%s", status, output)
	}
	if output, status := runStick(t, "update", file, s.url("/os:two"), "--repair", "--dry-run"); status != 0 || !strings.Contains(output, "blocks of its base") {
		t.Errorf("a dry run: %d\n%s", status, output)
	}
	if now, err := os.ReadFile(file); err != nil || !bytes.Equal(now, data) {
		t.Errorf("something was written (%v)", err)
	}
	if output, status := runStick(t, "update", file, s.url("/os:two"), "--repair", "--yes", "--keyring", ring); status != 0 {
		t.Errorf("repaired: %d\n%s", status, output)
	}
	two[446] = 0x80 // harmless, and the repair keeps it
	if !holds(t, file, two) {
		t.Error("the stick differs from one that was flashed with the other image")
	}
}

// TestSignedStick: a stick gets only an image that a key of the keyring signed. verify reports only
// such a signature.
func TestSignedStick(t *testing.T) {
	t.Parallel()
	_, secret, ring := newSigningKey(t, "sticks")
	_, _, strangers := newSigningKey(t, "strangers")
	dir := pieces(t, map[string]string{"one": page("one", 1000), "two": page("two", 2000)})
	s := serve(t, "--pieces", dir, "--sign-key", secret)
	_, one := s.get("/one-os.iso")
	_, two := s.get("/two-os.iso")
	file := flashed(t, one)
	if output, status := runStick(t, "update", file, s.url("/os:two"), "--yes", "--keyring", strangers); status != 3 || !holds(t, file, one) {
		t.Errorf("signed by a stranger: %d\n%s", status, output)
	}
	if output, status := runStick(t, "update", file, s.url("/os:two"), "--yes", "--keyring", ring); status != 0 || !holds(t, file, two) {
		t.Errorf("signed: %d\n%s", status, output)
	}
	if output, status := runStick(t, "verify", file, s.url("/"), "--keyring", ring); status != 0 || !strings.Contains(output, "signed    by ") {
		t.Errorf("verified: %d\n%s", status, output)
	}
	if output, status := runStick(t, "verify", file, s.url("/"), "--keyring", strangers); status != 3 || strings.Contains(output, "signed    by ") {
		t.Errorf("verified by a stranger's keyring: %d\n%s", status, output)
	}
}

// TestStickOnALoopDevice: the same on a disk of the kernel's with partitions. isofs refuses it
// while it is mounted.
func TestStickOnALoopDevice(t *testing.T) {
	t.Parallel()
	needRoot(t)
	need(t, "losetup", "e2fsck", "debugfs")
	s := serve(t, "--pieces", pieces(t, map[string]string{"one": page("one", 100_000), "two": page("two", 3_000_000)}))
	_, one := s.get("/one-os.iso")
	_, two := s.get("/two-os.iso")
	file := flashed(t, one)
	out, err := exec.Command("losetup", "--find", "--show", "--partscan", file).CombinedOutput()
	if err != nil {
		testkit.Lack(t, fmt.Sprintf("needs loop devices: %v\n%s", err, out))
	}
	disk := strings.TrimSpace(string(out))
	t.Cleanup(func() {
		if out, err := exec.Command("losetup", "-d", disk).CombinedOutput(); err != nil {
			t.Errorf("losetup -d: %v\n%s", err, out)
		}
	})
	// The disk must be the test's own, not another one of this machine.
	if !strings.HasPrefix(disk, "/dev/loop") {
		t.Fatal(disk)
	}
	if output, status := runStick(t, "update", disk, s.url("/two-os.iso"), "--yes"); status != 2 || !strings.Contains(output, "not removable") {
		t.Fatalf("a disk that is not removable: %d\n%s", status, output)
	}
	if output, status := runStick(t, "update", file, s.url("/two-os.iso"), "--yes"); status != 2 || !strings.Contains(output, "shows it as a disk") {
		t.Errorf("the file behind a loop device: %d\n%s", status, output)
	}

	slot := filepath.Join(t.TempDir(), "mnt")
	if err := os.Mkdir(slot, 0o755); err != nil {
		t.Fatal(err)
	}
	at := int64(bytes.Index(one, []byte("FEDAC-PIECE\x00")) - 1024 - 0x78)
	if out, err := exec.Command("mount", "-o", "ro,noload", "-t", "ext4", disk+"p3", slot).CombinedOutput(); err == nil {
		output, status := runStick(t, "update", disk, s.url("/two-os.iso"), "--yes")
		if err := unix.Unmount(slot, 0); err != nil {
			t.Error(err)
		}
		if status != 2 || !strings.Contains(output, "is mounted at "+slot) {
			t.Errorf("a disk that is mounted: %d\n%s", status, output)
		}
		if output, status := runStick(t, "update", disk+"p3", s.url("/two-os.iso"), "--yes", "--force"); status != 2 || !strings.Contains(output, "give the whole disk") {
			t.Errorf("a partition: %d\n%s", status, output)
		}
	} else {
		// A container without udev has no node for the partition. Package stick also tests these
		// refusals.
		t.Logf("the partition cannot be mounted here: %v\n%s", err, out)
	}

	if output, status := runStick(t, "update", disk, s.url("/two-os.iso"), "--yes", "--force"); status != 0 {
		t.Fatalf("an update: %d\n%s", status, output)
	}
	if !holds(t, file, two) {
		t.Error("the disk differs from one that was flashed with the other image")
	}
	if output, status := runStick(t, "verify", disk, s.url("/")); status != 0 || !strings.Contains(output, "The stick is what the server has.") {
		t.Errorf("verified: %d\n%s", status, output)
	}
	alone := filepath.Join(t.TempDir(), "slot")
	if at < 0 || os.WriteFile(alone, two[at:at+20<<20], 0o600) != nil {
		t.Fatalf("the slot is at %d", at)
	}
	if out, err := exec.Command("e2fsck", "-fn", alone).CombinedOutput(); err != nil {
		t.Errorf("e2fsck: %v\n%s", err, out)
	}
	if out, err := exec.Command("debugfs", "-R", "cat piece.html", alone).Output(); err != nil || string(out) != page("two", 3_000_000) {
		t.Errorf("debugfs reads %d bytes of the piece (%v)", len(out), err)
	}
	if output, status := runStick(t, "write", disk, s.url("/one-os.iso"), "--yes", "--force"); status != 0 || !holds(t, file, one) {
		t.Errorf("all of it: %d\n%s", status, output)
	}
}

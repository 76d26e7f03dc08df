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

// runStick runs isofs stick and returns what it said and its exit status.
func runStick(t *testing.T, args ...string) (said string, status int) {
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

// flashed is a file with the image, and 3 MiB more.
func flashed(t *testing.T, image []byte) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "stick")
	if err := os.WriteFile(file, append(bytes.Clone(image), make([]byte, 3<<20)...), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// holds says whether a file begins with the image.
func holds(t *testing.T, file string, image []byte) bool {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return len(data) == len(image)+3<<20 && bytes.Equal(data[:len(image)], image)
}

// TestSlotByHTTP: what is in the slot is a file, by HTTP and in the mount.
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

// TestStick: an image that was written to a file becomes another piece.
func TestStick(t *testing.T) {
	t.Parallel()
	dir := pieces(t, map[string]string{"one": page("one", 100_000), "two": page("two", 3_000_000)})
	s := serve(t, "--pieces", dir)
	_, one := s.get("/one-os.iso")
	_, two := s.get("/two-os.iso")
	file := flashed(t, one)
	address := s.url("/os:two")

	if said, status := runStick(t, "update", file, address, "--dry-run"); status != 0 || !strings.Contains(said, `"one"`) || !strings.Contains(said, "writes    20971520 bytes") || !holds(t, file, one) {
		t.Errorf("a dry run: %d\n%s", status, said)
	}
	if said, status := runStick(t, "update", file, address); status != 2 || !strings.Contains(said, "--yes") || !holds(t, file, one) {
		t.Errorf("without a terminal: %d\n%s", status, said)
	}
	if said, status := runStick(t, "update", file, address, "--yes", "--verify-base"); status != 0 || !holds(t, file, two) {
		t.Errorf("an update: %d\n%s", status, said)
	}
	if said, status := runStick(t, "update", file, address, "--yes"); status != 0 || !strings.Contains(said, "nothing was written") {
		t.Errorf("a second one: %d\n%s", status, said)
	}
	if said, status := runStick(t, "verify", file, s.url("/")); status != 0 || !strings.Contains(said, fmt.Sprintf("%x", sha256.Sum256(two))) {
		t.Errorf("verified: %d\n%s", status, said)
	}
	// The piece changes; what the stick has is still a snapshot that is kept.
	write(t, filepath.Join(dir, "two.html"), page("two anew", 1000))
	if said, status := runStick(t, "verify", file, s.url("/")); status != 0 {
		t.Errorf("verified after a change: %d\n%s", status, said)
	}

	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	data[5<<20]++
	if err := os.WriteFile(file, data, 0o600); err != nil {
		t.Fatal(err)
	}
	if said, status := runStick(t, "verify", file, s.url("/")); status != 3 || !strings.Contains(said, "block 20 ") {
		t.Errorf("verified with a wrong byte: %d\n%s", status, said)
	}
	said, status := runStick(t, "update", file, s.url("/one-os.iso"), "--yes", "--verify-base")
	if status != 5 || !strings.Contains(said, "1 of its ") || !strings.Contains(said, "isofs stick update --repair "+file) {
		t.Errorf("an update on a base with a wrong byte: %d\n%s", status, said)
	}
	// One that has hardly a block of this base is another.
	for at := 5 << 20; at < len(two)-21<<20; at += 256 << 10 {
		data[at]++
	}
	if err := os.WriteFile(file, data, 0o600); err != nil {
		t.Fatal(err)
	}
	said, status = runStick(t, "update", file, s.url("/one-os.iso"), "--yes", "--repair")
	if status != 5 || !strings.Contains(said, "isofs stick write "+file) || !strings.Contains(said, "nothing was written") {
		t.Errorf("an update on another base: %d\n%s", status, said)
	}
	if said, status := runStick(t, "write", file, s.url("/one-os.iso"), "--yes"); status != 0 || !holds(t, file, one) {
		t.Errorf("all of it: %d\n%s", status, said)
	}
	none := flashed(t, make([]byte, len(one)))
	if said, status := runStick(t, "update", none, address, "--yes"); status != 2 || !strings.Contains(said, "not a stick of isofs") {
		t.Errorf("a file that is none: %d\n%s", status, said)
	}
}

// TestUsedStick: a stick that the kernel and mtools wrote to is repaired, with a keyring too.
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
	data[446] = 0x80 // parted's pmbr_boot
	if err := os.WriteFile(file, data, 0o600); err != nil {
		t.Fatal(err)
	}
	if said, status := runStick(t, "update", file, s.url("/os:two"), "--yes"); status != 5 || !strings.Contains(said, "blocks were changed") || !strings.Contains(said, "update --repair "+file) {
		t.Errorf("as it is: %d\n%s", status, said)
	}
	if said, status := runStick(t, "verify", file, s.url("/")); status != 3 || !strings.Contains(said, "update --repair") {
		t.Errorf("verified: %d\n%s", status, said)
	}
	if said, status := runStick(t, "update", file, s.url("/os:two"), "--repair", "--dry-run"); status != 0 || !strings.Contains(said, "blocks of its base") {
		t.Errorf("a dry run: %d\n%s", status, said)
	}
	if now, err := os.ReadFile(file); err != nil || !bytes.Equal(now, data) {
		t.Errorf("something was written (%v)", err)
	}
	if said, status := runStick(t, "update", file, s.url("/os:two"), "--repair", "--yes", "--keyring", ring); status != 0 {
		t.Errorf("repaired: %d\n%s", status, said)
	}
	two[446] = 0x80 // which is nobody's harm, and stays
	if !holds(t, file, two) {
		t.Error("the stick is not as if it had been flashed with the other image")
	}
}

// TestSignedStick: a stick gets, and is said to be, only what a key of the keyring signed.
func TestSignedStick(t *testing.T) {
	t.Parallel()
	_, secret, ring := newSigningKey(t, "sticks")
	_, _, strangers := newSigningKey(t, "strangers")
	dir := pieces(t, map[string]string{"one": page("one", 1000), "two": page("two", 2000)})
	s := serve(t, "--pieces", dir, "--sign-key", secret)
	_, one := s.get("/one-os.iso")
	_, two := s.get("/two-os.iso")
	file := flashed(t, one)
	if said, status := runStick(t, "update", file, s.url("/os:two"), "--yes", "--keyring", strangers); status != 3 || !holds(t, file, one) {
		t.Errorf("signed by nobody known: %d\n%s", status, said)
	}
	if said, status := runStick(t, "update", file, s.url("/os:two"), "--yes", "--keyring", ring); status != 0 || !holds(t, file, two) {
		t.Errorf("signed: %d\n%s", status, said)
	}
	if said, status := runStick(t, "verify", file, s.url("/"), "--keyring", ring); status != 0 || !strings.Contains(said, "signed    by ") {
		t.Errorf("verified: %d\n%s", status, said)
	}
	if said, status := runStick(t, "verify", file, s.url("/"), "--keyring", strangers); status != 3 || strings.Contains(said, "signed    by ") {
		t.Errorf("verified by a stranger's keyring: %d\n%s", status, said)
	}
}

// TestStickOnALoopDevice: the same with a disk of the kernel's, partitions and
// all, which is refused while it is mounted.
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
	// The test's own, and nothing else of this machine.
	if !strings.HasPrefix(disk, "/dev/loop") {
		t.Fatal(disk)
	}
	if said, status := runStick(t, "update", disk, s.url("/two-os.iso"), "--yes"); status != 2 || !strings.Contains(said, "not removable") {
		t.Fatalf("a disk that is not removable: %d\n%s", status, said)
	}
	if said, status := runStick(t, "update", file, s.url("/two-os.iso"), "--yes"); status != 2 || !strings.Contains(said, "shows it as a disk") {
		t.Errorf("the file behind a loop device: %d\n%s", status, said)
	}

	slot := filepath.Join(t.TempDir(), "mnt")
	if err := os.Mkdir(slot, 0o755); err != nil {
		t.Fatal(err)
	}
	at := int64(bytes.Index(one, []byte("FEDAC-PIECE\x00")) - 1024 - 0x78)
	if out, err := exec.Command("mount", "-o", "ro,noload", "-t", "ext4", disk+"p3", slot).CombinedOutput(); err == nil {
		said, status := runStick(t, "update", disk, s.url("/two-os.iso"), "--yes")
		if err := unix.Unmount(slot, 0); err != nil {
			t.Error(err)
		}
		if status != 2 || !strings.Contains(said, "is mounted at "+slot) {
			t.Errorf("a disk that is mounted: %d\n%s", status, said)
		}
		if said, status := runStick(t, "update", disk+"p3", s.url("/two-os.iso"), "--yes", "--force"); status != 2 || !strings.Contains(said, "give the whole disk") {
			t.Errorf("a partition: %d\n%s", status, said)
		}
	} else {
		// A container without udev has no node of the partition; the table of
		// refusals in package stick has these cases too.
		t.Logf("the partition cannot be mounted here: %v\n%s", err, out)
	}

	if said, status := runStick(t, "update", disk, s.url("/two-os.iso"), "--yes", "--force"); status != 0 {
		t.Fatalf("an update: %d\n%s", status, said)
	}
	if !holds(t, file, two) {
		t.Error("the disk is not as if it had been flashed with the other image")
	}
	if said, status := runStick(t, "verify", disk, s.url("/")); status != 0 || !strings.Contains(said, "The stick is what the server has.") {
		t.Errorf("verified: %d\n%s", status, said)
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
	if said, status := runStick(t, "write", disk, s.url("/one-os.iso"), "--yes", "--force"); status != 0 || !holds(t, file, one) {
		t.Errorf("all of it: %d\n%s", status, said)
	}
}

package bake

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"aesthetic.computer/isofs/fault"
	"aesthetic.computer/isofs/integration/testkit"
)

func TestFindChecksum(t *testing.T) {
	const name = "Fedora-Workstation-Live-43-1.6.x86_64.iso"
	sum := strings.Repeat("aB", 32)
	line := "SHA256 (" + name + ") = " + sum + "\n"
	signed := "-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA256\n\n# " + name + ": 2742190080 bytes\n" + line + "-----BEGIN PGP SIGNATURE-----\n\nAAAA\n-----END PGP SIGNATURE-----\n"
	if got, err := findChecksum([]byte(signed), name); err != nil || got != strings.ToLower(sum) {
		t.Errorf("got %s, %v", got, err)
	}
	for text, want := range map[string]string{
		"":                                "it is not a CHECKSUM file",
		sum + "  " + name + "\n":          "it is not a CHECKSUM file",
		"SHA256 (" + name + ") = abcd":    "it is not a CHECKSUM file",
		"SHA256 (other.iso) = " + sum:     "it does not name " + name + ", only other.iso",
		line + line[:len(line)-2] + "f\n": "two checksums",
	} {
		if _, err := findChecksum([]byte(text), name); fault.Kind(err) == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %v, want %q", text, err, want)
		}
	}
}

// With a keyring only the signed lines count.
func TestSignedChecksums(t *testing.T) {
	gpg, gpgv := testkit.NeedTool(t, "gpg", "gpg"), testkit.NeedTool(t, "gpgv", "gpgv")
	home, err := os.MkdirTemp("", "gpg") // gpg-agent's socket wants a short path
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("GNUPGHOME", home)
	t.Cleanup(func() {
		_ = exec.Command("gpgconf", "--kill", "all").Run() // its own agent, of this home
		_ = os.RemoveAll(home)
	})
	iso := put(t, 0o644, "an ISO", t.TempDir(), liveName)
	plain, keys := sumFile(t, iso), filepath.Join(home, "keys.gpg")
	run(t, gpg, "--batch", "--quiet", "--passphrase", "", "--quick-generate-key", "test@example.org", "ed25519", "sign", "never")
	run(t, gpg, "--batch", "--export", "--output", keys)
	signed := filepath.Join(home, "CHECKSUM")
	run(t, gpg, "--batch", "--passphrase", "", "--output", signed, "--clearsign", plain)
	j := &job{TinyOptions: TinyOptions{Progress: func(string, int64, int64) {}}, scratch: t.TempDir(), run: &runner{tools: map[string]string{"gpgv": gpgv}, log: discard}}
	if _, err := j.verifyISO(t.Context(), iso, ISODigest{Checksum: signed, Keyring: keys}); err != nil {
		t.Errorf("signed: %v", err)
	}
	text, err := os.ReadFile(signed)
	if err != nil {
		t.Fatal(err)
	}
	before := put(t, 0o644, "SHA256 (other.iso) = "+strings.Repeat("0", 64)+"\n"+string(text), home, "before")
	changed := put(t, 0o644, strings.Replace(string(text), "SHA256 (Fedora", "SHA256 (fedora", 1), home, "changed")
	_ = os.Remove(j.path("checksums"))
	if _, err := j.verifyISO(t.Context(), iso, ISODigest{Checksum: changed, Keyring: keys}); fault.Kind(err) != fault.Corrupt {
		t.Errorf("changed after signing: %v", err)
	}
	_ = os.Remove(j.path("checksums"))
	if text, err := j.readChecksums(t.Context(), ISODigest{Checksum: before, Keyring: keys}); err == nil && strings.Contains(string(text), "other.iso") {
		t.Errorf("what stands before the signed part counts: %s", text)
	}
}

func TestRelease(t *testing.T) {
	for _, c := range []struct{ name, label, full string }{
		{"Fedora-Workstation-Live-43-1.6.x86_64.iso", "Fedora-WS-Live-43", "43-1.6"},
		{"Fedora-Workstation-Live-x86_64-41-1.4.iso", "Fedora-WS-Live-41-1-4", "41-1.4"},
		{"live.iso", "Fedora-WS-Live-43", "43"},
		{"live.iso", "SOMETHING", ""},
	} {
		if got := releaseOf(c.name, c.label); got.full != c.full {
			t.Errorf("%s, %s: got %q, want %q", c.name, c.label, got.full, c.full)
		}
	}
}

func TestCompressors(t *testing.T) {
	for config, want := range map[string]string{
		"": "lz4hc,level=9",
		"CONFIG_EROFS_FS=m\nCONFIG_EROFS_FS_ZIP=y\n# CONFIG_EROFS_FS_ZIP_LZMA is not set\n": "lz4hc,level=9",
		"CONFIG_EROFS_FS=m\nCONFIG_EROFS_FS_ZIP_LZMA=y\n":                                   "lzma,level=6",
		"CONFIG_EROFS_FS=y\nCONFIG_EROFS_FS_ZIP_LZMA=y\nCONFIG_EROFS_FS_ZIP_ZSTD=y\n":       erofsZstd,
	} {
		if got, err := compressors(config); err != nil || got != want {
			t.Errorf("%q: got %s, %v", config, got, err)
		}
	}
	if _, err := compressors("# CONFIG_EROFS_FS is not set\n"); fault.Kind(err) != fault.Invalid {
		t.Errorf("a kernel without EROFS: %v", err)
	}
}

func TestFedoraRecipe(t *testing.T) {
	r, err := fedoraRecipe()
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range r.paths() {
		if strings.Contains(path, "initramfs-tools") || strings.Contains(path, "triggerhappy") {
			t.Errorf("%s is Debian's", path)
		}
	}
	for _, path := range []string{"usr/lib/isofs/session", "etc/systemd/system/seatd.service.d/isofs.conf"} {
		if r.files[path] == nil {
			t.Errorf("no %s", path)
		}
	}
	debian, err := kioskRecipe()
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range debian.paths() {
		if strings.Contains(path, "fedora") || strings.Contains(path, "seatd") {
			t.Errorf("%s is in the debian base", path)
		}
	}
}

// A root of each form comes out unchanged, with the session laid over it, and
// tools find no fault in the image. TestMatrix boots one.
func TestFedora(t *testing.T) {
	fedoraNeeds(t)
	j, parts := debianParts(t)
	formats := []string{"erofs"} // Fedora 42 and later
	if *matrix {
		formats = append(formats, "squashfs", "ext4")
	}
	for _, format := range formats {
		t.Run(format, func(t *testing.T) { bakeFedora(t, j, parts, format) })
	}
}

// bakeFedora bakes a Live ISO whose root has that form, and checks the base.
func bakeFedora(t *testing.T, j *job, parts, format string) *Result {
	t.Helper()
	l := liveISO{format: format, lacking: []string{"cage", "chromium"}, dnf: "echo \"$*\" >/etc/test-dnf; touch /var/lib/test/cage /var/lib/test/chromium"}
	iso, checksum, root := l.make(t, j, parts)
	r, err := Fedora(t.Context(), FedoraOptions{LiveISO: iso, Want: ISODigest{Checksum: checksum}, DebianOptions: DebianOptions{WorkDir: debs, OutDir: t.TempDir()}})
	if err != nil {
		t.Fatal(err)
	}
	if r.Manifest.Flavor != "fedora" || r.Manifest.Fedora != "43-1.6" || !strings.HasSuffix(r.Dir, "fedora/amd64/2026-11-01") {
		t.Errorf("manifest %s %s in %s", r.Manifest.Flavor, r.Manifest.Fedora, r.Dir)
	}
	checkFedoraImage(t, r, root)
	nothingLeft(t, debs)
	return r
}

// checkFedoraImage checks the image.
func checkFedoraImage(t *testing.T, r *Result, root string) {
	t.Helper()
	f, err := os.Open(r.Image)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := r.Manifest.Verify(t.Context(), f, r.Manifest.TotalSize, nil); err != nil {
		t.Error(err)
	}
	if out := run(t, testkit.NeedTool(t, "sgdisk", "gdisk"), "--verify", r.Image); !strings.Contains(out, "No problems found") {
		t.Errorf("sgdisk: %s", out)
	}
	esp := fmt.Sprintf("%s@@%d", r.Image, espStart)
	if out := run(t, testkit.NeedTool(t, "mdir", "mtools"), "-b", "-/", "-i", esp, "::/"); !strings.Contains(out, "/EFI/fedora/grub.cfg") ||
		!strings.Contains(out, "/EFI/BOOT/BOOTX64.EFI") || !strings.Contains(out, "/boot/initrd.img") || !strings.Contains(out, "/EFI/BOOT/grub.cfg") {
		t.Errorf("the ESP has:\n%s", out)
	}
	tree := unpackLiveOf(t, r)
	want, got := describeTree(t, filepath.Join(root, "odd")), describeTree(t, filepath.Join(tree, "odd"))
	if !slices.Equal(want, got) {
		t.Errorf("the root's files came out as\n%s\nand went in as\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	for path, want := range map[string]string{
		"etc/test-dnf": "install cage chromium\n", "etc/test-dracut": "--kver 6.1-test --add dmsquash-live", "etc/test-systemctl": "enable isofs-piece.service",
		"usr/lib/isofs/session": "#!/bin/sh", "etc/test-useradd": "kiosk", "usr/lib/os-release": "ID=fedora",
	} {
		if data, err := os.ReadFile(filepath.Join(tree, path)); err != nil || !bytes.Contains(data, []byte(want)) {
			t.Errorf("%s has %q (%v), want %q", path, data, err, want)
		}
	}
	if info, err := os.Stat(filepath.Join(tree, "usr/lib/isofs/session")); err != nil || info.Mode() != 0o755 {
		t.Errorf("the session is no program: %v", err)
	}
	if data, _ := os.ReadFile(filepath.Join(tree, "etc/resolv.conf")); string(data) != "nameserver 192.0.2.1\n" {
		t.Errorf("this machine's resolv.conf is in the base: %q", data)
	}
}

// unpackLiveOf unpacks the EROFS of an image with the tools of the bake.
func unpackLiveOf(t *testing.T, r *Result) (tree string) {
	t.Helper()
	dir := t.TempDir()
	out := run(t, testkit.NeedTool(t, "sgdisk", "gdisk"), "-i", "2", r.Image)
	var first, last int64
	for line := range strings.Lines(out) {
		_, _ = fmt.Sscanf(line, "First sector: %d", &first)
		_, _ = fmt.Sscanf(line, "Last sector: %d", &last)
	}
	volume := filepath.Join(dir, "live")
	run(t, "dd", "if="+r.Image, "of="+volume, "bs=512", fmt.Sprint("skip=", first), fmt.Sprint("count=", last-first+1), "status=none")
	if out := run(t, testkit.NeedTool(t, "e2fsck", "e2fsprogs"), "-fn", volume); strings.Contains(out, "?") {
		t.Errorf("e2fsck: %s", out)
	}
	erofs := filepath.Join(dir, "erofs")
	run(t, testkit.NeedTool(t, "debugfs", "e2fsprogs"), "-R", "dump "+squashfsPath+" "+erofs, volume)
	f := &fedoraJob{job: &job{TinyOptions: TinyOptions{WorkDir: debs, Arch: "amd64", Progress: func(string, int64, int64) {}}, scratch: t.TempDir()}}
	tools, err := findFedoraTools(false)
	if err != nil {
		t.Fatal(err)
	}
	f.run = &runner{tools: tools, log: discard}
	if err := f.erofsTools(t.Context()); err != nil {
		t.Fatal(err)
	}
	tree = filepath.Join(dir, "tree")
	if err := f.unpackImage(t.Context(), erofs, tree); err != nil {
		t.Fatal(err)
	}
	// fsck.erofs checks the file system itself.
	command := f.erofsCommand("fsck.erofs", erofs)
	run(t, command[0], command[1:]...)
	return tree
}

// nothingLeft looks for leftovers that a stopped bake must not leave.
func nothingLeft(t *testing.T, work string) {
	t.Helper()
	mounts, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(mounts), work) {
		t.Errorf("something is mounted under %s:\n%s", work, mounts)
	}
	for _, pattern := range []string{scratchPattern, "steps/*/*.tmp"} {
		if left, _ := filepath.Glob(filepath.Join(work, pattern)); len(left) > 0 {
			t.Errorf("%v is left", left)
		}
	}
	loops, _ := filepath.Glob("/sys/block/loop*/loop/backing_file")
	for _, loop := range loops {
		if file, _ := os.ReadFile(loop); strings.HasPrefix(string(file), work) {
			t.Errorf("%s is a loop device over %s", loop, file)
		}
	}
}

// An error names each fault of the input, and the bake leaves nothing.
func TestFedoraBadInput(t *testing.T) {
	fedoraNeeds(t)
	j, parts := debianParts(t)
	remove := func(path string) func(*testing.T, string) {
		return func(t *testing.T, root string) {
			if err := os.RemoveAll(filepath.Join(root, path)); err != nil {
				t.Fatal(err)
			}
		}
	}
	for name, c := range map[string]struct {
		live   liveISO
		change func(t *testing.T, o *FedoraOptions)
		kind   error
		want   string
	}{
		"no LiveOS":      {liveISO{after: remove("LiveOS")}, nil, fault.NotFound, "has no /LiveOS/squashfs.img: it is not a live system"},
		"unknown format": {liveISO{}, nil, fault.Invalid, "squashfs.img is neither EROFS nor squashfs nor ext4"},
		"unknown inner format": {liveISO{format: "squashfs", change: func(t *testing.T, root string) {
			put(t, 0o644, strings.Repeat("noise", 1000), root, "LiveOS/rootfs.img")
		}}, nil, fault.Invalid, "LiveOS/rootfs.img in it: rootfs.img is neither"},
		"cut off": {liveISO{format: "squashfs", after: func(t *testing.T, tree string) {
			if err := os.Truncate(filepath.Join(tree, squashfsPath), 1<<20); err != nil {
				t.Fatal(err)
			}
		}}, nil, fault.Corrupt, "squashfs.img is cut off"},
		"damaged": {liveISO{format: "squashfs", after: func(t *testing.T, tree string) {
			f, err := os.OpenFile(filepath.Join(tree, squashfsPath), os.O_WRONLY, 0)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			if _, err := f.WriteAt(bytes.Repeat([]byte("damage"), 100000), 200); err != nil {
				t.Fatal(err)
			}
		}}, nil, fault.Corrupt, "the squashfs is damaged"},
		"no kernel":  {liveISO{format: "squashfs", change: remove("usr/lib/modules/6.1-test/vmlinuz")}, nil, fault.NotFound, "no kernel found"},
		"no modules": {liveISO{format: "squashfs", change: remove("usr/lib/modules")}, nil, fault.NotFound, "has 0 kernels"},
		"no shim":    {liveISO{format: "squashfs", after: remove("EFI/BOOT/BOOTX64.EFI")}, nil, fault.NotFound, "has no EFI/BOOT/BOOTX64.EFI"},
		"other release": {liveISO{format: "squashfs", change: func(t *testing.T, root string) {
			put(t, 0o644, "ID=fedora\nVERSION_ID=42\n", root, "usr/lib/os-release")
		}}, nil, fault.Invalid, "says Fedora 43, the root file system in it 42"},
		"lacking":   {liveISO{format: "squashfs", lacking: []string{"cage", "seatd"}}, func(_ *testing.T, o *FedoraOptions) { o.NoInstall = true }, fault.NotFound, "forbids to install: cage seatd"},
		"dnf fails": {liveISO{format: "squashfs", lacking: []string{"cage"}, dnf: "echo no network >&2; exit 1"}, nil, fault.Unavailable, "no network"},
		"not an ISO": {liveISO{}, func(t *testing.T, o *FedoraOptions) {
			put(t, 0o644, strings.Repeat("no ISO", 10000), o.LiveISO)
		}, fault.Invalid, "is not an ISO 9660"},
		"wrong checksum": {liveISO{}, func(_ *testing.T, o *FedoraOptions) {
			o.Want = ISODigest{SHA256: strings.Repeat("0", 64)}
		}, fault.Corrupt, "is demanded: download it again"},
		"not named": {liveISO{}, func(t *testing.T, o *FedoraOptions) {
			put(t, 0o644, "SHA256 (x.iso) = "+strings.Repeat("0", 64), o.Want.Checksum)
		}, fault.NotFound, "does not name " + liveName},
		"no checksum": {liveISO{}, func(_ *testing.T, o *FedoraOptions) { o.Want = ISODigest{} }, fault.Invalid, "nothing says which ISO is meant"},
		"not signed":  {liveISO{}, func(_ *testing.T, o *FedoraOptions) { o.Want.Keyring = "/dev/null" }, fault.Corrupt, "check the signature"},
	} {
		t.Run(name, func(t *testing.T) {
			iso, checksum, _ := c.live.make(t, j, parts)
			out := t.TempDir()
			o := FedoraOptions{LiveISO: iso, Want: ISODigest{Checksum: checksum}, DebianOptions: DebianOptions{WorkDir: debs, OutDir: out}}
			if c.change != nil {
				c.change(t, &o)
			}
			_, err := Fedora(t.Context(), o)
			if fault.Kind(err) != c.kind || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q of kind %v", err, c.want, c.kind)
			}
			nothingLeft(t, debs)
			if left, _ := filepath.Glob(filepath.Join(out, "fedora/amd64/*")); len(left) > 0 {
				t.Errorf("%v is left", left)
			}
		})
	}
}

// A bake that is stopped while it installs leaves neither mounts nor processes,
// and the next one makes the base.
func TestFedoraEnded(t *testing.T) {
	fedoraNeeds(t)
	j, parts := debianParts(t)
	l := liveISO{format: "squashfs", lacking: []string{"cage"}, dnf: "if [ ! -e /var/cache/dnf/started ]; then touch /var/cache/dnf/started; sleep 1000; fi; touch /var/lib/test/cage"}
	iso, _, _ := l.make(t, j, parts)
	sum, err := fileSum(iso)
	if err != nil {
		t.Fatal(err)
	}
	started := filepath.Join(debs, "dnf", "started")
	if err := os.RemoveAll(started); err != nil {
		t.Fatal(err)
	}
	o := FedoraOptions{LiveISO: iso, Want: ISODigest{SHA256: fmt.Sprintf("%x", sum)}, DebianOptions: DebianOptions{WorkDir: debs, OutDir: t.TempDir()}}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	done := make(chan error, 1)
	go func() {
		_, err := Fedora(ctx, o)
		done <- err
	}()
	for {
		if _, err := os.Stat(started); err == nil {
			break
		}
		select {
		case err := <-done:
			t.Fatalf("ended before it installed: %v", err)
		case <-time.After(time.Millisecond):
		}
	}
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) || fault.Kind(err) != fault.Unavailable {
		t.Errorf("got %v", err)
	}
	nothingLeft(t, debs)
	if out, err := exec.Command("sh", "-c", "ls -l /proc/[0-9]*/root 2>/dev/null").Output(); err == nil && strings.Contains(string(out), debs) {
		t.Errorf("a process is left in the root:\n%s", out)
	}
	first, err := Fedora(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	// The same again, from its steps and then without them.
	for _, forget := range []bool{false, true} {
		if forget {
			if err := os.RemoveAll(filepath.Join(debs, "steps")); err != nil {
				t.Fatal(err)
			}
		}
		again, err := Fedora(t.Context(), o)
		if err != nil {
			t.Fatal(err)
		}
		if !again.Unchanged || again.Manifest.SHA256 != first.Manifest.SHA256 {
			t.Errorf("another base the second time: %s and %s", first.Manifest.SHA256, again.Manifest.SHA256)
		}
	}
}

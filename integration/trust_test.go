package integration

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"aesthetic.computer/isofs/integration/testkit"
)

// newSigningKey makes a key with isofs. made is for commands. secret is a copy for servers, which
// may run as another user. ring is the keyring.
func newSigningKey(t *testing.T, name string) (made, secret, ring string) {
	t.Helper()
	dir, err := os.MkdirTemp(workDir, "keys-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	made, secret, ring = filepath.Join(dir, "made.asc"), filepath.Join(dir, name+".asc"), filepath.Join(dir, name+"-public.asc")
	if status, _, stderr := isofsCommand(t, nil, "key", "new", "--name", name, "--email", name+"@example.org", "--out", made); status != 0 {
		t.Fatalf("key new: %d %s", status, stderr)
	}
	if info, err := os.Stat(made); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the key's file: %v, %v", info, err)
	}
	status, public, stderr := isofsCommand(t, nil, "key", "public", made)
	if status != 0 {
		t.Fatalf("key public: %d %s", status, stderr)
	}
	content, err := os.ReadFile(made)
	if err != nil {
		t.Fatal(err)
	}
	keyFile(t, secret, string(content))
	write(t, ring, public)
	return made, secret, ring
}

// gpgWith returns a function that runs gpg with the keys of a file.
func gpgWith(t *testing.T, ring string) func(args ...string) (string, error) {
	t.Helper()
	need(t, "gpg", "gpgconf")
	home, err := os.MkdirTemp("", "gpg") // the path of its socket must be short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = command("gpgconf", "--homedir", home, "--kill", "all") // gpg-agent may not run
		os.RemoveAll(home)
	})
	run := func(args ...string) (string, error) {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		out, err := exec.CommandContext(ctx, "gpg", append([]string{"--homedir", home, "--batch", "--no-tty", "--status-fd", "1"}, args...)...).CombinedOutput()
		return string(out), err
	}
	if out, err := run("--import", ring); err != nil {
		t.Fatalf("import %s: %v\n%s", ring, err, out)
	}
	return run
}

// TestSignedImage: a real gpg accepts the download, and rejects it with one byte changed.
func TestSignedImage(t *testing.T) {
	t.Parallel()
	need(t, "curl", "sha256sum")
	_, secret, ring := newSigningKey(t, "images")
	s := serve(t, "--sign-key", secret)
	dir := s.path("download")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, file := range []string{"notepat-os.iso", "notepat-os.iso.asc", "SHA256SUMS", "SHA256SUMS.asc", "isofs-key.asc"} {
		if err := command("curl", "-sSf", "-o", filepath.Join(dir, file), s.url("/"+file)); err != nil {
			t.Fatal(err)
		}
	}
	image := filepath.Join(dir, "notepat-os.iso")
	gpg := gpgWith(t, filepath.Join(dir, "isofs-key.asc"))
	good := func(file string) {
		t.Helper()
		if out, err := gpg("--verify", file+".asc", file); err != nil || !strings.Contains(out, "GOODSIG") {
			t.Errorf("%s: %v\n%s", file, err, out)
		}
	}
	good(image)
	good(filepath.Join(dir, "SHA256SUMS"))
	check := exec.Command("sha256sum", "--ignore-missing", "--strict", "-c", "SHA256SUMS")
	check.Dir = dir
	if out, err := check.CombinedOutput(); err != nil || string(out) != "notepat-os.iso: OK\n" {
		t.Errorf("sha256sum: %v\n%s", err, out)
	}
	if status, out, stderr := isofsCommand(t, nil, "verify", image, "--keyring", ring); status != 0 || !strings.Contains(out, "good, signed by") {
		t.Errorf("isofs verify: %d %s %s", status, out, stderr)
	}
	// The signature is also a file in the mount.
	mounted, err := os.ReadFile(filepath.Join(s.mount(), "notepat-os.iso.asc"))
	fetched, err2 := os.ReadFile(image + ".asc")
	if err := errors.Join(err, err2); err != nil || !bytes.Equal(mounted, fetched) {
		t.Errorf("the mount's signature is another: %v", err)
	}
	size := fileSize(t, image)
	slot := size - 21<<20 + 64<<10
	for where, off := range map[string]int64{"the base": 5 << 20, "the slot": slot, "the tail": size - 1} {
		f, err := os.OpenFile(image, os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		var one, other [1]byte
		_, err = f.ReadAt(one[:], off)
		other[0] = one[0] ^ 1
		_, err2 := f.WriteAt(other[:], off)
		if err := errors.Join(err, err2); err != nil {
			t.Fatal(err)
		}
		if out, err := gpg("--verify", image+".asc", image); err == nil || !strings.Contains(out, "BADSIG") {
			t.Errorf("a byte of %s is another: %v\n%s", where, err, out)
		}
		if status, _, _ := isofsCommand(t, nil, "verify", image, "--keyring", ring); status != 3 {
			t.Errorf("a byte of %s is another: isofs verify ends with %d", where, status)
		}
		_, err = f.WriteAt(one[:], off)
		if err := errors.Join(err, f.Close()); err != nil {
			t.Fatal(err)
		}
	}
	good(image)
	// The slot contains the signature for the machine that boots.
	sqvSays(t, image, ring)
	if status, out, stderr := isofsCommand(t, nil, "inspect", image); status != 0 || !strings.Contains(out, "piece.json is signed") {
		t.Errorf("isofs inspect: %d %s %s", status, out, stderr)
	}
	// A restart changes no byte.
	s.stop()
	s.start()
	if _, again := s.get("/notepat-os.iso.asc"); !bytes.Equal(again, fetched) {
		t.Error("another signature after a restart")
	}
	if _, page := s.get("/os:notepat"); !bytes.Contains(page, []byte("notepat-os.iso.asc")) {
		t.Error("the page does not tell of the signature")
	}
	if _, events := s.get("/os?piece=clock&format=stream"); !bytes.Contains(events, []byte(`{"stage":"signature","message":"Signing the image","step":5,"totalSteps":7}`)) {
		t.Errorf("%s", events)
	}
	// The web key directory has the key under both kinds of path.
	out, err := gpg("--with-wkd-hash", "--list-keys")
	if err != nil {
		t.Fatal(err)
	}
	_, hash, _ := strings.Cut(strings.ReplaceAll(out, "@", " "), ">\n")
	hash = strings.Fields(hash)[0]
	for path, status := range map[string]int{
		"policy": 200, "example.org/policy": 200, "other.example/policy": 404,
		"hu/" + hash: 200, "hu/" + hash + "?l=images": 200, "example.org/hu/" + hash: 200, "other.example/hu/" + hash: 404, "hu/none": 404, "": 404,
	} {
		resp, body := s.get("/.well-known/openpgpkey/" + path)
		if resp.StatusCode != status {
			t.Errorf("%s: %s", path, resp.Status)
		}
		if strings.Contains(path, hash) && status == 200 {
			write(t, filepath.Join(dir, "wkd"), string(body))
			if out, err := gpg("--show-keys", filepath.Join(dir, "wkd")); err != nil || !strings.Contains(out, "images@example.org") {
				t.Errorf("%s: %v\n%s", path, err, out)
			}
		}
	}
}

// sqvSays checks the signature of piece.json with sqv, which the machine that boots has.
func sqvSays(t *testing.T, image, ring string) {
	t.Helper()
	need(t, "debugfs", "sqv")
	var m struct{ PiecePartitionOffset, PiecePartitionSize int64 }
	if err := json.Unmarshal([]byte(read(t, filepath.Join(baseDir, "manifest.json"))), &m); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	slot := make([]byte, m.PiecePartitionSize)
	f, err := os.Open(image)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.ReadAt(slot, m.PiecePartitionOffset); err != nil {
		t.Fatal(err)
	}
	volume := filepath.Join(dir, "volume")
	write(t, volume, string(slot))
	for _, name := range []string{"piece.json", "piece.json.asc"} {
		if err := command("debugfs", "-R", "dump /"+name+" "+filepath.Join(dir, name), volume); err != nil {
			t.Fatal(err)
		}
	}
	if err := command("sqv", "--keyring", ring, filepath.Join(dir, "piece.json.asc"), filepath.Join(dir, "piece.json")); err != nil {
		t.Error(err)
	}
	write(t, filepath.Join(dir, "piece.json"), strings.Replace(read(t, filepath.Join(dir, "piece.json")), "notepat", "notepad", 1))
	if err := command("sqv", "--keyring", ring, filepath.Join(dir, "piece.json.asc"), filepath.Join(dir, "piece.json")); err == nil {
		t.Error("sqv takes another piece.json")
	}
}

// TestUnsignedServer: a server without a key serves no signatures, only checksums.
func TestUnsignedServer(t *testing.T) {
	t.Parallel()
	s := serve(t)
	s.get("/notepat-os.iso.sha256")
	for path, status := range map[string]int{"/SHA256SUMS": 200, "/SHA256SUMS.asc": 404, "/isofs-key.asc": 404, "/notepat-os.iso.asc": 404, "/.well-known/openpgpkey/policy": 404} {
		if resp, body := s.get(path); resp.StatusCode != status || path == "/SHA256SUMS" && !strings.HasSuffix(string(body), "  notepat-os.iso\n") {
			t.Errorf("%s: %s %s", path, resp.Status, body)
		}
	}
}

// TestSigningKeyOfOthers: isofs does not sign with a key file that others can read.
func TestSigningKeyOfOthers(t *testing.T) {
	t.Parallel()
	need(t, "nginx")
	_, secret, _ := newSigningKey(t, "open")
	if err := os.Chmod(secret, 0o644); err != nil {
		t.Fatal(err)
	}
	s := newServer(t, "--sign-key", secret)
	s.launch()
	s.wait()
	if !strings.Contains(s.log.String(), "others may read or write") {
		t.Errorf("the log is\n%s", s.log.String())
	}
	s.cmd = nil
}

func fileSize(t *testing.T, path string) int64 {
	t.Helper()
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	return info.Size()
}

// sole returns the only file that matches a pattern.
func sole(t *testing.T, pattern string) string {
	t.Helper()
	found, err := filepath.Glob(pattern)
	if err != nil || len(found) != 1 {
		t.Fatalf("%s: %v, %v", pattern, found, err)
	}
	return found[0]
}

func read(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// TestSignedChannel: a server with a keyring follows only what that keyring's key signed. It
// refuses a channel or manifest that was changed, is unsigned, has a stranger's signature, or is
// older. That holds after a restart too, and without the site.
func TestSignedChannel(t *testing.T) {
	t.Parallel()
	p := folderSite(t)
	p.signed(p.to)
}

func TestSignedChannelInABucket(t *testing.T) {
	t.Parallel()
	leftOut(t, "TestSignedChannel")
	p, _ := bucketSite(t)
	p.signed("")
}

func (p *site) signed(folder string) {
	t := p.t
	dirs, err := variations()
	if err != nil {
		t.Fatal(err)
	}
	secret, _, ring := newSigningKey(t, "publisher")
	stranger, _, _ := newSigningKey(t, "stranger")
	p.does("publish", dirs[0], "--to", p.to)
	unsigned := p.follower()
	unsigned.args = append(unsigned.args, "--keyring", ring)
	unsigned.launch()
	unsigned.wait()
	if logged := unsigned.log.String(); !strings.Contains(logged, "it is not signed: there is no ") || !strings.Contains(logged, "isofs base sign") {
		t.Errorf("an unsigned channel: the log is\n%s", logged)
	}
	unsigned.cmd = nil
	p.does("sign", "--at", p.to, "--sign-key", secret)
	s := p.follower()
	s.args = append(s.args, "--keyring", ring)
	s.start()
	s.follows("2026-12-01", false)
	if status, _, stderr := p.base("publish", dirs[1], "--to", p.to); status != 2 || !strings.Contains(stderr, "give --sign-key") {
		t.Errorf("published without a key: %d %s", status, stderr)
	}
	p.does("publish", dirs[1], "--to", p.to, "--sign-key", secret)
	s.follows("2026-12-02", true)
	if status, _, stderr := p.base("rollback", "--at", p.to); status != 2 || !strings.Contains(stderr, "give --sign-key") {
		t.Errorf("rolled back without a key: %d %s", status, stderr)
	}
	if folder != "" {
		p.tampered(folder, s, dirs[2], secret, stranger)
	}
	p.does("rollback", "--at", p.to, "--sign-key", secret)
	s.follows("2026-12-01", true)
	// Without the site a restart trusts the base that it has.
	p.hide()
	s.stop()
	s.start()
	s.get("/notepat-os.iso.sha256")
	p.show()
}

// tampered changes published files, one at a time. The server must stay on 02.
func (p *site) tampered(folder string, s *server, next, secret, stranger string) {
	t := p.t
	channel := filepath.Join(folder, "channels", "tiny-amd64.json")
	second := read(t, channel)
	manifest := filepath.Join(folder, "bases/tiny/amd64/2026-12-03/manifest.json")
	p.does("publish", next, "--to", p.to, "--sign-key", secret)
	third := read(t, channel)
	sig := sole(t, filepath.Join(folder, "channels", "tiny-amd64.3-*.asc"))
	refused := func(what, why string) {
		t.Helper()
		logged := len(s.log.String())
		if resp, body := s.admin(adminKey, "channel", nil); resp.StatusCode == 200 {
			t.Errorf("%s: followed, %v", what, body)
		}
		// The log comes through a pipe, so it may be later than the answer.
		testkit.Eventually(t, what+": the log to say "+why, func() bool { return strings.Contains(s.log.String()[logged:], why) })
	}
	for what, c := range map[string]struct{ file, content, why string }{
		"a changed channel":        {channel, strings.Replace(third, `"revision": 3`, `"revision": 4`, 1), "it is not signed: there is no"},
		"a signature of nothing":   {sig, "x", "there is no OpenPGP signature in it"},
		"a signature of another":   {sig, read(t, sole(t, filepath.Join(folder, "channels", "tiny-amd64.2-*.asc"))), "did not sign this"},
		"a changed manifest":       {manifest, strings.Replace(read(t, manifest), `"createdAt": "20`, `"createdAt": "19`, 1), "did not sign this"},
		"a manifest's signature":   {manifest + ".asc", read(t, sig), "did not sign this"},
		"a channel that is broken": {channel, third[:40], "parse a channel"},
	} {
		was := read(t, c.file)
		if was == c.content {
			t.Fatalf("%s: nothing was changed", what)
		}
		write(t, c.file, c.content)
		refused(what, c.why)
		write(t, c.file, was)
	}
	if err := os.Rename(manifest+".asc", manifest+".away"); err != nil {
		t.Fatal(err)
	}
	refused("a manifest without a signature", "it is not signed: there is no")
	if err := os.Rename(manifest+".away", manifest+".asc"); err != nil {
		t.Fatal(err)
	}
	p.does("sign", "--at", p.to, "--sign-key", stranger)
	refused("signed by a stranger", "is not in the keyring")
	p.does("sign", "--at", p.to, "--sign-key", secret, "--sign-key", stranger)
	s.follows("2026-12-03", true)
	// The older channel has its own good signature. The server refuses it before and after a
	// restart.
	write(t, channel, second)
	refused("an older channel", "an old copy is not followed")
	s.stop()
	s.start()
	refused("an older channel after a restart", "an old copy is not followed")
	if _, body := s.get("/os-status"); len(body) == 0 {
		t.Error("it does not answer")
	}
	write(t, channel, third)
	p.does("rollback", "2026-12-02", "--at", p.to, "--sign-key", secret)
	s.follows("2026-12-02", true)
}

package integration

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"golang.org/x/sys/unix"

	"aesthetic.computer/isofs/integration/s3test"
)

// A reader does what a page says, as root, and as a plain user where the page
// says so, on a machine that has seen no isofs.
type reader struct {
	t       *testing.T
	root    *person
	alice   *person
	image   string   // SHA-256 of what isofs pack makes of notepat
	signed  bool     // something was: then images have signatures in them, and other times
	running *running // what serves; nil: nothing

}

// The disk of the test in the name space, and what is in it.
const (
	scratch  = "/mnt"
	elseBase = scratch + "/base"      // the base, for servers elsewhere
	elseDocs = scratch + "/elsewhere" // what cdn.example has
)

const workaround = "ISOFS_STATE=/var/lib/isofs ISOFS_MOUNT=/srv/isofs ISOFS_RUN=/run/isofs ISOFS_USER=isofs ISOFS_ACCESS_LOG=off" // TODO

// newReader makes the machine. It runs in name spaces of its own.
func newReader(t *testing.T, disk, plain string) *reader {
	t.Helper()
	page, err := os.ReadFile(filepath.Join(tree, os.Getenv(documentVar)))
	if err != nil {
		t.Fatal(err)
	}
	source, err := filepath.Abs(tree)
	if err != nil {
		t.Fatal(err)
	}
	cacheDir, err := os.UserCacheDir()
	if err != nil {
		t.Fatal(err)
	}
	letGo(t)
	for _, m := range []struct {
		source, target, kind string
		flags                uintptr
	}{
		{"proc", "/proc", "proc", 0},
		{disk, scratch, "", unix.MS_BIND},
	} {
		if err := unix.Mount(m.source, m.target, m.kind, m.flags, ""); err != nil {
			t.Fatalf("mount %s: %v", m.target, err)
		}
	}
	loopback(t)
	if err := unix.Sethostname([]byte("fresh")); err != nil {
		t.Fatal(err)
	}
	t.Setenv("TMPDIR", scratch+"/tmp")
	buckets := map[string]*s3test.Server{}
	if bytes.Contains(page, []byte("s3://")) {
		objects := t.TempDir()
		for _, region := range regions {
			buckets[region] = s3test.StartHosted(t, objects, region, "s3."+region+"."+amazon)
		}
		buckets[regions[0]].MakeBucket("bucket")
	}
	cmd := exec.Command("testdata/fresh-machine", source, plain, filepath.Join(cacheDir, "isofs", "bake", "debs"))
	cmd.Env = append(os.Environ(), "KEEP="+strings.Join(goFolders(t), " "))
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("make a fresh machine: %v\n%s", err, out)
	}
	writeFile(t, "/etc/hosts", "127.0.0.1 localhost fresh\n::1 localhost\n")
	startHosts(t, elseDocs, buckets)
	r := &reader{t: t}
	r.sitDown(source)
	r.publish(buckets[regions[0]], bytes.Contains(page, []byte("images.example")) || bytes.Contains(page, []byte("isofs.example")))
	return r
}

// letGo takes the mounts away that other tests had when the name space was
// made: they wait until the last copy of theirs is gone.
func letGo(t *testing.T) {
	t.Helper()
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(mounts)) {
		fields := strings.Fields(line)
		if strings.Contains(line, " - fuse.isofs ") || strings.HasPrefix(fields[4], "/var/tmp/") || strings.HasPrefix(fields[4], os.TempDir()+"/") {
			_ = unix.Unmount(fields[4], unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW) // it may be gone
		}
	}
}

// goFolders are what the go command needs of this machine.
func goFolders(t *testing.T) []string {
	t.Helper()
	out, err := exec.Command("go", "env", "GOROOT", "GOCACHE", "GOMODCACHE").Output()
	if err != nil {
		t.Fatal(err)
	}
	return strings.Fields(string(out))
}

// sitDown has root sit down in the source, and the plain user at home.
func (r *reader) sitDown(source string) {
	common := []string{
		"LANG=C.UTF-8", "TERM=dumb", "GOPROXY=off", "GOTOOLCHAIN=local", "GOFLAGS=" + os.Getenv("GOFLAGS"),
		"AWS_ACCESS_KEY_ID=" + s3test.Access, "AWS_SECRET_ACCESS_KEY=" + s3test.Secret, "PATH=" + os.Getenv("PATH"),
	}
	for _, name := range []string{"GOCACHE", "GOMODCACHE"} {
		out, _ := exec.Command("go", "env", name).Output() // goFolders had them
		common = append(common, name+"="+strings.TrimSpace(string(out)))
	}
	r.root = newPerson(r.t, "root", source, scratch+"/root.log", append(append(common, "HOME=/root", "USER=root"), strings.Fields(workaround)...), nil)
	u, err := user.Lookup("alice")
	if err != nil {
		r.t.Fatal(err)
	}
	uid, _ := strconv.Atoi(u.Uid)
	gid, _ := strconv.Atoi(u.Gid)
	r.alice = newPerson(r.t, "alice", u.HomeDir, scratch+"/alice.log", append(common, "HOME="+u.HomeDir, "USER=alice"),
		&syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)})
}

// publish puts onto the machines elsewhere what the examples find there.
func (r *reader) publish(bucket *s3test.Server, images bool) {
	r.t.Helper()
	versions := elseDocs + "/bases/tiny/amd64/"
	// What README has baked is there for the other pages; it and bases.md bake for themselves.
	if page := os.Getenv(documentVar); page != "README.md" && page != "docs/bases.md" {
		r.root.must("mkdir -p bases/tiny/amd64 && cp -r " + elseBase + " bases/tiny/amd64/2026-11-01")
	}
	// And so has README made the user that root's isofs runs as, or operating.md.
	if page := os.Getenv(documentVar); page != "README.md" && page != "docs/operating.md" {
		r.root.must(documented(r.t, "README.md", "sudo useradd "))
	}
	r.root.must(`(set -e; umask 022; cd / # not in the source
mkdir -p ` + versions + ` && ln -s ` + elseBase + ` ` + versions + `2026-11-01
mkdir ` + versions + `2026-12-01 && ln ` + elseBase + `/base.iso ` + versions + `2026-12-01/
isofs base index ` + elseBase + `/base.iso --flavor tiny --base-version 2026-12-01 -o ` + versions + `2026-12-01/manifest.json
isofs base publish ` + elseBase + ` --to ` + elseDocs + `/images)`)
	r.alice.must("isofs pack notepat --base " + elseBase + " --state /mnt/tmp/state --cache memory -o /mnt/tmp/packed.iso")
	r.image = strings.Fields(r.root.must("sha256sum </mnt/tmp/packed.iso"))[0]
	if bucket != nil {
		r.root.must(`isofs base publish ` + elseBase + ` --to s3://bucket`)
		image, err := os.ReadFile(elseBase + "/base.iso")
		if err != nil {
			r.t.Fatal(err)
		}
		if _, err := bucket.Client.PutObject(context.Background(), &s3.PutObjectInput{
			Bucket: aws.String("bucket"), Key: aws.String("copies/tiny.iso"), Body: bytes.NewReader(image),
		}); err != nil {
			r.t.Fatal(err)
		}
	}
	if images {
		r.root.must(`(set -e; cd / && mkdir -p /mnt/images
isofs key new --name "Example Images" --email images@images.example --out /mnt/images/sign.asc
isofs serve --user root --base ` + elseBase + ` --state /mnt/images/state --mount /mnt/images/mnt --run /mnt/images/run --listen ` + imagesExample + ` \
  --sign-key /mnt/images/sign.asc --public-url https://images.example --access-log off >/mnt/images/log 2>&1 &)`)
		until(r.t, "images.example", func() bool { return answers("http://" + imagesExample + "/healthz") })
	}
}

// documented is the command of a page that begins so.
func documented(t *testing.T, page, begins string) string {
	t.Helper()
	blocks, err := readPage(page)
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range blocks {
		for _, c := range b.commands() {
			if strings.HasPrefix(c.text, begins) {
				return c.text
			}
		}
	}
	t.Fatalf("%s has no command that begins with %q", page, begins)
	return ""
}

func answers(url string) bool {
	resp, err := http.Get(url)
	if err != nil {
		return false
	}
	defer resp.Body.Close()
	return resp.StatusCode == http.StatusOK
}

// leave stops what runs.
func (r *reader) leave() {
	r.stop("the end of the page")
	r.root.leave()
	r.alice.leave()
}

// follow does what a block says, and returns whether to go on.
func (r *reader) follow(b block) bool {
	switch {
	case b.mark.kind == "not run", b.mark.kind == "release" && (!*allBlocks || b.mark.reason != "make documents"):
		return true
	case b.isFile():
		path := b.path()
		if path == "" {
			return r.fails(b.at(b.line), "the first line does not say which file this is")
		}
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			r.t.Fatal(err)
		}
		writeFile(r.t, path, b.text)
		return true
	case !b.isShell():
		return true
	}
	for _, c := range b.commands() {
		if !r.types(b, c) {
			return false
		}
	}
	return true
}

var (
	servingLine = regexp.MustCompile(`^(?:[A-Z_]+=\S+ )*(?:isofs serve|isofs mount|make demo)\b`)
	serviceLine = regexp.MustCompile(`^(?:sudo )?systemctl (daemon-reload|enable --now|disable --now|start|stop|restart|reload) ?(\S*)$`)
)

// types has one command typed, and looks at what came of it.
func (r *reader) types(b block, c typed) bool {
	at, who := b.at(c.line), r.root
	if b.mark.kind == "by" {
		who = r.alice
	}
	if m := serviceLine.FindStringSubmatch(c.plain()); m != nil {
		return r.systemctl(at, m[1], m[2])
	}
	if servingLine.MatchString(c.plain()) {
		if !r.serves(at, who, c) {
			return false
		}
		if who == r.alice { // and by root, in the same folder
			return r.serves(at, r.root, typed{c.line, "cd " + strings.TrimSpace(r.alice.must("pwd")) + "\n" + c.text})
		}
		return true
	}
	shown, status, err := who.types(c.text)
	if err != nil || status != 0 {
		return r.fails(at, "%s (as %s): exit status %d %v\n%s", c.text, who.name, status, orNothing(err), shown)
	}
	return true
}

func orNothing(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// fails reports what is wrong with a line of the page, and what serves had to say.
func (r *reader) fails(at, format string, args ...any) bool {
	r.t.Helper()
	r.t.Errorf("%s: %s", at, fmt.Sprintf(format, args...))
	if r.running != nil {
		r.t.Logf("%s, which runs, said:\n%s", r.running.line, r.running.said())
	}
	return false
}

func writeFile(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// sumOf is the SHA-256 of all that a reader has.
func sumOf(from io.Reader) (string, int64, error) {
	sum := sha256.New()
	n, err := io.Copy(sum, from)
	return hex.EncodeToString(sum.Sum(nil)), n, err
}

package integration

import (
	"errors"
	"net/http"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"aesthetic.computer/isofs/integration/s3test"
)

// A machine has Debian and its packages, Go, a copy of the source, and two users. Its network has
// the machine itself and the hosts that the pages name.
type machine struct {
	t      *testing.T
	source string
	env    []string // of both users
	image  string   // SHA-256 of what isofs pack makes of notepat
	things []string // names of the files in the source, before a page added any
}

// The disk of the test in the name space, and its content.
const (
	scratch  = "/mnt"
	elseDir  = scratch + "/elsewhere" // what an elsewhere prepared
	elseBase = elseDir + "/base"
)

// newMachine makes a machine of the name spaces that this process is in.
func newMachine(t *testing.T) *machine {
	t.Helper()
	source, err := filepath.Abs(tree)
	if err != nil {
		t.Fatal(err)
	}
	m := &machine{t: t, source: source}
	m.mounts()
	loopbackUp(t)
	t.Setenv("TMPDIR", scratch+"/tmp")
	must(t, "cp", "-a", elseDir+"/s3", scratch+"/s3")
	buckets := map[string]*s3test.Server{}
	for _, region := range regions {
		buckets[region] = s3test.StartHosted(t, scratch+"/s3", region, "s3."+region+"."+amazon)
	}
	m.settle()
	writeFile(t, "/etc/hosts", "127.0.0.1 localhost fresh\n::1 localhost\n")
	startHosts(t, elseDir+"/web", buckets)
	sum, err := os.ReadFile(elseDir + "/packed.sha256")
	if err != nil {
		t.Fatal(err)
	}
	m.image = strings.Fields(string(sum))[0]
	if strings.Contains(m.text(strings.Fields(os.Getenv(pagesVar))...), "//images.example") {
		m.startImages()
	}
	return m
}

// text is the whole text of the pages.
func (m *machine) text(pages ...string) (all string) {
	for _, page := range pages {
		text, err := os.ReadFile(filepath.Join(tree, page))
		if err != nil {
			m.t.Fatal(err)
		}
		all += string(text)
	}
	return all
}

// mounts removes the copies of other tests' mounts, since a mount lives until its last copy is
// gone. Then it mounts the disk and the prepared files.
func (m *machine) mounts() {
	m.t.Helper()
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		m.t.Fatal(err)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		m.t.Fatal(err)
	}
	for line := range strings.Lines(string(mounts)) {
		at := strings.Fields(line)[4]
		if strings.Contains(line, " - fuse.isofs ") || strings.HasPrefix(at, "/var/tmp/") || strings.HasPrefix(at, os.TempDir()+"/") {
			_ = unix.Unmount(at, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW) // its test may have removed it
		}
	}
	for _, at := range [][2]string{{os.Getenv(diskVar), scratch}, {os.Getenv(elsewhereVar), elseDir}} {
		if err := errors.Join(os.MkdirAll(at[1], 0o755), unix.Mount(at[0], at[1], "", unix.MS_BIND, "")); err != nil {
			m.t.Fatal(err)
		}
	}
	if err := errors.Join(unix.Mount("proc", "/proc", "proc", 0, ""), unix.Sethostname([]byte("fresh"))); err != nil {
		m.t.Fatal(err)
	}
}

// loopbackUp starts the only network interface of the name space.
func loopbackUp(t *testing.T) {
	t.Helper()
	socket, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(socket)
	lo, err := unix.NewIfreq("lo")
	if err != nil {
		t.Fatal(err)
	}
	lo.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
	if err := unix.IoctlIfreq(socket, unix.SIOCSIFFLAGS, lo); err != nil {
		t.Fatal(err)
	}
}

// settle runs the script that makes the rest of the machine, and records what commands need.
func (m *machine) settle() {
	m.t.Helper()
	out, err := exec.Command("go", "env", "GOROOT", "GOCACHE", "GOMODCACHE").Output()
	if err != nil {
		m.t.Fatal(err)
	}
	goFolders := strings.Fields(string(out))
	packages, err := packagesDir()
	if err != nil {
		m.t.Fatal(err)
	}
	cmd := exec.Command("testdata/fresh-machine", m.source, os.Getenv(programVar), packages)
	cmd.Env = append(os.Environ(), "KEEP="+strings.Join(goFolders, " "))
	if out, err := cmd.CombinedOutput(); err != nil {
		m.t.Fatalf("make a fresh machine: %v\n%s", err, out)
	}
	m.env = []string{
		"LANG=C.UTF-8", "TERM=dumb", "PATH=" + os.Getenv("PATH"),
		"GOPROXY=off", "GOTOOLCHAIN=local", "GOFLAGS=" + os.Getenv("GOFLAGS"), "GOCACHE=" + goFolders[1], "GOMODCACHE=" + goFolders[2],
		"AWS_ACCESS_KEY_ID=" + s3test.Access, "AWS_SECRET_ACCESS_KEY=" + s3test.Secret,
	}
	m.things = m.lies()
}

// lies returns the names of the files in the source.
func (m *machine) lies() (names []string) {
	entries, err := os.ReadDir(m.source)
	if err != nil {
		m.t.Fatal(err)
	}
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

// newPerson starts a user's shell: root in the source, others in their home.
func (m *machine) newPerson(name string) *person {
	m.t.Helper()
	env := append([]string{"USER=" + name, "HOME=/root"}, m.env...)
	if name == "root" {
		return newPerson(m.t, name, m.source, scratch+"/root.log", env, nil)
	}
	u, err := user.Lookup(name)
	if err != nil {
		m.t.Fatal(err)
	}
	uid, _ := strconv.Atoi(u.Uid)
	gid, _ := strconv.Atoi(u.Gid)
	env[1] = "HOME=" + u.HomeDir
	return newPerson(m.t, name, u.HomeDir, scratch+"/"+name+".log", env, &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)})
}

func answers(url string) bool {
	resp, err := http.Get(url)
	if err != nil {
		return false
	}
	defer resp.Body.Close()
	return resp.StatusCode == http.StatusOK
}

func writeFile(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

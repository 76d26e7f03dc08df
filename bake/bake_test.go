package bake

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"flag"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"aesthetic.computer/isofs/base"
	"aesthetic.computer/isofs/fault"
	"aesthetic.computer/isofs/integration/testkit"
)

// workDir keeps packages between runs of the tests. If it is empty, each run
// downloads them.
var workDir = flag.String("bake.work", "", "work directory to keep")

var discard = slog.New(slog.DiscardHandler)

// debs is a cache of packages for the tests of this run.
var debs string

func TestMain(m *testing.M) {
	flag.Parse()
	debs = *workDir
	if debs == "" {
		var err error
		if debs, err = os.MkdirTemp("", "isofs-bake-test-"); err != nil {
			panic(err)
		}
	}
	code := m.Run()
	if *workDir == "" {
		_ = os.RemoveAll(debs)
	}
	os.Exit(code)
}

// bakeTiny bakes with the run's work directory unless o names one.
func bakeTiny(t *testing.T, o TinyOptions) *Result {
	t.Helper()
	if _, err := findTools(); err != nil {
		_, hint, _ := strings.Cut(err.Error(), "apt-get install ")
		testkit.Lack(t, "the tools of a bake: apt-get install "+hint)
	}
	if o.WorkDir == "" {
		o.WorkDir = debs
	}
	r, err := Tiny(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func run(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %v: %v\n%s", name, args, err, out)
	}
	return string(out)
}

// Two bakes in different places, at different times, in different time zones
// and under different umasks give the same bytes. All users can read the files,
// and the tools for these formats find no fault. TestMatrix boots them, and
// package integration boots images with a piece.
func TestTiny(t *testing.T) {
	var stages []string
	first := bakeTiny(t, TinyOptions{OutDir: t.TempDir(), Progress: func(stage string, done, total int64) {
		if done < 0 || done > total {
			t.Errorf("%s: %d of %d", stage, done, total)
		}
		if !slices.Contains(stages, stage) {
			stages = append(stages, stage)
		}
	}})
	if want := []string{"packages", "download", "extract", "initramfs", "live", "image", "index"}; !slices.Equal(stages, want) {
		t.Errorf("stages %v, want %v", stages, want)
	}
	image, err := os.ReadFile(first.Image)
	if err != nil {
		t.Fatal(err)
	}
	// Another work directory, with the packages of the first.
	other := t.TempDir()
	if err := os.CopyFS(filepath.Join(other, "debs"), os.DirFS(filepath.Join(debs, "debs"))); err != nil {
		t.Fatal(err)
	}
	t.Setenv("TZ", "Asia/Kathmandu")
	was := unix.Umask(0o077)
	second := bakeTiny(t, TinyOptions{WorkDir: other, OutDir: filepath.Join(t.TempDir(), "new"), Version: "2026-11-01"})
	if now := unix.Umask(was); now != 0o077 {
		t.Errorf("a bake leaves the umask %#o", now)
	}
	checkModes(t, filepath.Join(second.Dir, "..", "..", ".."))
	again, err := os.ReadFile(second.Image)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(image, again) {
		t.Errorf("two bakes differ first at byte %d: %s and %s", firstDifference(image, again), first.Manifest.SHA256, second.Manifest.SHA256)
	}
	if n := first.Manifest.TotalSize; n < 30<<20 || n > 80<<20 {
		t.Errorf("the image has %d bytes", n)
	}
	checkLayout(t, first, image)
	checkPartitions(t, first, image)
	checkShell(t, first)
	t.Run("again into the same place", func(t *testing.T) { testAgain(t, first, image) })
	if left, _ := filepath.Glob(filepath.Join(debs, scratchPattern)); len(left) > 0 {
		t.Errorf("%v is left in the work directory", left)
	}
}

func firstDifference(a, b []byte) int {
	i := 0
	for i < min(len(a), len(b)) && a[i] == b[i] {
		i++
	}
	return i
}

// checkLayout checks the GPT, and the manifest beside the image.
func checkLayout(t *testing.T, r *Result, image []byte) {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(r.Dir, ManifestName))
	if err != nil {
		t.Fatal(err)
	}
	m, err := base.Parse(data)
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Verify(t.Context(), bytes.NewReader(image), int64(len(image)), nil); err != nil {
		t.Error(err)
	}
	if m.PiecePartitionSize != 20<<20 || m.PiecePartitionOffset%partitionAlign != 0 || len(m.Tail) != gptTail {
		t.Errorf("slot at %d, %d bytes, %d behind it", m.PiecePartitionOffset, m.PiecePartitionSize, len(m.Tail))
	}
	if m.CreatedAt != "2026-11-01T00:00:00Z" || m.Version != "2026-11-01" {
		t.Errorf("created at %s, version %s", m.CreatedAt, m.Version)
	}
	kernel, ok := m.BootFile("kernel")
	if _, too := m.BootFile("initrd"); !ok || !too || string(image[kernel.Offset+0x202:][:4]) != "HdrS" {
		t.Errorf("boot files %+v: the kernel is not where they say", m.BootFiles)
	}
	if out := run(t, testkit.NeedTool(t, "sgdisk", "gdisk"), "--verify", r.Image); !strings.Contains(out, "No problems found") {
		t.Errorf("sgdisk: %s", out)
	}
}

// checkPartitions checks each file system with its own tools.
func checkPartitions(t *testing.T, r *Result, image []byte) {
	t.Helper()
	dir := t.TempDir()
	slot := r.Manifest.PiecePartitionOffset
	espSize := slot - liveMinSize - espStart
	cut := func(name string, off, n int64) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, image[off:off+n], 0o644); err != nil {
			t.Fatal(err)
		}
		return path
	}
	esp, live, piece := cut("esp", espStart, espSize), cut("live", espStart+espSize, liveMinSize), cut("piece", slot, slotSize)
	if out := run(t, testkit.NeedTool(t, "fsck.vfat", "dosfstools"), "-n", "-v", esp); strings.Contains(out, "differ") {
		t.Errorf("fsck.vfat: %s", out)
	}
	for _, volume := range []string{live, piece} {
		out := run(t, testkit.NeedTool(t, "e2fsck", "e2fsprogs"), "-fn", volume)
		if strings.Contains(out, "?") || strings.Contains(out, "wrong") {
			t.Errorf("e2fsck: %s", out)
		}
	}
	debugfs := testkit.NeedTool(t, "debugfs", "e2fsprogs")
	html := filepath.Join(dir, "piece.html")
	run(t, debugfs, "-R", "dump piece.html "+html, piece)
	if got, err := os.ReadFile(html); err != nil || sha256.Sum256(got) != sha256.Sum256(placeholderHTML) {
		t.Errorf("piece.html reads back as %q, %v", got, err)
	}
	about := filepath.Join(dir, "piece.json")
	run(t, debugfs, "-R", "dump piece.json "+about, piece)
	if got, err := os.ReadFile(about); err != nil || !json.Valid(got) {
		t.Errorf("piece.json reads back as %q, %v", got, err)
	}
}

// testAgain publishes into the same folder: an equal base is left alone, a
// damaged image is healed, and another base under the same version is refused.
func testAgain(t *testing.T, first *Result, image []byte) {
	publish := func(m *base.Manifest) (bool, error) {
		out, err := openOutput(first.Dir)
		if err != nil {
			t.Fatal(err)
		}
		defer out.close()
		if err := os.WriteFile(out.temp(ImageName), image, 0o644); err != nil {
			t.Fatal(err)
		}
		return out.publish(m)
	}
	if unchanged, err := publish(first.Manifest); err != nil || !unchanged {
		t.Errorf("the same base was written again (%v)", err)
	}
	damaged := bytes.Clone(image)
	damaged[40<<20] ^= 1
	if err := os.WriteFile(first.Image, damaged, 0o644); err != nil {
		t.Fatal(err)
	}
	if unchanged, err := publish(first.Manifest); err != nil || unchanged {
		t.Errorf("a damaged image was left alone (%v)", err)
	}
	if healed, err := os.ReadFile(first.Image); err != nil || !bytes.Equal(healed, image) {
		t.Errorf("a damaged image was not replaced (%v)", err)
	}
	other := *first.Manifest
	other.SHA256[0] ^= 1
	if _, err := publish(&other); fault.Kind(err) != fault.Invalid || !strings.Contains(err.Error(), "choose another version, such as 2026-11-01.1") {
		t.Errorf("another base of that version: %v", err)
	}
	names, _ := os.ReadDir(first.Dir)
	if len(names) != 2 {
		t.Errorf("%v are in the folder, expected the image and the manifest", names)
	}
}

func TestTinyRefuses(t *testing.T) {
	if _, err := findTools(); err != nil {
		testkit.Lack(t, "the tools of a bake: apt-get install apt-utils mtools dosfstools erofs-utils e2fsprogs")
	}
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for _, tt := range []struct {
		name string
		o    TinyOptions
		kind error
		want string
	}{
		{"arm64", TinyOptions{WorkDir: dir, OutDir: dir, Arch: "arm64"}, fault.Invalid, `arch "arm64" is not there yet`},
		{"no directory", TinyOptions{WorkDir: dir}, fault.Invalid, "directory"},
		{"version", TinyOptions{WorkDir: dir, OutDir: dir, Version: "new"}, fault.Invalid, `version "new"`},
		{"epoch", TinyOptions{WorkDir: dir, OutDir: dir, SourceDateEpoch: 1}, fault.Invalid, "in the year 1970"},
		{"kernel option", TinyOptions{WorkDir: dir, OutDir: dir, KernelPackage: "-o=x"}, fault.Invalid, "is not the name of a Debian package"},
		{"unknown kernel", TinyOptions{WorkDir: dir, OutDir: dir, KernelPackage: "linux-image-of-no-archive"}, fault.NotFound, "apt-get update"},
		{"output is a file", TinyOptions{WorkDir: dir, OutDir: file}, fault.Invalid, file},
		{"work is a file", TinyOptions{WorkDir: filepath.Join(file, "x"), OutDir: dir}, fault.Invalid, file},
		{"output not writable", TinyOptions{WorkDir: dir, OutDir: "/proc/isofs"}, nil, "/proc/isofs"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := Tiny(t.Context(), tt.o)
			if err == nil || !strings.Contains(err.Error(), tt.want) || fault.Kind(err) == nil || tt.kind != nil && fault.Kind(err) != tt.kind {
				t.Errorf("got %v, want kind %v with %q", err, tt.kind, tt.want)
			}
		})
	}
}

func TestOneBakeAtATime(t *testing.T) {
	if _, err := findTools(); err != nil {
		testkit.Lack(t, "the tools of a bake: apt-get install mtools dosfstools erofs-utils e2fsprogs")
	}
	dir := t.TempDir()
	w, err := openWorkspace(dir)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Tiny(t.Context(), TinyOptions{WorkDir: dir, OutDir: t.TempDir()}); fault.Kind(err) != fault.Unavailable || !strings.Contains(err.Error(), "another bake works in "+dir) {
		t.Errorf("got %v", err)
	}
	// The state after a killed bake: unlocked, with a scratch directory.
	w.lock.Close()
	if err := os.WriteFile(filepath.Join(w.scratch, "half"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if w, err = openWorkspace(dir); err != nil {
		t.Fatal(err)
	}
	if left, _ := filepath.Glob(filepath.Join(dir, "*", "half")); len(left) > 0 {
		t.Errorf("%v is left of a killed bake", left)
	}
	w.close()
}

func TestParseURIs(t *testing.T) {
	sum := strings.Repeat("ab", 32)
	good := "'URL/x_1%3a2.5_amd64.deb' x-y_1%3a2.5+b1_amd64.deb 928188 SHA256:" + sum + "\n"
	found, err := parseURIs("W: something\n" + good)
	want := Package{Name: "x-y", Version: "1:2.5+b1", File: "x-y_1%3a2.5+b1_amd64.deb", Size: 928188, SHA256: sum}
	if err != nil || found["x-y"] != want {
		t.Errorf("got %+v, %v", found, err)
	}
	for _, bad := range []string{
		strings.Replace(good, "SHA256", "MD5Sum", 1),
		strings.Replace(good, "x-y_1", "../x-y_1", 1),
		strings.Replace(good, "928188", "many", 1),
		strings.Replace(good, sum, "ab", 1),
		strings.Replace(good, "_amd64.deb 9", " 9", 1),
		"'URL' x\n",
	} {
		if _, err := parseURIs(bad); fault.Kind(err) != fault.Unavailable {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

// GNU cpio reads the archive as the kernel will.
func TestInitramfsArchive(t *testing.T) {
	cpio := testkit.NeedTool(t, "cpio", "cpio")
	j := &job{TinyOptions: TinyOptions{Version: "2026-11-01", SourceDateEpoch: DefaultEpoch}}
	data := j.archive([]byte("busy!"), []module{{"b", []byte("bb")}, {"a", []byte("a")}})
	list := exec.Command(cpio, "-itv", "--quiet")
	list.Env = []string{"TZ=UTC", "LC_ALL=C"}
	list.Stdin = bytes.NewReader(data)
	out, err := list.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	for _, want := range []string{
		"drwxr-xr-x   2 root     root            0 Nov  1", "crw-------   1 root     root       5,   1 Nov  1", "dev/console\n",
		"bin/sh -> busybox\n", "modules/order\n", "-rwxr-xr-x   1 root     root            5 ",
	} {
		if !strings.Contains(string(out), want) {
			t.Errorf("no %q in:\n%s", want, out)
		}
	}
	get := exec.Command(cpio, "-i", "--quiet", "--to-stdout", "modules/order", "init")
	get.Stdin = bytes.NewReader(data)
	if out, err := get.Output(); err != nil || string(out) != string(initScript)+"b\na\n" {
		t.Errorf("init and modules/order read back as %q, %v", out, err)
	}
}

func TestInitScriptIsClean(t *testing.T) {
	run(t, testkit.NeedTool(t, "shellcheck", "shellcheck"), "-s", "sh", "init.sh")
}

func TestCopySparse(t *testing.T) {
	data := make([]byte, 300<<10)
	data[0], data[70<<10], data[300<<10-1] = 1, 2, 3
	path := filepath.Join(t.TempDir(), "f")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := copySparse(f, 4096, bytes.NewReader(data), int64(len(data))); err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(path)
	if err != nil || !bytes.Equal(got[4096:], data) {
		t.Errorf("differs (%v)", err)
	}
	if err := copySparse(f, 0, bytes.NewReader(data), int64(len(data))+1); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("a short source: %v", err)
	}
}

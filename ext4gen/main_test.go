package ext4gen

import (
	"bytes"
	"encoding/binary"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"aesthetic.computer/isofs/extent"
	"aesthetic.computer/isofs/integration/testkit"
)

var imageDir = flag.String("images", "", "keep the volumes that the tests make in this `directory`, for a look by hand")

const slotSize = 20 << 20

// slot returns the usual options of an image's volume.
func slot() Options {
	return Options{
		Size:     slotSize,
		Label:    "FEDAC-PIECE",
		UUID:     [16]byte{0x5a, 1, 2, 3, 4, 5, 0x86, 7, 0x88, 9, 10, 11, 12, 13, 14, 15},
		HashSeed: [16]byte{0xa5, 15, 14, 13, 12, 11, 0x8a, 9, 0x88, 7, 6, 5, 4, 3, 2, 1},
		Time:     1577836800, // 2020
	}
}

// noise returns n bytes that are the same in every run.
func noise(n int) []byte {
	p := make([]byte, 0, n+8)
	for r := rand.New(rand.NewPCG(uint64(n), 1)); len(p) < n; {
		p = binary.LittleEndian.AppendUint64(p, r.Uint64())
	}
	return p[:n]
}

func file(name string, size int) File {
	return File{name, extent.Bytes(noise(size))}
}

// pieceFiles are the usual files of an image, and an empty one.
func pieceFiles() []File {
	return []File{file("piece.html", 3_000_001), file("piece.json", 412), file("kidlisp.html", 2*BlockSize), file("empty", 0), file("splash.png", 70_000)}
}

func mustBuild(t testing.TB, o Options, files ...File) *extent.Map {
	t.Helper()
	m, err := Build(o, files...)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func content(t testing.TB, s interface {
	io.ReaderAt
	Size() int64
}) []byte {
	t.Helper()
	p := make([]byte, s.Size())
	if n, err := s.ReadAt(p, 0); n != len(p) {
		t.Fatal(err)
	}
	return p
}

// save writes m to a sparse file and returns its path.
func save(t testing.TB, m *extent.Map) string {
	t.Helper()
	dir := t.TempDir()
	if *imageDir != "" {
		dir = filepath.Join(*imageDir, t.Name())
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	f, err := os.CreateTemp(dir, "volume-*.ext4")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.Truncate(m.Size()); err != nil {
		t.Fatal(err)
	}
	for _, e := range m.Extents(0, m.Size()) {
		if e.Source == nil {
			continue
		}
		if _, err := f.WriteAt(content(t, io.NewSectionReader(e.Source, e.SourceOff, e.Len)), e.Off); err != nil {
			t.Fatal(err)
		}
	}
	return f.Name()
}

// run runs a command that has to succeed and returns its output.
func run(t testing.TB, name string, args ...string) string {
	t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Env = append(os.Environ(), "LC_ALL=C", "TZ=UTC")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s%s", name, strings.Join(args, " "), err, out, &stderr)
	}
	return string(out)
}

var (
	banner = regexp.MustCompile(`^e2fsck \d+\.\d+\.\d+ \([^\n]*\)\n$`)
	report = regexp.MustCompile(`^Pass 1: Checking inodes, blocks, and sizes
Pass 2: Checking directory structure
Pass 3: Checking directory connectivity
Pass 4: Checking reference counts
Pass 5: Checking group summary information
[^\n]*: (\d+/\d+) files \(0\.0% non-contiguous\), (\d+/\d+) blocks
$`)
)

// e2fsck checks a volume and returns the complaints of e2fsck, or "". Its exit
// status is not enough: it is 0 for wrong free counts and for times in the
// future. The environment may contain E2FSCK_TIME, the clock of e2fsck.
func e2fsck(t testing.TB, image string, env ...string) string {
	t.Helper()
	cmd := exec.Command(testkit.NeedTool(t, "e2fsck", "e2fsprogs"), "-fn", image)
	cmd.Env = append(append(os.Environ(), "LC_ALL=C"), env...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	if err == nil && report.Match(stdout.Bytes()) && banner.Match(stderr.Bytes()) {
		return ""
	}
	return fmt.Sprintf("e2fsck %v: %v\n%s%s", env, err, &stderr, &stdout)
}

// wantClean fails the test if e2fsck complains about m, with the clock of today
// or with that of a machine without one.
func wantClean(t testing.TB, name string, m *extent.Map) {
	t.Helper()
	image := save(t, m)
	for _, env := range [][]string{nil, {"E2FSCK_TIME=1"}} {
		if complaint := e2fsck(t, image, env...); complaint != "" {
			t.Errorf("%s: %s", name, complaint)
		}
	}
	if *imageDir == "" {
		os.Remove(image)
	}
}

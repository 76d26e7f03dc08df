package integration

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// A release is a place to which scripts/release-base publishes.
type release struct {
	*site
	dir   string // of the script
	boots string // --as of the boots for which the stub runs the real isofs
	fails string // --as of the boots in which the stub shows no piece
}

func newRelease(t *testing.T) *release {
	t.Helper()
	need(t, "flock", "make")
	return &release{site: folderSite(t), dir: filepath.Join(t.TempDir(), "release")}
}

// run runs the script for the flavor tiny. It checks the exit status and the output.
func (r *release) run(status int, says string, args ...string) {
	r.t.Helper()
	cmd := exec.Command("scripts/release-base", append([]string{"tiny"}, args...)...)
	cmd.Dir = tree
	cmd.Env = append(os.Environ(), "RELEASE_DIR="+r.dir, "ISOFS="+r.absolute("testdata/isofs-stub"), "STUB_ISOFS="+isofs, "STUB_LOG="+r.dir+".log",
		"STUB_BASE="+filepath.Join(baseDir, "base.iso"), "STUB_BOOTS="+r.boots, "STUB_FAILS="+r.fails)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err := cmd.Run()
	if exit, ok := errors.AsType[*exec.ExitError](err); err != nil && !ok || ok && exit.ExitCode() != status || err == nil && status != 0 {
		r.t.Fatalf("release-base %q: %v, want exit status %d\n%s", args, err, status, out.String())
	}
	if !strings.Contains(out.String(), says) {
		r.t.Errorf("release-base %q: %q is not in:\n%s", args, says, out.String())
	}
}

func (r *release) absolute(path string) string {
	r.t.Helper()
	path, err := filepath.Abs(path)
	if err != nil {
		r.t.Fatal(err)
	}
	return path
}

// calls counts the stub's calls that match.
func (r *release) calls(pattern string) int {
	r.t.Helper()
	notes, err := os.ReadFile(r.dir + ".log")
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		r.t.Fatal(err)
	}
	return len(regexp.MustCompile("(?m)"+pattern).FindAll(notes, -1))
}

// nothing checks that no base is published.
func (r *release) nothing() {
	r.t.Helper()
	if _, err := os.Stat(r.to); !errors.Is(err, os.ErrNotExist) || r.calls("^base publish") > 0 {
		r.t.Fatalf("something was published (%v)", err)
	}
}

// TestReleaseRefusesWhatShowsNoPiece: one of two boots is not enough, whatever flags skip. The
// script does not repeat finished work.
func TestReleaseRefusesWhatShowsNoPiece(t *testing.T) {
	t.Parallel()
	r := newRelease(t)
	r.run(0, "would publish to "+r.to, "--to", r.to, "--dry-run")
	if _, err := os.Stat(r.dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a dry run made something: %v", err)
	}
	r.fails = "virtio-cd"
	r.run(1, "not published: the piece was not shown by virtio-cd:bios", "--to", r.to)
	r.run(1, "not published: virtio-cd:bios has not shown the piece", "--to", r.to, "--skip", "boot")
	r.run(1, "not published: disk:uefi has not shown", "--to", r.to, "--skip", "boot", "--expect-serial", "another")
	r.nothing()
	for _, way := range []string{"disk-uefi", "virtio-cd-bios"} {
		if _, err := os.Stat(filepath.Join(r.dir, "boots", way, "result.json")); err != nil {
			t.Error(err)
		}
	}

	r.fails = ""
	r.run(0, "virtio-cd:bios shows the piece", "--to", r.to, "--skip", "publish")
	r.nothing()
	r.run(0, "is published, and current", "--to", r.to)
	if bakes, packs, disks, cds := r.calls("^bake tiny "), r.calls("^pack "), r.calls("^boot-test .*--as disk "), r.calls("^boot-test .*--as virtio-cd "); bakes != 1 || packs != 1 || disks != 1 || cds != 2 {
		t.Errorf("baked %d times, packed %d, booted a disk %d, a CD-ROM %d times", bakes, packs, disks, cds)
	}
	if output := r.does("list", "--from", r.to); strings.Count(output, "\n") != 1 || !strings.Contains(output, "current") {
		t.Errorf("published is:\n%s", output)
	}
	if left, err := filepath.Glob(filepath.Join(r.dir, "*")); err != nil || fmt.Sprint(left) != fmt.Sprint([]string{filepath.Join(r.dir, "boots"), filepath.Join(r.dir, "lock")}) {
		t.Errorf("left are %v (%v)", left, err)
	}
}

// TestReleaseKeepsThree of four bases. A passed boot of one base does not count for another.
func TestReleaseKeepsThree(t *testing.T) {
	t.Parallel()
	versions, err := variations()
	if err != nil {
		t.Fatal(err)
	}
	r := newRelease(t)
	r.run(0, "shows the piece", "--base", versions[0], "--skip", "publish")
	r.run(1, "the image is not of this base", "--base", versions[1], "--skip", "pack", "--to", r.to)
	r.run(1, "has not shown the piece of this base", "--base", versions[1], "--skip", "pack,boot", "--to", r.to)
	r.nothing()
	for _, dir := range versions {
		r.run(0, "is published, and current", "--base", dir, "--to", r.to)
	}
	if got := r.listed(); got != "04 current, 03 previous, 02 previous" {
		t.Error(got)
	}
	r.run(2, "give the base a version of its own", "--base", versions[0], "--to", r.to) // that version was removed
	for _, c := range [][]string{{"--too", "x"}, {"--to"}, {}, {"--to", "x", "--boots", "usb:uefi"}, {"--to", "x", "--boots", "usb"}, {"--to", "x", "--skip", "all"}, {"--to", "x", "--expect-serial", ""}} {
		r.run(2, "--help", c...)
	}
}

// TestReleaseBoots boots a real base in QEMU as a disk by BIOS. The stub stands for the CD-ROM,
// which TestBootFromTheAddress boots.
func TestReleaseBoots(t *testing.T) {
	t.Parallel()
	needQEMU(t)
	oneMachine.Lock()
	defer oneMachine.Unlock()
	r := newRelease(t)
	r.boots = "disk"
	ways := []string{"--base", baseDir, "--to", r.to, "--boots", "disk:bios,virtio-cd:bios"}
	// The base tiny has no browser that could report this.
	r.run(1, "lacking: piece shown, serial ^ISOFS-SHOWN", append(ways, "--expect-serial", "^ISOFS-SHOWN", "--timeout", "1s")...)
	r.nothing()
	r.run(0, "is published, and current", append(ways, "--timeout", bootPatience.String())...)
	if shots, err := filepath.Glob(filepath.Join(r.dir, "boots", "disk-bios", "*-piece.png")); err != nil || len(shots) != 1 {
		t.Errorf("the pictures of the piece are %v (%v)", shots, err)
	}
	must(t, isofs, "base", "verify", filepath.Join(r.to, "bases", strings.TrimPrefix(baseDir, filepath.Join(workDir, "bases"))))
}

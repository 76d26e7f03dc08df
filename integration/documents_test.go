package integration

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// What README.md, docs/ and prompt/README.md tell people to type is run as it
// stands there, with the defaults, on a machine that has seen no isofs: each page
// in mount, network and process name spaces of its own, which end with it.

var allBlocks = flag.Bool("documents.all", false, "run also the blocks of the pages that are marked \"release: make documents\"")

// machines are the pages that share name spaces, one after the other, since it
// takes seconds to make them. Pages that are in none share the last.
var machines = [][]string{{"README.md"}, {"docs/operating.md"}, {}}

// TestDocuments runs the pages. Each machine is this program once more, in name
// spaces: there, TestDocument runs what is typed.
func TestDocuments(t *testing.T) {
	needRoot(t)
	need(t, "bash", "tar", "mount", "useradd", "nginx", "fusermount3", "curl", "wget", "aria2c", "zsync", "bmaptool", "gpg", "sqv",
		"openssl", "make", "node", "systemd-analyze", "sha256sum")
	e := newElsewhere(t, plainBinary(t))
	left := pages(t)
	for i, of := range machines {
		left = slices.DeleteFunc(left, func(page string) bool { return slices.Contains(of, page) })
		if i == len(machines)-1 {
			of = left
		}
		t.Run(strings.ReplaceAll(of[0], "/", "_"), func(t *testing.T) {
			t.Parallel()
			runDocuments(t, of, e)
		})
	}
}

// pages are those that the test is about.
func pages(t *testing.T) []string {
	t.Helper()
	docs, err := filepath.Glob(filepath.Join(tree, "docs", "*.md"))
	if err != nil || len(docs) == 0 {
		t.Fatal("no pages", err)
	}
	names := []string{"README.md", "prompt/README.md"}
	for _, path := range docs {
		names = append(names, "docs/"+filepath.Base(path))
	}
	return names
}

func runDocuments(t *testing.T, pages []string, e *elsewhere) {
	t.Helper()
	// On a disk: the S3 server keeps what it knows of objects in their attributes.
	disk, err := os.MkdirTemp(workDir, "pages-")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(disk)
	if err := errors.Join(os.Chmod(disk, 0o755), os.Mkdir(filepath.Join(disk, "tmp"), 0o755), os.Chmod(filepath.Join(disk, "tmp"), 0o1777)); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	cmd := exec.Command("/proc/self/exe", "-test.run=^TestDocument$", "-test.timeout=15m", fmt.Sprintf("-documents.all=%t", *allBlocks))
	cmd.Env = append(os.Environ(), pagesVar+"="+strings.Join(pages, " "), diskVar+"="+disk, elsewhereVar+"="+e.dir, programVar+"="+e.program)
	cmd.Stdout, cmd.Stderr = &out, &out
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWNS | syscall.CLONE_NEWNET | syscall.CLONE_NEWPID | syscall.CLONE_NEWUTS,
		Pdeathsig:  syscall.SIGKILL,
	}
	if err := cmd.Run(); err != nil {
		t.Errorf("%v\n%s", err, out.String())
	}
	t.Logf("%q: %s of processors", pages, (cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()).Round(100*time.Millisecond))
}

// The variables by which TestDocuments tells TestDocument what to do.
const (
	pagesVar     = "ISOFS_TEST_PAGES"
	diskVar      = "ISOFS_TEST_DISK"
	elsewhereVar = "ISOFS_TEST_ELSEWHERE"
	programVar   = "ISOFS_TEST_PROGRAM"
)

// TestDocument runs pages; TestDocuments starts it.
func TestDocument(t *testing.T) {
	if os.Getenv(pagesVar) == "" {
		t.Skip("TestDocuments runs it, in name spaces of its own")
	}
	m := newMachine(t)
	for _, page := range strings.Fields(os.Getenv(pagesVar)) {
		blocks, err := readPage(page)
		if err != nil {
			t.Error(err)
			continue
		}
		r := m.newReader(page)
		for _, b := range blocks {
			if !r.follow(b) {
				break
			}
		}
		r.leave()
	}
}

// placeholders are what nobody can type.
var placeholders = regexp.MustCompile(`\.\.\.|…|\bHOST\b|\bFILE\b|<[a-z]+>`)

// notRun is how many blocks may be left out, and why.
const notRun = 10

var notRunReason = regexp.MustCompile(`^(hardware|certbot|foreign system): .+`)

// TestDocumentsSayWhatIsNotRun: a block that is not run has a reason, or a
// target of make that the release runs.
func TestDocumentsSayWhatIsNotRun(t *testing.T) {
	need(t, "make")
	makefile, err := os.ReadFile(filepath.Join(tree, "Makefile"))
	if err != nil {
		t.Fatal(err)
	}
	left := 0
	for _, page := range pages(t) {
		blocks, err := readPage(page)
		if err != nil {
			t.Error(err)
		}
		for _, b := range blocks {
			switch {
			case b.mark.kind == "not run":
				left++
				t.Logf("not run: %s: %s", b.at(b.line), b.mark.reason)
				if !notRunReason.MatchString(b.mark.reason) {
					t.Errorf("%s: %q is no reason: hardware, certbot or foreign system, and which", b.at(b.line), b.mark.reason)
				}
				checkFlags(t, b)
			case b.mark.kind == "release":
				t.Logf("run by a release: %s: %s", b.at(b.line), b.mark.reason)
				checkTarget(t, b, string(makefile))
			case b.mark.kind == "by" && b.mark.reason != "user", b.mark.kind == "after" && b.mark.reason != "ctrl-C":
				t.Errorf("%s: %s what? %q", b.at(b.line), b.mark.kind, b.mark.reason)
			case b.isFile() && b.path() == "":
				t.Errorf("%s: the first line does not say which file this is: # /etc/isofs.toml", b.at(b.line))
			}
			for _, c := range b.commands() {
				if word := placeholders.FindString(c.text); b.isShell() && word != "" && b.mark.kind != "not run" {
					t.Errorf("%s: %q cannot be typed", b.at(c.line), word)
				}
			}
		}
	}
	if left > notRun {
		t.Errorf("%d blocks are not run; at most %d may be", left, notRun)
	}
}

// checkTarget: what takes long is a target that the release runs, and make knows how.
func checkTarget(t *testing.T, b block, makefile string) {
	t.Helper()
	line, ok := strings.CutPrefix(b.mark.reason, "make ")
	if !ok {
		t.Errorf("%s: no target of make runs this", b.at(b.line))
		return
	}
	lines := []string{line}
	for _, c := range b.commands() {
		if line, ok := strings.CutPrefix(c.plain(), "make "); ok {
			lines = append(lines, line)
		}
	}
	for _, line := range lines {
		target, _, _ := strings.Cut(line, " ")
		if !regexp.MustCompile(`(?m)^RELEASE [+:]= `+regexp.QuoteMeta(target)+`$`).MatchString(makefile) && target != "release" {
			t.Errorf("%s: RELEASE in the Makefile has no %s", b.at(b.line), target)
		}
		cmd := exec.Command("bash", "-c", "make --no-print-directory -n "+line)
		cmd.Dir = tree
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%s: make -n %s: %v\n%s", b.at(b.line), line, err, out)
		}
	}
	checkFlags(t, b)
}

// checkFlags asks isofs about the flags of commands that are not run here.
func checkFlags(t *testing.T, b block) {
	t.Helper()
	for _, c := range b.commands() {
		line := strings.TrimPrefix(c.plain(), "sudo ")
		if !strings.HasPrefix(line, "isofs ") {
			continue
		}
		cmd := exec.Command("bash", "-c", `isofs() { "$PROGRAM" "$@"; }; `+line+" --help")
		cmd.Env = append(os.Environ(), "PROGRAM="+plainBinary(t))
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%s: %s: %v\n%s", b.at(c.line), line, err, out)
		}
	}
}

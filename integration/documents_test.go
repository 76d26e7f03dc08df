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
	"strings"
	"syscall"
	"testing"
)

// What README.md, docs/ and prompt/README.md tell people to type is run as it
// stands there, with the defaults, on a machine that has seen no isofs: each page
// in mount, network and process name spaces of its own, which end with it.

var allBlocks = flag.Bool("documents.all", false, "run also the blocks of the pages that are marked \"release: make documents\"")

// TestDocuments runs the pages. Each is this program once more, in the name
// spaces: there, TestDocument runs what is typed.
func TestDocuments(t *testing.T) {
	needRoot(t)
	need(t, "bash", "tar", "mount", "useradd", "nginx", "fusermount3", "curl", "wget", "aria2c", "zsync", "bmaptool", "gpg", "sqv",
		"openssl", "losetup", "make", "node", "systemd-analyze", "sha256sum")
	plain := plainBinary(t)
	for _, page := range pages(t) {
		t.Run(strings.ReplaceAll(page, "/", "_"), func(t *testing.T) {
			t.Parallel()
			runDocument(t, page, plain)
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

func runDocument(t *testing.T, page, plain string) {
	t.Helper()
	blocks, err := readPage(page)
	if err != nil {
		t.Fatal(err)
	}
	runs := 0
	for _, b := range blocks {
		if b.isShell() && (b.mark.kind == "" || b.mark.kind == "by") {
			runs++
		}
	}
	if runs == 0 {
		return
	}
	// On a disk: the S3 server keeps what it knows of objects in their attributes.
	dir, err := os.MkdirTemp(workDir, "page-")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	if err := errors.Join(os.Chmod(dir, 0o755), os.MkdirAll(filepath.Join(dir, "base"), 0o755), os.MkdirAll(filepath.Join(dir, "tmp"), 0o755), os.Chmod(filepath.Join(dir, "tmp"), 0o1777)); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"base.iso", "manifest.json"} {
		if err := os.Link(filepath.Join(baseDir, name), filepath.Join(dir, "base", name)); err != nil {
			t.Fatal(err)
		}
	}
	var out bytes.Buffer
	cmd := exec.Command("/proc/self/exe", "-test.run=^TestDocument$", "-test.timeout=10m", fmt.Sprintf("-documents.all=%t", *allBlocks))
	cmd.Env = append(os.Environ(), documentVar+"="+page, scratchVar+"="+dir, plainVar+"="+plain)
	cmd.Stdout, cmd.Stderr = &out, &out
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWNS | syscall.CLONE_NEWNET | syscall.CLONE_NEWPID | syscall.CLONE_NEWUTS,
		Pdeathsig:  syscall.SIGKILL,
	}
	if err := cmd.Run(); err != nil {
		t.Errorf("%v\n%s", err, out.String())
	} else if testing.Verbose() {
		t.Logf("%s", out.String())
	}
}

// The variables by which TestDocuments tells TestDocument what to do.
const (
	documentVar = "ISOFS_TEST_DOCUMENT"
	scratchVar  = "ISOFS_TEST_SCRATCH"
	plainVar    = "ISOFS_TEST_PLAIN"
)

// TestDocument runs one page; TestDocuments starts it.
func TestDocument(t *testing.T) {
	page := os.Getenv(documentVar)
	if page == "" {
		t.Skip("TestDocuments runs it, in name spaces of its own")
	}
	blocks, err := readPage(page)
	if err != nil {
		t.Fatal(err)
	}
	r := newReader(t, os.Getenv(scratchVar), os.Getenv(plainVar))
	defer r.leave()
	for _, b := range blocks {
		if !r.follow(b) {
			return
		}
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
			case b.mark.kind == "by" && b.mark.reason != "user":
				t.Errorf("%s: by %q: who is that?", b.at(b.line), b.mark.reason)
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
		cmd.Env = append(os.Environ(), "PROGRAM="+isofs)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%s: %s: %v\n%s", b.at(c.line), line, err, out)
		}
	}
}

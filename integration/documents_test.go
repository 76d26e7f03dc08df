package integration

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// These tests type what README.md, docs/ and prompt/README.md say, unchanged and with the defaults.
// The machine has never run isofs: each page has its own mount, network and process name spaces,
// which end with it.

var allBlocks = flag.Bool("documents.all", false, "run also the blocks of the pages that are marked \"release: make documents\"")

// machines are the pages that share name spaces and run one after the other, since name spaces take
// seconds to make. All other pages share the last machine.
var machines = [][]string{{"README.md"}, {"docs/operating.md"}, {}}

// TestDocuments runs the pages. Each machine is a second run of this program in name spaces, in
// which TestDocument types the commands.
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

// pages are the pages that the tests read.
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
	// This must be on a disk: the S3 server keeps metadata in extended attributes of files.
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

// TestDocuments sets these variables for TestDocument.
const (
	pagesVar     = "ISOFS_TEST_PAGES"
	diskVar      = "ISOFS_TEST_DISK"
	elsewhereVar = "ISOFS_TEST_ELSEWHERE"
	programVar   = "ISOFS_TEST_PROGRAM"
)

// TestDocument runs pages; TestDocuments starts it.
func TestDocument(t *testing.T) {
	if os.Getenv(pagesVar) == "" {
		t.Skip("TestDocuments runs it in new name spaces")
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

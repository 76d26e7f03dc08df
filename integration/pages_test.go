package integration

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// placeholders are words that a reader replaces before typing.
var placeholders = regexp.MustCompile(`\.\.\.|…|\bHOST\b|\bFILE\b|<[a-z]+>`)

// notRun is how many blocks may be marked as not run.
const notRun = 10

var notRunReason = regexp.MustCompile(`^(hardware|certbot|foreign system): .+`)

// TestDocumentsSayWhatIsNotRun: a block that is not run has a reason, or names a make target that a
// release runs.
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
					t.Errorf("%s: %q is not a reason: write hardware, certbot or foreign system, and which", b.at(b.line), b.mark.reason)
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

// checkTarget checks that make has the target, and that the release runs it.
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

// checkFlags checks with isofs the flags of commands that are not run here.
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

var (
	inCode      = regexp.MustCompile("`(--[a-z][a-z0-9-]*)[^`]*`")
	subcommand  = regexp.MustCompile(`(?m)^  ([a-z-]+) +[A-Z]`)
	ofOthers    = []string{"--export-secret-subkeys"} // gpg
	beforeFlags = regexp.MustCompile(`(?s)Usage:\n(.*?)\n(?:Global )?Flags:\n`)
)

// TestPagesNameFlagsThatExist: each flag in the text belongs to isofs or to the release script.
func TestPagesNameFlagsThatExist(t *testing.T) {
	t.Parallel()
	script, err := filepath.Abs(filepath.Join(tree, "scripts", "release-base"))
	if err != nil {
		t.Fatal(err)
	}
	known := allHelp(t) + must(t, script, "--help")
	for _, page := range pages(t) {
		text, err := os.ReadFile(filepath.Join(tree, page))
		if err != nil {
			t.Fatal(err)
		}
		for n, line := range strings.Split(string(text), "\n") {
			for _, m := range inCode.FindAllStringSubmatch(line, -1) {
				there := strings.HasSuffix(m[1], "-") && strings.Contains(known, m[1]) // several flags: --s3-…
				there = there || regexp.MustCompile(m[1]+`[^a-z0-9-]`).MatchString(known)
				if !there && !slices.Contains(ofOthers, m[1]) {
					t.Errorf("%s:%d: nothing has a flag %s", page, n+1, m[1])
				}
			}
		}
	}
}

// allHelp returns the help texts of all commands of isofs.
func allHelp(t *testing.T, command ...string) string {
	t.Helper()
	all := must(t, plainBinary(t), append(command, "--help")...)
	for _, list := range beforeFlags.FindAllStringSubmatch(all, -1) {
		for _, m := range subcommand.FindAllStringSubmatch(list[1]+"\n", -1) {
			all += allHelp(t, append(slices.Clone(command), m[1])...)
		}
	}
	return all
}

package integration

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// A reader types what a page says, as root, and as a user without rights where the page says so.
type reader struct {
	*machine
	page    string
	root    *person
	alice   *person
	signed  bool     // something was signed: images have signatures in them, and other times
	running *running // what serves; nil: nothing
}

// bakeTiny is README's first command. It takes long, so only README's page runs it. Other pages get
// a copy of its base.
const bakeTiny = "isofs bake tiny -o bases"

// newReader starts where isofs was never used. Pages other than README have the base that README
// bakes.
func (m *machine) newReader(page string) *reader {
	m.t.Helper()
	r := &reader{machine: m, page: page}
	r.root = m.newPerson("root")
	r.alice = m.newPerson("alice")
	r.root.must("rm -rf /etc/isofs* /etc/systemd/system/isofs* /run/isofs /var/log/isofs bases && userdel isofs 2>/dev/null; true")
	if page != "README.md" {
		r.bakes()
		if page != "docs/operating.md" {
			r.root.must(documented(m.t, "docs/operating.md", "useradd "))
		}
	}
	return r
}

// bakes copies the base that README bakes.
func (r *reader) bakes() {
	r.root.must("mkdir -p bases/tiny/amd64 && cp -r " + elseBase + " bases/tiny/amd64/2026-11-01")
}

// leave stops what runs, and removes what the page made. Only the cache stays for later pages.
func (r *reader) leave() {
	r.stop("the end of the page")
	r.root.must("find /var/lib/isofs -mindepth 1 -maxdepth 1 ! -name cache -exec rm -rf {} + ; rm -rf /srv/*; true")
	for _, name := range r.lies() {
		if !slices.Contains(r.things, name) {
			r.root.must("rm -rf " + name)
		}
	}
	r.root.leave()
	r.alice.leave()
}

// documented returns the first command of a page with that beginning.
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

// follow types a block, and returns whether to continue.
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
	if b.mark.kind == "after" && !r.stop(b.at(b.line)) {
		return false
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

// types types one command, and checks the result.
func (r *reader) types(b block, c typed) bool {
	at, who := b.at(c.line), r.root
	if b.mark.kind == "by" {
		who = r.alice
	}
	if c.plain() == bakeTiny && b.page != "README.md" {
		return true
	}
	if m := serviceLine.FindStringSubmatch(c.plain()); m != nil {
		return r.systemctl(at, m[1], m[2])
	}
	if servingLine.MatchString(c.plain()) {
		if !r.serves(at, who, c) {
			return false
		}
		if who == r.alice { // root ran it too, in the same folder
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

// fails reports what is wrong at a line of the page, with the output of the running server.
func (r *reader) fails(at, format string, args ...any) bool {
	r.t.Helper()
	r.t.Errorf("%s: %s", at, fmt.Sprintf(format, args...))
	if r.running != nil {
		r.t.Logf("the output of %s, which runs:\n%s", r.running.line, r.running.output())
	}
	return false
}

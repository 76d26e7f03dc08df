package isofs_test

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// A shop is a copy of Makefile and scripts in its own folder, where every program that they call is
// testdata/step.
type shop struct {
	*testing.T
	dir string
}

func newShop(t *testing.T) shop {
	t.Helper()
	s := shop{t, t.TempDir()}
	step, err := filepath.Abs("testdata/step")
	if err != nil {
		t.Fatal(err)
	}
	// The last three are files that scripts/recipe reads; it is not a step.
	err = errors.Join(os.CopyFS(s.path("scripts"), os.DirFS("scripts")), os.Mkdir(s.path("bin"), 0o755),
		os.Mkdir(s.path("programs"), 0o755), os.Mkdir(s.path("bake"), 0o755), os.Mkdir(s.path("ext4gen"), 0o755), os.WriteFile(s.path("go.sum"), nil, 0o644))
	if err != nil {
		t.Fatal(err)
	}
	makefile, err := os.ReadFile("Makefile")
	if err := errors.Join(err, os.WriteFile(s.path("Makefile"), makefile, 0o644), os.Symlink(step, s.path("bin/isofs"))); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"go", "sudo", "apt-get", "apt-cache", "dpkg-query", "getent", "useradd", "systemctl", "npm", "curl", "sgdisk"} {
		if err := os.Symlink(step, s.path("programs", name)); err != nil {
			t.Fatal(err)
		}
	}
	return s
}

func (s shop) path(name ...string) string { return filepath.Join(append([]string{s.dir}, name...)...) }

// make makes a target. It returns the calls, the output, and whether make failed.
func (s shop) make(target string, env ...string) (calls []string, output string, failed bool) {
	s.Helper()
	// The path, as there may be another make among the programs.
	program, err := exec.LookPath("make")
	if err != nil {
		if os.Getenv("CI") != "" {
			s.Fatal(err)
		}
		s.Skip(err)
	}
	if err := errors.Join(os.RemoveAll(s.path("notes.serving")), os.WriteFile(s.path("notes"), nil, 0o644)); err != nil {
		s.Fatal(err)
	}
	cmd := exec.Command(program, target)
	cmd.Dir = s.dir
	cmd.Env = append(slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, "MAKE") || strings.HasPrefix(v, "MFLAGS") }),
		"PATH="+s.path("programs")+":"+os.Getenv("PATH"), "NOTES="+s.path("notes"))
	cmd.Env = append(cmd.Env, env...)
	out, err := cmd.CombinedOutput()
	if _, ok := errors.AsType[*exec.ExitError](err); err != nil && !ok {
		s.Fatal(err)
	}
	notes, noteErr := os.ReadFile(s.path("notes"))
	if noteErr != nil {
		s.Fatal(noteErr)
	}
	calls = strings.FieldsFunc(string(notes), func(r rune) bool { return r == '\n' })
	// What only root does, and how others become root.
	calls = slices.DeleteFunc(calls, func(c string) bool { return strings.HasPrefix(c, "sudo ") || strings.HasPrefix(c, "useradd ") })
	return calls, string(out), err != nil
}

// putBase puts a base of the flavor debian where the targets look for one.
func (s shop) putBase() {
	s.Helper()
	dir := s.path("build/bases/debian/amd64/2026-11-01")
	if err := errors.Join(os.MkdirAll(dir, 0o755), os.WriteFile(filepath.Join(dir, "base.iso"), nil, 0o644), os.WriteFile(filepath.Join(dir, "manifest.json"), nil, 0o644)); err != nil {
		s.Fatal(err)
	}
}

// A step is a call of a program: how it begins, and what else is in it.
type step struct{ call, with string }

// is reports whether the line is a call of the step.
func (s step) is(line string) bool {
	return strings.HasPrefix(line, s.call) && regexp.MustCompile(s.with).MatchString(line)
}

// These begin most targets.
var (
	builds  = step{"go build", "-o bin/isofs"}
	updates = step{"apt-get update", ""}
)

// targets are the long ones of the Makefile and what each calls, in this order.
var targets = []struct {
	name  string
	base  bool // whether there is a base before
	env   []string
	steps []step
}{
	{name: "base-debian", steps: []step{builds, updates, {"apt-get install", " mmdebstrap "}, {"isofs bake debian", "-o build/bases --work build/debian$"}}},
	{name: "base-fedora", env: []string{"LIVE_ISO=live.iso", "CHECKSUM=sums"}, steps: []step{
		builds, updates, {"apt-get install", " xorriso "}, {"isofs bake fedora", "--live-iso live.iso --checksum sums -o build/bases --work build/fedora$"}}},
	{name: "boot-debian", base: true, steps: []step{
		builds, updates, {"apt-get install", "--no-install-recommends qemu-system-x86 qemu-block-extra ovmf curl$"}, {"isofs boot-test", "build/bases/debian/amd64/2026-11-01/base.iso --expect-serial"}}},
	{name: "boot-table", base: true, env: []string{"BOOTS=1"}, steps: []step{
		builds, updates, {"apt-get install", "nginx-light .*qemu-system-x86 "}, {"isofs serve", "--base build/bases/debian/amd64/2026-11-01 "}, {"isofs boot-test", "/notepat-os.iso --as usb --firmware uefi"}}},
	{name: "boot-odd", base: true, env: []string{"ODD=missing"}, steps: []step{
		builds, updates, {"apt-get install", " gdisk"}, {"isofs pack notepat", "--base build/bases/debian/amd64/2026-11-01 "}, {"sgdisk -d 3", ""}, {"isofs boot-test", "stick.iso"}}},
	{name: "publish-debian", env: []string{"ISOFS_TO=s3://bucket/images"}, steps: []step{
		builds, updates, {"apt-get install", " qemu-system-x86 "}, builds, updates, {"apt-get install", " mmdebstrap "},
		{"isofs bake debian", `-o \S+/bases --work build/debian --base-version \S+ --epoch \d+$`}, {"isofs pack shown", `--base \S+/debian/amd64/`},
		{"isofs boot-test", "--as usb "}, {"isofs boot-test", "--as cd "}, {"isofs base publish", "--to s3://bucket/images "}}},
}

// TestTargets: what the long targets call, in order. A step that fails is the last one, and the
// output shows it. Nothing is baked or booted.
func TestTargets(t *testing.T) {
	t.Parallel()
	for _, target := range targets {
		t.Run(target.name, func(t *testing.T) {
			t.Parallel()
			s := newShop(t)
			if target.base {
				s.putBase()
			}
			if calls, output, failed := s.make(target.name, target.env...); failed || !slices.EqualFunc(target.steps, calls, step.is) {
				t.Fatalf("failed: %v; it calls\n%s\n\nit says\n%s", failed, strings.Join(calls, "\n"), output)
			}
			for i, failing := range target.steps {
				// Those that all begin with fail in one of them.
				if (i > 2 || target.name == "base-debian") && !slices.ContainsFunc(target.steps[:i], func(before step) bool { return before.call == failing.call }) {
					s.fails(target.name, target.base, target.steps[:i+1], target.env)
				}
			}
		})
	}
}

// fails makes a target of which the last of the steps fails.
func (s shop) fails(target string, base bool, steps []step, env []string) {
	s.Helper()
	if err := os.RemoveAll(s.path("build")); err != nil {
		s.Fatal(err)
	}
	if base {
		s.putBase()
	}
	last := steps[len(steps)-1]
	calls, output, failed := s.make(target, append(env, "FAILS="+last.call)...)
	// Another boot is tried, though the first showed nothing. Its output is in the log of the boot.
	boots := last.call == "isofs boot-test"
	if boots && len(calls) > len(steps) && strings.HasPrefix(calls[len(steps)], last.call) {
		calls = calls[:len(steps)]
	}
	if !failed || !slices.EqualFunc(steps, calls, step.is) {
		s.Errorf("%q fails: make failed: %v; it calls\n%s", last.call, failed, strings.Join(calls, "\n"))
	}
	program, _, _ := strings.Cut(last.call, " ")
	if !boots && !strings.Contains(output, program+": this step fails") || !regexp.MustCompile(`make: \*\*\* \[Makefile:\d+: (build|`+target+`)\]`).MatchString(output) {
		s.Errorf("%q fails: no message says so in\n%s", last.call, output)
	}
}

// TestTargetsWithoutABase name the command that bakes one, before anything is built or installed.
func TestTargetsWithoutABase(t *testing.T) {
	t.Parallel()
	for _, target := range []string{"boot-debian", "boot-table", "boot-odd"} {
		s := newShop(t)
		if steps, output, failed := s.make(target); !failed || len(steps) > 0 || !strings.Contains(output, "there is no debian base in build/bases; make base-debian bakes one") {
			t.Errorf("%s: failed: %v, steps %q, and it says\n%s", target, failed, steps, output)
		}
	}
}

// TestRelease makes all of RELEASE in order, continues after one that fails, and says so at the end.
// docs/releasing.md has all of them.
func TestRelease(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	if err := os.Symlink(s.path("bin/isofs"), s.path("programs/make")); err != nil {
		t.Fatal(err)
	}
	makefile, err := os.ReadFile("Makefile")
	if err != nil {
		t.Fatal(err)
	}
	page, err := os.ReadFile("docs/releasing.md")
	if err != nil {
		t.Fatal(err)
	}
	var want []string
	for _, m := range regexp.MustCompile(`(?m)^RELEASE [:+]= (\S+)$`).FindAllStringSubmatch(string(makefile), -1) {
		want = append(want, "make --no-print-directory "+m[1])
		if !strings.Contains(string(page), "`make "+m[1]+"`") {
			t.Errorf("docs/releasing.md does not tell of make %s", m[1])
		}
	}
	if steps, output, failed := s.make("release"); failed || !slices.Equal(steps, want) || len(want) < 9 {
		t.Errorf("failed: %v, steps %q, want %q, and it says\n%s", failed, steps, want, output)
	}
	steps, output, failed := s.make("release", "FAILS="+want[1])
	if !failed || !slices.Equal(steps, want) || !strings.Contains(output, "FAILED   "+strings.TrimPrefix(want[1], "make --no-print-directory ")) || !strings.Contains(output, "1 of ") {
		t.Errorf("one fails; failed: %v, steps %q, and it says\n%s", failed, steps, output)
	}
}

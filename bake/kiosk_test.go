package bake

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"image/png"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"aesthetic.computer/isofs/fault"
	"aesthetic.computer/isofs/integration/testkit"
)

// layOut writes the recipe's files into a new folder.
func layOut(t *testing.T) (root string, r *recipe) {
	t.Helper()
	r, err := kioskRecipe()
	if err != nil {
		t.Fatal(err)
	}
	root = t.TempDir()
	if err := r.write(root, time.Unix(DefaultEpoch, 0)); err != nil {
		t.Fatal(err)
	}
	return root, r
}

func TestPackageList(t *testing.T) {
	for list, want := range map[string]string{
		"Bad_Name  why":       "line 1: \"Bad_Name\" is not the name",
		"# one\n\nbusybox\n":  "line 3: no reason is given for busybox",
		"bb x\naa y\nbb z\n":  "line 3: bb is listed twice",
		"busybox # a reason?": "line 1: no reason",
	} {
		if _, err := parsePackageList([]byte(list)); fault.Kind(err) != fault.Invalid || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %v, want %q", list, err, want)
		}
	}
	_, r := layOut(t)
	for _, name := range []string{"cage", "linux-image-amd64", "plymouth", "shim-signed"} {
		if !slices.Contains(r.packages, name) {
			t.Errorf("%s is not in the list", name)
		}
	}
}

// The same recipe has the same hash. A change of any input changes the hash.
func TestRecipeHash(t *testing.T) {
	_, r := layOut(t)
	_, again := layOut(t)
	if r.hash("x") != again.hash("x") {
		t.Error("the same recipe has two hashes")
	}
	hashes := map[string]string{r.hash("x"): "nothing"}
	for what, change := range map[string]func(r *recipe){
		"a package":     func(r *recipe) { r.packages = append(r.packages, "sl") },
		"the script":    func(r *recipe) { r.customize = append(r.customize, '\n') },
		"the end":       func(r *recipe) { r.finish = append(r.finish, '\n') },
		"the session":   func(r *recipe) { r.session = append(r.session, '\n') },
		"a file":        func(r *recipe) { r.files["etc/x"] = nil },
		"a file's byte": func(r *recipe) { r.files["etc/x"] = []byte("1") },
	} {
		_, r := layOut(t)
		change(r)
		if other, twice := hashes[r.hash("x")]; twice {
			t.Errorf("a change of %s gives the hash of a change of %s", what, other)
		}
		hashes[r.hash("x")] = what
	}
	if _, twice := hashes[r.hash("y")]; twice {
		t.Error("the inputs are not in the hash")
	}
	// A change of the files laid over the packages does not install the
	// packages again.
	installed := r.installHash("x")
	r.files["etc/x"] = nil
	if r.installHash("x") != installed {
		t.Error("a file is in the hash of the packages")
	}
	r.packages = append(r.packages, "sl")
	if r.installHash("x") == installed {
		t.Error("a package is not in the hash of the packages")
	}
}

func TestRecipeFiles(t *testing.T) {
	root, r := layOut(t)
	for _, path := range r.paths() {
		info, err := os.Stat(filepath.Join(root, path))
		if err != nil {
			t.Fatal(err)
		}
		want := fs.FileMode(0o644)
		if strings.HasPrefix(path, "usr/lib/isofs/") && !strings.Contains(filepath.Base(path), ".") || strings.HasSuffix(path, "hooks/isofs") {
			want = 0o755
		}
		if info.Mode() != want || info.ModTime().Unix() != DefaultEpoch {
			t.Errorf("%s has mode %v and time %v, want %v", path, info.Mode(), info.ModTime(), want)
		}
	}
	// plymouth ignores an unknown key without a message, and shows nothing.
	for _, key := range []string{"\nModuleName=script\n", "\n[script]\n", "\nScriptFile=/usr/share/plymouth/themes/isofs/isofs.script\n"} {
		if !strings.Contains(string(r.files["usr/share/plymouth/themes/isofs/isofs.plymouth"]), key) {
			t.Errorf("the theme has no %q", key)
		}
	}
	dot, err := png.Decode(bytes.NewReader(r.files["usr/share/plymouth/themes/isofs/dot.png"]))
	if err != nil {
		t.Fatal(err)
	}
	if _, _, _, a := dot.At(0, 0).RGBA(); a != 0 {
		t.Error("the dot has corners")
	}
	if _, _, _, a := dot.At(12, 12).RGBA(); a != 0xffff {
		t.Error("the dot has a hole")
	}
}

// systemd checks the units, with the programs that they start in place.
func TestUnits(t *testing.T) {
	analyze := testkit.NeedTool(t, "systemd-analyze", "systemd")
	root, r := layOut(t)
	for _, program := range []string{"bin/busybox", "usr/bin/plymouth", "usr/bin/dbus-run-session", "sbin/agetty"} {
		name := filepath.Join(root, program)
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte("#!/bin/sh\n"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	units := filepath.Join(root, "usr/lib/systemd/system")
	if err := os.MkdirAll(units, 0o755); err != nil {
		t.Fatal(err)
	}
	args := []string{"verify", "--man=no", "--recursive-errors=no", "--root=" + root}
	for _, path := range r.paths() {
		if name, ok := strings.CutPrefix(path, "etc/systemd/system/"); ok && !strings.Contains(name, "/") {
			args = append(args, name)
		}
	}
	if len(args) < 9 {
		t.Fatalf("only %v", args)
	}
	out, err := exec.Command(analyze, args...).CombinedOutput()
	if err != nil || len(out) > 0 {
		t.Errorf("systemd-analyze %v: %v\n%s", args, err, out)
	}
}

// A unit must be enabled, and a flavor must set up the session.
func TestUnitsAreEnabled(t *testing.T) {
	fedora, err := fedoraRecipe()
	if err != nil {
		t.Fatal(err)
	}
	_, debian := layOut(t)
	for flavor, r := range map[string]*recipe{FlavorDebian: debian, FlavorFedora: fedora} {
		if !strings.Contains(string(r.customize), "\nsh \"$(dirname \"$0\")/kiosk.sh\" \"$root\"\n") {
			t.Errorf("%s does not run kiosk.sh", flavor)
		}
		enabled := 0
		for path, content := range r.files {
			name, isUnit := strings.CutPrefix(path, "etc/systemd/system/")
			if !isUnit || strings.Contains(name, "/") || !strings.Contains(string(content), "\n[Install]\n") {
				continue
			}
			enabled++
			if !strings.Contains(string(r.session), " "+name+" ") {
				t.Errorf("%s: nothing enables %s", flavor, name)
			}
		}
		if enabled < 5 {
			t.Errorf("%s has only %d units", flavor, enabled)
		}
	}
}

// kioskPiece runs the script that checks the slot. It returns the folder that
// the server shows, and the output on the serial port.
func kioskPiece(t *testing.T, slot map[string]string, env ...string) (shown, output string) {
	t.Helper()
	root, _ := layOut(t)
	dir := t.TempDir()
	piece, run, serial := filepath.Join(dir, "piece"), filepath.Join(dir, "run"), filepath.Join(dir, "serial")
	if err := os.Mkdir(piece, 0o755); err != nil {
		t.Fatal(err)
	}
	for name, text := range slot {
		if err := os.WriteFile(filepath.Join(piece, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.Command("sh", filepath.Join(root, "usr/lib/isofs/piece"))
	cmd.Env = append(os.Environ(), "ISOFS_PIECE="+piece, "ISOFS_RUN="+run, "ISOFS_SERIAL="+serial, "ISOFS_SHARE="+filepath.Join(root, "usr/lib/isofs"))
	cmd.Env = append(append(cmd.Env, "ISOFS_KEYRING="+filepath.Join(dir, "none")), env...)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	target, err := os.Readlink(filepath.Join(run, "piece"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(target, "piece.html")); err != nil {
		t.Errorf("what is shown has no page: %v", err)
	}
	data, err := os.ReadFile(serial)
	if err != nil {
		t.Fatal(err)
	}
	return filepath.Base(target), string(data)
}

func TestKioskPiece(t *testing.T) {
	const page = "<title>x</title>"
	sum := fmt.Sprintf("%x", sha256.Sum256([]byte(page)))
	line := "ISOFS-PIECE notepat sha256=" + sum + " size=16\r\n"
	about := func(sum string) string {
		return "{\n  \"piece\": \"notepat\",\n  \"bundleSha256\": \"" + sum + "\",\n  \"bundleSize\": 16\n}\n"
	}
	for name, c := range map[string]struct {
		slot          map[string]string
		shown, output string
	}{
		"a piece":          {map[string]string{"piece.html": page, "piece.json": about(sum)}, "piece", line},
		"a damaged piece":  {map[string]string{"piece.html": page, "piece.json": about(strings.Repeat("0", 64))}, "damaged", line + "ISOFS-JSON " + strings.TrimSpace(strings.ReplaceAll(about(strings.Repeat("0", 64)), "\n", " ")) + "\r\nISOFS-FAIL piece.html is not what piece.json says"},
		"no piece.json":    {map[string]string{"piece.html": page}, "piece", "ISOFS-PIECE - sha256=" + sum},
		"the placeholder":  {map[string]string{"piece.html": page, "piece.json": `{"piece":null,"bundle":"x"}`}, "piece", "ISOFS-PIECE - sha256=" + sum},
		"an empty page":    {map[string]string{"piece.html": "", "piece.json": about(sum)}, "placeholder", "ISOFS-FAIL no piece.html in FEDAC-PIECE, or an empty one"},
		"nothing":          {nil, "placeholder", "ISOFS-FAIL no partition with the label FEDAC-PIECE"},
		"a name with tabs": {map[string]string{"piece.html": page, "piece.json": "{\"piece\":\"a\tb\"}"}, "piece", "ISOFS-PIECE ab sha256="},
	} {
		t.Run(name, func(t *testing.T) {
			shown, output := kioskPiece(t, c.slot)
			if shown != c.shown || !strings.HasPrefix(output, c.output) {
				t.Errorf("shows %s and prints %q; want %s and %q", shown, output, c.shown, c.output)
			}
		})
	}
}

func TestParseSources(t *testing.T) {
	list := "# deb http://no.example/debian x main\ndeb [arch=amd64 signed-by=/k] http://a.example/debian/ bookworm main\ndeb-src http://no.example/debian x main\n"
	if got := parseSources(list, false); !slices.Equal(got, []string{"http://a.example/debian/"}) {
		t.Errorf("got %q", got)
	}
	stanzas := "Types: deb\n# a remark\nURIs: http://a.example/debian\nSuites: x\n\nTypes: deb\nURIs: https://b.example/debian-security"
	etc := t.TempDir()
	if _, err := hostArchive(etc); fault.Kind(err) != fault.NotFound {
		t.Errorf("no sources: %v", err)
	}
	if err := os.Mkdir(filepath.Join(etc, "sources.list.d"), 0o755); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{"a.list": "deb https://other.example/apt stable main\n", "debian.sources": stanzas} {
		if err := os.WriteFile(filepath.Join(etc, "sources.list.d", name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	a, err := hostArchive(etc)
	if want := (archive{main: "http://a.example/debian", security: "https://b.example/debian-security"}); err != nil || a != want {
		t.Errorf("got %v, %v", a, err)
	}
	if lines := a.lines(); len(lines) != 3 || !strings.HasSuffix(lines[2], "https://b.example/debian-security trixie-security main non-free-firmware") {
		t.Errorf("lines %q", lines)
	}
}

// A step that failed leaves nothing that looks whole.
func TestStep(t *testing.T) {
	s := step{filepath.Join(t.TempDir(), "steps", "one")}
	made := 0
	good := func(dir string) error {
		made++
		return os.WriteFile(filepath.Join(dir, "f"), nil, 0o644)
	}
	bad := func(dir string) error { return os.ErrPermission }
	if err := s.do(bad); err == nil {
		t.Error("a failing step is none")
	}
	for range 2 {
		if err := s.do(good); err != nil {
			t.Fatal(err)
		}
	}
	if made != 1 {
		t.Errorf("made %d times", made)
	}
	if left, _ := filepath.Glob(s.dir + "*"); len(left) != 1 {
		t.Errorf("%v is left", left)
	}
}

// Leftovers of a killed bake go at once, those of another recipe when this one
// is done.
func TestPruneSteps(t *testing.T) {
	dir := t.TempDir()
	for _, path := range []string{"mine/rootfs", "mine/erofs.tmp", "other/rootfs", "other/erofs.tmp"} {
		if err := os.MkdirAll(filepath.Join(dir, path), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	left := func() (names []string) {
		paths, _ := filepath.Glob(filepath.Join(dir, "*", "*"))
		for _, p := range paths {
			name, _ := filepath.Rel(dir, p)
			names = append(names, name)
		}
		return names
	}
	keep := filepath.Join(dir, "mine")
	pruneSteps(dir, false)
	if got := left(); !slices.Equal(got, []string{"mine/rootfs", "other/rootfs"}) {
		t.Errorf("at first: %v", got)
	}
	pruneSteps(dir, true, keep)
	if got := left(); !slices.Equal(got, []string{"mine/rootfs"}) {
		t.Errorf("in the end: %v", got)
	}
}

// session runs one try with programs of the test instead of compositor and
// browser, and returns its output. The compositor is the text of a script.
func session(t *testing.T, compositor string, env ...string) (output, run string) {
	t.Helper()
	root, _ := layOut(t)
	dir := t.TempDir()
	run = filepath.Join(dir, "run")
	bin := filepath.Join(dir, "bin")
	for _, d := range []string{run, bin} {
		if err := os.Mkdir(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	// This sleep does not wait: the session's seconds pass at once.
	for name, text := range map[string]string{"cage": compositor, "sleep": "exit 0"} {
		if err := os.WriteFile(filepath.Join(bin, name), []byte("#!/bin/sh\n"+text+"\n"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, e := range env {
		if tries, ok := strings.CutPrefix(e, "TRIES="); ok {
			if err := os.WriteFile(filepath.Join(run, "tries"), []byte(tries), 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	cmd := exec.CommandContext(t.Context(), "sh", filepath.Join(root, "usr/lib/isofs/session"))
	cmd.Env = append(append(os.Environ(), "HOME="+dir, "ISOFS_RUN="+run, "ISOFS_SHARE="+filepath.Join(root, "usr/lib/isofs"),
		"PATH="+bin+":"+os.Getenv("PATH")), env...)
	out, _ := cmd.CombinedOutput() // it always ends with 1, so that systemd starts the next
	return string(out), run
}

func TestSession(t *testing.T) {
	for name, c := range map[string]struct {
		compositor string
		env        []string
		want       []string
		tries      string
	}{
		"the browser crashes": {"exit 3", nil, []string{"try 1, graphics none", "ended with 3"}, "1\n"},
		"nothing is painted":  {"exec /bin/sleep 1000", []string{"ISOFS_PATIENCE=20"}, []string{"nothing shown in 20 s, starting the browser again"}, "1\n"},
		"painted, then ended": {": >$ISOFS_RUN/shown; exec /bin/sleep 0.5", []string{"ISOFS_PATIENCE=1000000000"}, []string{"shown after about", "the browser ended"}, ""},
		"the fourth time":     {"exit 9", []string{"TRIES=3", "ISOFS_REST=7"}, []string{"has not shown this piece, three times", "Ctrl+Alt+F2", "giving up for 7 s"}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			output, run := session(t, c.compositor, c.env...)
			for _, want := range c.want {
				if !strings.Contains(output, want) {
					t.Errorf("no %q in:\n%s", want, output)
				}
			}
			tries, _ := os.ReadFile(filepath.Join(run, "tries"))
			if string(tries) != c.tries {
				t.Errorf("tries %q, want %q", tries, c.tries)
			}
		})
	}
}

package integration

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"
)

// isofsCommand runs the program to its end. env is added to the environment.
func isofsCommand(t *testing.T, env []string, args ...string) (status int, stdout, stderr string) {
	t.Helper()
	var out, errOut bytes.Buffer
	cmd := exec.Command(isofs, args...)
	cmd.Env = append(os.Environ(), env...)
	cmd.Stdout, cmd.Stderr = &out, &errOut
	err := cmd.Run()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		return exit.ExitCode(), out.String(), errOut.String()
	}
	if err != nil {
		t.Fatal(err)
	}
	return 0, out.String(), errOut.String()
}

// Exit statuses that scripts depend on.
const (
	failed  = 1
	misused = 2
	corrupt = 3
)

// TestUsage: isofs reports wrong arguments before it opens anything.
func TestUsage(t *testing.T) {
	t.Parallel()
	dir := readable(t)
	config := func(text string) string {
		path := filepath.Join(dir, textSum(text)[:8]+".toml")
		write(t, path, text)
		return "--config=" + path
	}
	state := "--state=" + filepath.Join(dir, "state")
	for _, c := range []struct {
		name   string
		env    []string
		args   []string
		status int
		says   []string // words of the error; those after "!" must be absent
	}{
		{"an unknown flag", nil, []string{"serve", "--bsae", "x"}, misused, []string{"no flag --bsae; did you mean --base?\n", "isofs serve --help lists the flags"}},
		{"an unknown command", nil, []string{"sevre"}, misused, []string{`"sevre" for "isofs"; did you mean serve?`, "!see --help"}},
		{"an unknown command below another", nil, []string{"stick", "verfy"}, misused, []string{`"verfy"`, "did you mean verify?"}},
		{"an argument too many", nil, []string{"serve", "here"}, misused, []string{`"here"`, "usage: isofs serve [flags]"}},
		{"an argument too few", nil, []string{"pack"}, misused, []string{"isofs pack needs an argument", "usage: isofs pack PIECE"}},
		{"no base", nil, []string{"serve", state}, misused, []string{"--base is needed"}},
		{"all mistakes at once", nil, []string{"pack", "x", "--fetches", "0", "--density", "99", state}, misused, []string{"--base", "--fetches 0", "--density 99"}},
		{"a wrong size", nil, []string{"serve", "--cache-size", "plenty"}, misused, []string{`--cache-size "plenty"`, "512MiB", "!hint"}},
		{"a wrong time", nil, []string{"serve", "--retain", "7x"}, misused, []string{`--retain "7x"`, "7d"}},
		{"a wrong number", nil, []string{"pack", "x", "--fetches", "many"}, misused, []string{`--fetches "many"`}},
		{"an unknown profile", nil, []string{"serve", "--base", baseDir, "--profile", "fast", state}, misused, []string{`--profile "fast"`, "page-cache"}},
		{"what nginx is not configured with", nil, []string{"nginx-config", "--read-threads", "99999", state}, misused, []string{"--read-threads 99999: "}},
		{"a wrong address", nil, []string{"serve", "--base", baseDir, "--listen", "here:there", state}, misused, []string{"here:there"}},
		{"an unknown user", nil, []string{"serve", "--base", baseDir, "--user", "nobody-here", state}, misused, []string{"nobody-here"}},
		{"a wrong address of the oven", nil, []string{"pack", "x", "--base", baseDir, "--oven", "ftp://oven", state}, misused, []string{"--oven", "ftp://oven"}},
		{"a missing folder of pieces", nil, []string{"pack", "x", "--base", baseDir, "--pieces", "/nowhere", state}, misused, []string{"--pieces", "/nowhere"}},
		{"a wrong name of a piece", nil, []string{"pack", "nö", "--base", baseDir, state}, misused, []string{"nö"}},
		{"an unknown log level", nil, []string{"doctor", "--log-level", "loud"}, misused, []string{`"loud"`, "debug"}},
		{"an unknown setting", nil, []string{"doctor", config("cache_size = 1\n")}, misused, []string{"cache_size", "not a setting"}},
		{"a setting with a wrong value", nil, []string{"pack", "x", config("fetches = \"many\"\n")}, misused, []string{`.toml: fetches "many"`}},
		{"a setting that cannot be", nil, []string{"pack", "x", "--base", baseDir, state, config("fetches = 0\nretain = \"0d\"\n")}, misused,
			[]string{".toml: fetches 0 is not between", ".toml: retain 0s is not more than 0", "!--fetches"}},
		{"a variable that cannot be", []string{"ISOFS_FETCHES=0"}, []string{"pack", "x", "--base", baseDir, state}, misused, []string{"ISOFS_FETCHES 0 is not between", "!--fetches"}},
		{"a table of settings", nil, []string{"doctor", config("[serve]\nbase = 1\n")}, misused, []string{"[serve]"}},
		{"no TOML", nil, []string{"doctor", config("base = \n")}, misused, []string{"read the settings in"}},
		{"a missing file of settings", nil, []string{"doctor", "--config", filepath.Join(dir, "none")}, misused, []string{"--config", "none"}},
		{"a missing file of settings, by the environment", []string{"ISOFS_CONFIG=/none"}, []string{"doctor"}, misused, []string{"ISOFS_CONFIG: ", "/none"}},
		{"a wrong variable", []string{"ISOFS_FETCHES=many"}, []string{"pack", "x"}, misused, []string{"ISOFS_FETCHES", "many"}},
		{"a wrong listen variable", []string{"ISOFS_LISTEN=here:there", "ISOFS_BASE=" + baseDir}, []string{"serve", state}, misused, []string{"here:there"}},
		{"a missing base", nil, []string{"pack", "notepat", "--base", filepath.Join(dir, "none"), state}, failed, []string{"manifest", "none"}},
		{"a piece that is not there", nil, []string{"pack", "nothing", "--base", baseDir, state}, failed, []string{"nothing"}},
		{"a missing folder to verify", nil, []string{"base", "verify", filepath.Join(dir, "none")}, failed, []string{filepath.Join(dir, "none") + ": no such file", "!manifest"}},
		{"nothing to list", nil, []string{"base", "list", "--from", dir}, 0, []string{"nothing is published at " + dir}},
		{"a key without an owner", nil, []string{"key", "new"}, misused, []string{"--out is needed", "--name is needed", "--email is needed"}},
		{"a key's owner without an address", nil, []string{"key", "new", "--name", "a", "--email", "b", "--out", filepath.Join(dir, "key")}, misused, []string{`--email "b"`}},
		{"a key that all can read", nil, []string{"key", "public", "/etc/passwd"}, misused, []string{"/etc/passwd", "!--sign-key"}},
		{"a variable that is not a setting", []string{"ISOFS_CACHE_SIZ=1GiB"}, []string{"base", "list", "--from", dir}, 0, []string{"ISOFS_CACHE_SIZ is not a setting", "did you mean ISOFS_CACHE_SIZE?"}},
		{"the version, with wrong settings", nil, []string{"version", config("cache_size = 1\n")}, 0, []string{"!cache_size"}},
		{"a variable of a script", []string{"ISOFS_TO=s3://b/x"}, []string{"base", "list", "--from", dir}, 0, []string{"!ISOFS_TO"}},
		{"no server", nil, []string{"status", "--run", dir}, failed, []string{filepath.Join(dir, "api.sock")}},
		{"no home to bake in", []string{"HOME=", "XDG_CACHE_HOME="}, []string{"bake", "tiny", "-o", filepath.Join(dir, "bases")}, misused, []string{"--work"}},
		{"an unknown purpose", nil, []string{"doctor", "fly"}, misused, []string{"fly"}},
		{"two words for a piece", nil, []string{"pack", "a", "b"}, misused, nil},
	} {
		status, stdout, stderr := isofsCommand(t, c.env, c.args...)
		if status != c.status {
			t.Errorf("%s: exit status %d, want %d\n%s%s", c.name, status, c.status, stdout, stderr)
		}
		for _, says := range c.says {
			not, found := strings.CutPrefix(says, "!")
			if found && strings.Contains(stderr, not) {
				t.Errorf("%s: %q is in: %s", c.name, not, stderr)
			} else if !found && !strings.Contains(stderr, says) {
				t.Errorf("%s: %q is not in: %s", c.name, says, stderr)
			}
		}
		if strings.Contains(stderr, "goroutine ") || strings.Contains(stderr, "DATA RACE") {
			t.Errorf("%s: %s", c.name, stderr)
		}
	}
}

// TestSettings: a flag wins over the environment, the environment over the file.
func TestSettings(t *testing.T) {
	t.Parallel()
	config := filepath.Join(t.TempDir(), "isofs.toml")
	write(t, config, "listen = [\"127.0.0.1:1001\", \"127.0.0.1:1002\"]\nread-threads = 11\nlimit-connections = 12\ncache-size = \"64MiB\"\n")
	listen := regexp.MustCompile(`listen "?([0-9.:]+)`)
	for _, c := range []struct {
		name  string
		env   []string
		args  []string
		ports []string
	}{
		{"the file", nil, nil, []string{"127.0.0.1:1001", "127.0.0.1:1002"}},
		{"the environment", []string{"ISOFS_LISTEN=127.0.0.1:1003"}, nil, []string{"127.0.0.1:1003"}},
		{"a flag", []string{"ISOFS_LISTEN=127.0.0.1:1003"}, []string{"--listen", "127.0.0.1:1004"}, []string{"127.0.0.1:1004"}},
	} {
		// The environment also names the file of settings.
		status, conf, stderr := isofsCommand(t, append(c.env, "ISOFS_CONFIG="+config), append([]string{"nginx-config"}, c.args...)...)
		if status != 0 {
			t.Fatalf("%s: %s", c.name, stderr)
		}
		var ports []string
		for _, m := range listen.FindAllStringSubmatch(conf, -1) {
			ports = append(ports, m[1])
		}
		if !reflect.DeepEqual(ports, c.ports) {
			t.Errorf("%s: nginx listens on %q, want %q", c.name, ports, c.ports)
		}
		if !strings.Contains(conf, "thread_pool isofs threads=11 ") || !strings.Contains(conf, "limit_conn isofs_connections 12;") {
			t.Errorf("%s: the file's other settings are not in it", c.name)
		}
	}
}

// TestNginxTakesTheConfiguration: nginx itself checks the configuration that isofs prints.
func TestNginxTakesTheConfiguration(t *testing.T) {
	t.Parallel()
	need(t, "nginx")
	for _, profile := range []string{"direct", "page-cache"} {
		dir := t.TempDir()
		args := []string{"nginx-config", "--profile", profile, "--listen", freeAddress(t), "--run", dir, "--mount", "/srv/isofs", "--trusted-proxy", "10.0.0.0/8", "--limit-rate", "4MiB"}
		status, conf, stderr := isofsCommand(t, nil, args...)
		if status != 0 {
			t.Fatal(stderr)
		}
		if err := os.Mkdir(filepath.Join(dir, "nginx"), 0o755); err != nil {
			t.Fatal(err)
		}
		whole := filepath.Join(dir, "whole.conf")
		write(t, whole, conf)
		must(t, "nginx", "-t", "-c", whole, "-p", dir)

		status, conf, stderr = isofsCommand(t, nil, append(args, "--site")...)
		if status != 0 {
			t.Fatal(stderr)
		}
		site, around := filepath.Join(dir, "site.conf"), filepath.Join(dir, "around.conf")
		write(t, site, conf)
		write(t, around, fmt.Sprintf("pid %s/pid;\nthread_pool isofs threads=32;\nevents {}\nhttp {\n\tinclude %s;\n}\n", dir, site))
		must(t, "nginx", "-t", "-c", around, "-p", dir)
	}
}

// TestBaseVerify finds one flipped bit, and reports where.
func TestBaseVerify(t *testing.T) {
	t.Parallel()
	dir := readable(t)
	m := readManifest(t)
	must(t, "cp", "--sparse=always", filepath.Join(baseDir, "base.iso"), filepath.Join(baseDir, "manifest.json"), dir)
	if status, out, stderr := isofsCommand(t, nil, "base", "verify", dir); status != 0 || !strings.Contains(out, m.SHA256) {
		t.Fatalf("the base as it is: exit status %d\n%s%s", status, out, stderr)
	}
	image, err := os.OpenFile(filepath.Join(dir, "base.iso"), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer image.Close()
	const block = 37
	at := block*m.BlockSize + 4242
	b := make([]byte, 1)
	if _, err := image.ReadAt(b, at); err != nil {
		t.Fatal(err)
	}
	if _, err := image.WriteAt([]byte{b[0] ^ 1}, at); err != nil {
		t.Fatal(err)
	}
	status, out, stderr := isofsCommand(t, nil, "base", "verify", dir)
	if status != corrupt || !strings.Contains(stderr, fmt.Sprintf("block %d ", block)) {
		t.Errorf("a flipped bit: exit status %d, want %d and block %d\n%s%s", status, corrupt, block, out, stderr)
	}
	// pack reads through the cache, as the mount does, and refuses the block too.
	iso := filepath.Join(dir, "x.iso")
	status, _, stderr = isofsCommand(t, nil, "pack", "notepat", "--base", dir, "--state", filepath.Join(dir, "state"), "-o", iso)
	if _, err := os.Stat(iso); status != corrupt || err == nil {
		t.Errorf("pack of a flipped bit: exit status %d, want %d, and no file (%v)\n%s", status, corrupt, err, stderr)
	}
	if err := image.Truncate(m.Size - 512); err != nil {
		t.Fatal(err)
	}
	if status, _, stderr = isofsCommand(t, nil, "base", "verify", dir); status != corrupt {
		t.Errorf("a base that is too short: exit status %d\n%s", status, stderr)
	}
}

// TestBaseIndex: base index derives the manifest from the image, except for what only the baker
// knows.
func TestBaseIndex(t *testing.T) {
	t.Parallel()
	out := filepath.Join(t.TempDir(), "manifest.json")
	status, stdout, stderr := isofsCommand(t, nil, "base", "index", filepath.Join(baseDir, "base.iso"), "-o", out,
		"--flavor", "tiny", "--arch", "amd64", "--base-version", readManifest(t).Version)
	if status != 0 {
		t.Fatal(stderr)
	}
	read := func(path string) map[string]any {
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		var m map[string]any
		if err := json.Unmarshal(data, &m); err != nil {
			t.Fatal(err)
		}
		return m
	}
	got, want := read(out), read(filepath.Join(baseDir, "manifest.json"))
	for key := range want {
		// The image does not contain the time of the bake.
		if key != "createdAt" && !reflect.DeepEqual(got[key], want[key]) {
			t.Errorf("%s is not what the bake wrote: %.200v, %.200v", key, got[key], want[key])
		}
	}
	if len(got) != len(want) || !strings.Contains(stdout, want["sha256"].(string)) {
		t.Errorf("%d fields, want %d; the output is:\n%s", len(got), len(want), stdout)
	}
}

// TestInspect: inspect prints the same for a file and for its piece, and more for a piece.
func TestInspect(t *testing.T) {
	t.Parallel()
	from := pieces(t, nil)
	html := page("demo", 3000)
	publish(t, from, "demo", html, 1)
	iso := pack(t, "demo", from)
	status, file, stderr := isofsCommand(t, nil, "inspect", iso)
	if status != 0 {
		t.Fatal(stderr)
	}
	dir := readable(t)
	status, piece, stderr := isofsCommand(t, nil, "inspect", "demo", "--base", baseDir, "--pieces", from, "--state", dir)
	if status != 0 {
		t.Fatal(stderr)
	}
	if !strings.HasSuffix(piece, file) {
		t.Errorf("of the piece:\n%s\nof the file:\n%s", piece, file)
	}
	m := readManifest(t)
	for _, want := range []string{
		`(?m)^1 +EFI +\d+ +\d+ +BOOT$`, `(?m)^2 +LIVE +\d+ +\d+ +FEDAC-LIVE$`,
		fmt.Sprintf(`(?m)^3 +PIECE +%d +%d +FEDAC-PIECE$`, m.Slot, m.SlotSize),
		`"piece": "demo"`, textSum(html),
	} {
		if !regexp.MustCompile(want).MatchString(file) {
			t.Errorf("of the file: no %s in\n%s", want, file)
		}
	}
	for _, want := range []string{fileSum(t, iso), fmt.Sprintf("%d  +base\n", m.Slot), "bundle\n", "generated\n", "zeroes\n", "tail of base\n"} {
		if !regexp.MustCompile(want).MatchString(piece) {
			t.Errorf("of the piece: no %s in\n%s", want, piece)
		}
	}
	for _, c := range []struct {
		args   []string
		status int
		says   string
	}{
		{[]string{"inspect", filepath.Join(baseDir, "base.iso")}, 0, ""},
		{[]string{"inspect", filepath.Join(baseDir, "manifest.json")}, misused, "512-byte sectors"},
		{[]string{"inspect", "./nothing.iso"}, failed, "nothing.iso"},
		{[]string{"inspect", "demo"}, misused, "--base"},
	} {
		status, _, stderr := isofsCommand(t, nil, c.args...)
		if status != c.status || !strings.Contains(stderr, c.says) {
			t.Errorf("%q: exit status %d, want %d and %q\n%s", c.args, status, c.status, c.says, stderr)
		}
	}
}

// TestDoctor: doctor names each missing thing, and the command that installs it.
func TestDoctor(t *testing.T) {
	t.Parallel()
	status, out, stderr := isofsCommand(t, nil, "doctor", "serve")
	if status != 0 || !strings.Contains(out, "ok ") || strings.Contains(out, "missing") {
		t.Errorf("to serve: exit status %d\n%s%s", status, out, stderr)
	}
	status, out, stderr = isofsCommand(t, []string{"PATH=" + t.TempDir()}, "doctor", "test")
	if status != failed || !strings.Contains(out, "missing  wget") || !regexp.MustCompile(`apt-get install .* wget`).MatchString(out) {
		t.Errorf("without a path: exit status %d\n%s%s", status, out, stderr)
	}
}

// TestCompletion: bash itself completes commands and flags.
func TestCompletion(t *testing.T) {
	t.Parallel()
	need(t, "bash")
	_, script, _ := isofsCommand(t, nil, "completion", "bash")
	path := filepath.Join(t.TempDir(), "isofs.bash")
	write(t, path, script)
	must(t, "bash", "-n", path)
	for _, c := range []struct {
		typed []string
		want  string
	}{
		{[]string{"ser"}, "serve"},
		{[]string{"base", "ver"}, "verify"},
		{[]string{"serve", "--prof"}, "--profile"},
		{[]string{"doctor", "b"}, "bake"},
	} {
		_, out, stderr := isofsCommand(t, nil, append([]string{"__complete"}, c.typed...)...)
		if !strings.Contains(out, c.want) {
			t.Errorf("%q is not completed to %q: %s%s", c.typed, c.want, out, stderr)
		}
	}
	if status, out, _ := isofsCommand(t, nil, "--version"); status != 0 || !strings.Contains(out, "go1.") {
		t.Errorf("--version: exit status %d: %s", status, out)
	}
}

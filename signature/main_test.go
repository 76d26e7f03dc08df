package signature

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"aesthetic.computer/isofs/integration/testkit"
)

// A gpg is GnuPG with its own home.
type gpg struct {
	t    testing.TB
	home string
}

// newGPG makes one. Its agent ends with the test.
func newGPG(t testing.TB) *gpg {
	t.Helper()
	testkit.NeedTool(t, "gpg", "gnupg")
	// The path of its socket must be short.
	home, err := os.MkdirTemp("", "gpg")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		kill := exec.Command("gpgconf", "--homedir", home, "--kill", "all")
		if out, err := kill.CombinedOutput(); err != nil {
			t.Logf("gpgconf: %v\n%s", err, out)
		}
		os.RemoveAll(home)
	})
	return &gpg{t, home}
}

// try runs gpg with input and returns what it printed, its status lines first.
func (g *gpg) try(input []byte, args ...string) (string, error) {
	g.t.Helper()
	ctx, cancel := context.WithTimeout(g.t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "gpg", append([]string{"--homedir", g.home, "--batch", "--no-tty", "--pinentry-mode", "loopback", "--passphrase", "", "--trust-model", "always"}, args...)...)
	cmd.Stdin = bytes.NewReader(input)
	cmd.Env = append(os.Environ(), "LC_ALL=C")
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	if err != nil {
		err = errors.Join(err, errors.New(errs.String()))
	}
	return out.String() + errs.String(), err
}

// run is try for commands that must succeed. It returns what was printed to
// standard output and then to standard error.
func (g *gpg) run(input []byte, args ...string) string {
	g.t.Helper()
	out, err := g.try(input, args...)
	if err != nil {
		g.t.Fatalf("gpg %s: %v", strings.Join(args, " "), err)
	}
	return out
}

// generate makes a key with no passphrase and returns its fingerprint.
func (g *gpg) generate(user, algorithm, expires string) string {
	g.t.Helper()
	g.run(nil, "--quick-gen-key", user, algorithm, "sign,cert", expires)
	return g.fingerprint(user)
}

func (g *gpg) fingerprint(user string) string {
	g.t.Helper()
	for line := range strings.Lines(g.run(nil, "--with-colons", "--list-keys", user)) {
		if f := strings.Split(line, ":"); f[0] == "fpr" {
			return f[9]
		}
	}
	g.t.Fatal("no fingerprint of " + user)
	return ""
}

// export writes keys into a file, and returns its content.
func (g *gpg) export(args ...string) []byte {
	g.t.Helper()
	path := filepath.Join(g.t.TempDir(), "key")
	g.run(nil, append([]string{"--output", path, "--armor"}, args...)...)
	data, err := os.ReadFile(path)
	if err != nil {
		g.t.Fatal(err)
	}
	return data
}

// verify checks a signature with gpg, and returns its status lines.
func (g *gpg) verify(data, sig []byte) (string, error) {
	g.t.Helper()
	dir := g.t.TempDir()
	for name, content := range map[string][]byte{"data": data, "data.asc": sig} {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
			g.t.Fatal(err)
		}
	}
	return g.try(nil, "--status-fd", "1", "--verify", filepath.Join(dir, "data.asc"), filepath.Join(dir, "data"))
}

// clock is a time that only the test moves.
type clock struct{ now time.Time }

func (c *clock) Now() time.Time { return c.now }

func signerOf(t testing.TB, now time.Time, secrets ...[]byte) *Signer {
	t.Helper()
	var all []Secret
	for _, data := range secrets {
		all = append(all, Secret{Name: "test.asc", Data: data})
	}
	s, err := NewSigner(all, (&clock{now}).Now)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func newKey(t testing.TB, lifetime time.Duration, made time.Time) []byte {
	t.Helper()
	key, err := NewKey("Test Images", "images@example.org", lifetime, made)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

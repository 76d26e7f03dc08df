package bake

import (
	"crypto/sha256"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"aesthetic.computer/isofs/integration/testkit"
)

// signers makes two keys with gpg. It returns the first one's public part, and
// a function that signs a text by either.
func signers(t *testing.T) (keyring string, sign func(user, text string) string) {
	t.Helper()
	gpg := testkit.NeedTool(t, "gpg", "gnupg")
	testkit.NeedTool(t, "sqv", "sqv")
	home, err := os.MkdirTemp("", "gpg") // its socket's path must be short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = exec.Command("gpgconf", "--homedir", home, "--kill", "all").Run() // it may not run
		os.RemoveAll(home)
	})
	run := func(input string, args ...string) string {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), gpg, append([]string{"--homedir", home, "--batch", "--no-tty", "-q", "--pinentry-mode", "loopback", "--passphrase", "", "--armor"}, args...)...)
		cmd.Stdin = strings.NewReader(input)
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("gpg %q: %v", args, err)
		}
		return string(out)
	}
	for _, user := range []string{"us", "them"} {
		run("", "--quick-gen-key", user+" <"+user+"@example.org>", "ed25519", "sign,cert", "never")
	}
	keyring = filepath.Join(t.TempDir(), "keyring.asc")
	if err := os.WriteFile(keyring, []byte(run("", "--export", "us")), 0o644); err != nil {
		t.Fatal(err)
	}
	return keyring, func(user, text string) string { return run(text, "--local-user", user, "--detach-sign") }
}

// With a key in the base, the machine shows only a piece that this key signed.
func TestKioskWantsASignature(t *testing.T) {
	keyring, sign := signers(t)
	const page = "<title>x</title>"
	about := func(page string) string {
		return fmt.Sprintf("{\n  \"piece\": \"notepat\",\n  \"time\": \"2026-11-01T00:00:00Z\",\n  \"bundleSha256\": \"%x\"\n}\n", sha256.Sum256([]byte(page)))
	}
	right := about(page)
	nothing := strings.Replace(right, "bundleSha256", "bundle", 1)
	for name, c := range map[string]struct {
		slot          map[string]string
		shown, output string
	}{
		"signed":             {map[string]string{"piece.html": page, "piece.json": right, "piece.json.asc": sign("us", right), "other.html": "?"}, "checked", "ISOFS-SIGNED "},
		"not signed":         {map[string]string{"piece.html": page, "piece.json": right}, "unsigned", "ISOFS-FAIL piece.json is not signed by a key of this base"},
		"signed by another":  {map[string]string{"piece.html": page, "piece.json": right, "piece.json.asc": sign("them", right)}, "unsigned", "ISOFS-FAIL piece.json is not signed"},
		"another piece.json": {map[string]string{"piece.html": page, "piece.json": right + "\n", "piece.json.asc": sign("us", right)}, "unsigned", "ISOFS-FAIL piece.json is not signed"},
		"another page":       {map[string]string{"piece.html": page + "!", "piece.json": right, "piece.json.asc": sign("us", right)}, "damaged", "ISOFS-FAIL piece.html is not what piece.json says"},
		"of no page":         {map[string]string{"piece.html": page, "piece.json": nothing, "piece.json.asc": sign("us", nothing)}, "unsigned", "ISOFS-FAIL piece.json is not signed"},
		"no piece.json":      {map[string]string{"piece.html": page}, "placeholder", "ISOFS-FAIL piece.json names no piece"},
		"no piece":           {map[string]string{"piece.html": page, "piece.json": `{"piece":null,"bundle":"x"}`}, "placeholder", "ISOFS-FAIL piece.json names no piece"},
		"nothing":            {nil, "placeholder", "ISOFS-FAIL no partition"},
	} {
		t.Run(name, func(t *testing.T) {
			shown, output := kioskPiece(t, c.slot, "ISOFS_KEYRING="+keyring)
			if shown != c.shown || !strings.Contains(output, c.output) {
				t.Errorf("shows %s and prints %q; want %s and %q", shown, output, c.shown, c.output)
			}
		})
	}
}

func TestTrustInTheRecipe(t *testing.T) {
	_, plain := layOut(t)
	_, r := layOut(t)
	r.trust(TrustKey{})
	if r.hash("") != plain.hash("") || r.files[trustPath] != nil {
		t.Error("no key changes the recipe")
	}
	r.trust(TrustKey{Keyring: []byte("key"), Name: "Us <us@example.org>"})
	if r.hash("") == plain.hash("") || string(r.files[trustPath]) != "key" {
		t.Error("the key is not in the recipe")
	}
	if got := string(r.files["usr/lib/isofs/unsigned/piece.html"]); !strings.Contains(got, "<br>Us &lt;us@example.org&gt;.<br>") {
		t.Errorf("the page is\n%s", got)
	}
}

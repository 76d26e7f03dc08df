package signature

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

const day = 24 * time.Hour

// All that gpg makes signs here, and gpg accepts it. gpg rejects it if one byte
// differs.
func TestGPGJudges(t *testing.T) {
	g := newGPG(t)
	now := time.Now()
	plain := g.generate("Plain <plain@example.org>", "ed25519", "1y")
	rsa := g.generate("RSA <rsa@example.org>", "rsa2048", "never")
	withSub := g.generate("Sub <sub@example.org>", "ed25519", "never")
	g.run(nil, "--quick-add-key", withSub, "ed25519", "sign", "1y")
	own := signerOf(t, now, newKey(t, 365*day, now.Add(-time.Hour)))
	public, err := own.Keyring().Armored()
	if err != nil {
		t.Fatal(err)
	}
	g.run(public, "--import")
	secret := func(args ...string) *Signer {
		return signerOf(t, time.Now().Add(time.Second), g.export(args...))
	}
	signers := map[string]*Signer{
		"ed25519":     secret("--export-secret-keys", plain),
		"rsa":         secret("--export-secret-keys", rsa),
		"subkey":      secret("--export-secret-keys", withSub),
		"subkey only": secret("--export-secret-subkeys", withSub),
		"isofs":       own,
	}
	data := bytes.Repeat([]byte("isofs "), 100)
	for name, s := range signers {
		sig, err := s.SignData(data, now.Add(-day))
		if err != nil {
			t.Fatal(err)
		}
		out, err := g.verify(data, sig)
		if err != nil || !strings.Contains(out, "GOODSIG") {
			t.Errorf("%s: gpg says %v\n%s", name, err, out)
		}
		if strings.HasPrefix(name, "subkey") && strings.Contains(out, "using EDDSA key "+withSub) {
			t.Errorf("%s: signed by the primary key\n%s", name, out)
		}
		if proof, err := s.Keyring().Verify(data, sig, now.Add(time.Minute)); err != nil || !strings.Contains(out, "VALIDSIG "+proof.Fingerprint) {
			t.Errorf("%s: %v, %v", name, proof, err)
		}
		for _, at := range []int{0, len(data) / 2, len(data) - 1} {
			bad := bytes.Clone(data)
			bad[at] ^= 1
			if out, err := g.verify(bad, sig); err == nil || !strings.Contains(out, "BADSIG") {
				t.Errorf("%s: byte %d is another, and gpg says %v\n%s", name, at, err, out)
			}
			if _, err := s.Keyring().Verify(bad, sig, now.Add(time.Minute)); err == nil {
				t.Errorf("%s: byte %d is another, and the signature is good", name, at)
			}
		}
	}
}

// This package checks what gpg signs, also by a key in a binary keyring.
func TestSignedByGPG(t *testing.T) {
	g := newGPG(t)
	g.generate("One <one@example.org>", "ed25519", "never")
	rsa := g.generate("Two <two@example.org>", "rsa3072", "never")
	data := []byte("data")
	path := filepath.Join(t.TempDir(), "data")
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	both, err := ParseKeyring(g.export("--export"))
	if err != nil {
		t.Fatal(err)
	}
	later := time.Now().Add(time.Minute)
	for _, hash := range []string{"SHA256", "SHA512", "SHA384"} {
		for _, user := range []string{"one@example.org", rsa} {
			sig := g.export("--digest-algo", hash, "--local-user", user, "--detach-sign", path)
			if _, err := both.Verify(data, sig, later); err != nil {
				t.Errorf("%s by %s: %v", hash, user, err)
			}
		}
	}
	weak := g.export("--allow-weak-digest-algos", "--digest-algo", "SHA1", "--local-user", rsa, "--detach-sign", path)
	if _, err := both.Verify(data, weak, later); err == nil || !strings.Contains(err.Error(), "SHA-256 or better is needed") {
		t.Errorf("SHA-1: %v", err)
	}
	text := g.export("--textmode", "--local-user", rsa, "--detach-sign", path)
	if _, err := both.Verify(data, text, later); err == nil || !strings.Contains(err.Error(), "signed a text") {
		t.Errorf("a text: %v", err)
	}
	passing := g.export("--default-sig-expire", "seconds=600", "--local-user", rsa, "--detach-sign", path)
	if _, err := both.Verify(data, passing, later); err != nil {
		t.Errorf("a signature that is valid for ten minutes: %v", err)
	}
	if _, err := both.Verify(data, passing, later.Add(time.Hour)); err == nil || !strings.Contains(err.Error(), "has expired") {
		t.Errorf("an hour later: %v", err)
	}
}

// A key whose validity was extended binds itself again, later than its earlier
// signatures.
func TestExtendedKey(t *testing.T) {
	g := newGPG(t)
	// gpg has its own clock here.
	at := func(s string, args ...string) {
		g.run(nil, append([]string{"--faked-system-time", s}, args...)...)
	}
	at("20250101T000000!", "--quick-gen-key", "Old <old@example.org>", "ed25519", "sign,cert", "90d")
	fpr := g.fingerprint("old@example.org")
	signed := time.Date(2025, 2, 1, 0, 0, 0, 0, time.UTC)
	s := signerOf(t, signed, g.export("--export-secret-keys", fpr))
	data := []byte("data")
	sig, err := s.SignData(data, signed)
	if err != nil {
		t.Fatal(err)
	}
	expired := time.Date(2025, 6, 1, 0, 0, 0, 0, time.UTC)
	if _, err := s.Keyring().Verify(data, sig, expired); err != nil {
		t.Errorf("it was valid when it signed: %v", err)
	}
	lateSigner := &Signer{keys: s.keys, now: s.now}
	late, err := lateSigner.SignData(data, expired)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Keyring().Verify(data, late, expired); err == nil || !strings.Contains(err.Error(), "had expired when it signed at 2025-06-01") {
		t.Errorf("it had expired when it signed: %v", err)
	}
	if _, err := NewSigner([]Secret{{Name: "k", Data: g.export("--export-secret-keys", fpr)}}, (&clock{expired}).Now); err == nil || !strings.Contains(err.Error(), "has expired: make it valid for longer") {
		t.Errorf("a key that has expired: %v", err)
	}
	at("20250701T000000!", "--quick-set-expire", fpr, "1y")
	extended := signerOf(t, expired.AddDate(0, 2, 0), g.export("--export-secret-keys", fpr))
	if _, err := extended.Keyring().Verify(data, sig, expired.AddDate(0, 2, 0)); err != nil {
		t.Errorf("what it signed before it was extended: %v", err)
	}
	// The same keyring accepts what it signs now, whatever time is requested.
	again, err := extended.SignData(data, signed)
	if err != nil {
		t.Fatal(err)
	}
	if proof, err := extended.Keyring().Verify(data, again, expired.AddDate(0, 2, 0)); err != nil || proof.Time.Before(expired) {
		t.Errorf("signed after it was extended: %v, %v", proof, err)
	}
	if out, err := g.verify(data, again); err != nil {
		t.Errorf("gpg says %v\n%s", err, out)
	}
}

func TestRevokedKey(t *testing.T) {
	g := newGPG(t)
	fpr := g.generate("Gone <gone@example.org>", "ed25519", "never")
	now := time.Now().Add(time.Second)
	secret := g.export("--export-secret-keys", fpr)
	data := []byte("data")
	sig, err := signerOf(t, now, secret).SignData(data, now)
	if err != nil {
		t.Fatal(err)
	}
	// gpg writes the certificate with each key, with a colon that prevents its use.
	cert, err := os.ReadFile(filepath.Join(g.home, "openpgp-revocs.d", fpr+".rev"))
	if err != nil {
		t.Fatal(err)
	}
	g.run(bytes.Replace(cert, []byte(":---"), []byte("---"), 1), "--import")
	if out, _ := g.verify(data, sig); !strings.Contains(out, "REVKEYSIG") {
		t.Errorf("gpg says\n%s", out)
	}
	ring, err := ParseKeyring(g.export("--export", fpr))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ring.Verify(data, sig, now.Add(time.Minute)); err == nil || !strings.Contains(err.Error(), "is revoked") {
		t.Errorf("a signature of a revoked key: %v", err)
	}
	_, err = NewSigner([]Secret{{Name: "k", Data: g.export("--export-secret-keys", fpr)}}, nil)
	if err == nil || !strings.Contains(err.Error(), fpr+" is revoked: make a new one") {
		t.Errorf("a revoked signing key: %v", err)
	}
}

// A keyring that has one of the two keys accepts the file. gpg calls that one good,
// but returns status 0 only if it has both keys.
func TestRotation(t *testing.T) {
	now := time.Now()
	old, next := newKey(t, 0, now.Add(-time.Hour)), newKey(t, 0, now.Add(-time.Minute))
	both := signerOf(t, now, old, next)
	data := []byte("data")
	sig, err := both.SignData(data, now)
	if err != nil {
		t.Fatal(err)
	}
	all, err := both.Keyring().Armored()
	if err != nil {
		t.Fatal(err)
	}
	for name, secret := range map[string][]byte{"old": old, "new": next} {
		one := signerOf(t, now, secret)
		if _, err := one.Keyring().Verify(data, sig, now); err != nil {
			t.Errorf("%s key: %v", name, err)
		}
		g := newGPG(t)
		public, err := one.Keyring().Armored()
		if err != nil {
			t.Fatal(err)
		}
		g.run(public, "--import")
		if out, err := g.verify(data, sig); err == nil || strings.Count(out, "GOODSIG") != 1 || !strings.Contains(out, "NO_PUBKEY") {
			t.Errorf("gpg with the %s key: %v\n%s", name, err, out)
		}
		g.run(all, "--import")
		if out, err := g.verify(data, sig); err != nil || strings.Count(out, "GOODSIG") != 2 {
			t.Errorf("gpg with both keys: %v\n%s", err, out)
		}
		sqv(t, public, data, sig)
	}
	if _, err := signerOf(t, now, newKey(t, 0, now)).Keyring().Verify(data, sig, now); err == nil || !strings.Contains(err.Error(), "is not in the keyring, which has ") {
		t.Errorf("a third key: %v", err)
	}
}

// sqv is the program that checks on the machine that boots.
func sqv(t *testing.T, keyring, data, sig []byte) {
	t.Helper()
	if _, err := exec.LookPath("sqv"); err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal("sqv is missing: apt-get install sqv")
		}
		t.Log("sqv is missing: apt-get install sqv")
		return
	}
	dir := t.TempDir()
	for name, content := range map[string][]byte{"k": keyring, "d": data, "s": sig} {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.CommandContext(t.Context(), "sqv", "--keyring", "k", "s", "d")
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("sqv: %v\n%s", err, out)
	}
}

// gpg names the files of a web key directory as we do.
func TestDirectory(t *testing.T) {
	g := newGPG(t)
	fpr := g.generate("Joe <Joe.Doe@Example.ORG>", "ed25519", "never")
	g.run(nil, "--quick-add-uid", fpr, "Joe <images@other.example>")
	g.run(nil, "--quick-add-uid", fpr, "no address")
	// Only ASCII is lower-cased.
	for _, id := range []string{"ÄBc.Def+x@Ex.Org", "İstanbul@ex.org", "KELVIN\u212a@ex.org"} {
		g.run(nil, "--quick-add-uid", fpr, "Joe <"+id+">")
	}
	ring, err := ParseKeyring(g.export("--export", fpr))
	if err != nil {
		t.Fatal(err)
	}
	entries, err := ring.Directory()
	if err != nil || len(entries) != 5 {
		t.Fatalf("%d entries, %v", len(entries), err)
	}
	listed := g.run(nil, "--with-wkd-hash", "--list-keys", fpr)
	for _, e := range entries {
		if !strings.Contains(strings.ToLower(listed), e.Hash+"@"+e.Domain) {
			t.Errorf("%s@%s is not in\n%s", e.Hash, e.Domain, listed)
		}
		other := newGPG(t)
		other.run(e.Keys, "--import")
		if other.fingerprint(fpr) != fpr {
			t.Error("another key was imported")
		}
	}
}

// The same key, data and time give the same bytes, in every version.
func TestGoldenSignature(t *testing.T) {
	secret, err := os.ReadFile("testdata/no-secret.asc")
	if err != nil {
		t.Fatal(err)
	}
	at := time.Date(2026, 11, 2, 0, 0, 0, 0, time.UTC)
	sig, err := signerOf(t, at, secret).SignData([]byte("data"), at)
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(sig)
	if got, want := hex.EncodeToString(sum[:8]), "bec2f0eb64597aa5"; got != want {
		t.Errorf("signature %s, was %s: a volume's id would have other bytes\n%s", got, want, sig)
	}
}

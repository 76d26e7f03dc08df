package upstream

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"aesthetic.computer/isofs/base"
	"aesthetic.computer/isofs/fault"
	"aesthetic.computer/isofs/signature"
)

func testSigner(t testing.TB) *signature.Signer {
	t.Helper()
	key, err := signature.NewKey("Test", "test@example.org", 0, time.Unix(1793491200, 0))
	if err != nil {
		t.Fatal(err)
	}
	s, err := signature.NewSigner([]signature.Secret{{Name: "test", Data: key}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// A kept base is used without a network only if the present keyring accepts it.
func TestKeptManifestIsVerified(t *testing.T) {
	b := newRegistry(Config{Dir: t.TempDir()})
	us, them := testSigner(t), testSigner(t)
	m := &signedManifest{Manifest: &base.Manifest{SHA256: base.Hash{1}}, data: []byte("{}")}
	kept := func() error { return b.trustKept(m.SHA256, m.data) }
	keep := func(sig []byte) {
		t.Helper()
		m.signature = sig
		if err := b.keep(m, places{"https://h/x"}); err != nil {
			t.Fatal(err)
		}
	}
	keep(nil)
	if err := kept(); err != nil {
		t.Errorf("without a keyring: %v", err)
	}
	b.SetKeyring(us.Keyring())
	if err := kept(); !errors.Is(err, fault.Unavailable) || !strings.Contains(err.Error(), "came without a signature") {
		t.Errorf("unsigned: %v", err)
	}
	if _, err := b.kept(m.SHA256); !errors.Is(err, fault.Unavailable) {
		t.Errorf("unsigned: %v", err)
	}
	sign := func(s *signature.Signer, text string) []byte {
		sig, err := s.SignData([]byte(text), time.Unix(1793491200, 0))
		if err != nil {
			t.Fatal(err)
		}
		return sig
	}
	for what, sig := range map[string][]byte{"another's": sign(them, "{}"), "of another": sign(us, "{ }"), "none": {}} {
		keep(sig)
		if err := kept(); !errors.Is(err, fault.Unavailable) {
			t.Errorf("%s: %v", what, err)
		}
	}
	keep(sign(us, "{}"))
	if err := kept(); err != nil {
		t.Errorf("ours: %v", err)
	}
}

// A manifest is read after its signature, and each missing signature has its own
// error.
func TestManifestWithoutSignature(t *testing.T) {
	dir := t.TempDir()
	b := newRegistry(Config{Dir: t.TempDir()})
	us := testSigner(t)
	b.SetKeyring(us.Keyring())
	if err := os.WriteFile(filepath.Join(dir, "manifest.json"), []byte("no JSON"), 0o644); err != nil {
		t.Fatal(err)
	}
	at := func(address string) error {
		_, err := b.manifestAt(t.Context(), address, b.origin)
		return err
	}
	if err := at(dir); !errors.Is(err, fault.Corrupt) || !strings.Contains(err.Error(), "it is not signed: there is no "+dir+"/manifest.json.asc") {
		t.Errorf("unsigned: %v", err)
	}
	sig, err := us.SignData([]byte("no JSON"), time.Unix(1793491200, 0))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "manifest.json.asc"), sig, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := at(dir); err == nil || !strings.Contains(err.Error(), "parse") {
		t.Errorf("signed: %v", err)
	}
	if _, err := readSignature(t.Context(), "https://h/manifest.json?X-Amz-Signature=1", b.origin); !errors.Is(err, fault.Invalid) {
		t.Errorf("an address with a query: %v", err)
	}
}

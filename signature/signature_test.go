package signature

import (
	"bytes"
	"crypto/sha256"
	"hash"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp/packet"
	openpgp "github.com/ProtonMail/go-crypto/openpgp/v2"

	"aesthetic.computer/isofs/fault"
)

func TestMain(m *testing.M) {
	os.Unsetenv(credentials) // the environment of the tests may have it
	os.Exit(m.Run())
}

var made = time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)

// Signing leaves the hash as it is, continues from there, and gives the same bytes
// each time.
func TestSignGoesOn(t *testing.T) {
	s := signerOf(t, made.Add(day), newKey(t, 0, made))
	h := sha256.New()
	h.Write([]byte("some "))
	h.Write([]byte("data"))
	before := h.Sum(nil)
	at := made.Add(time.Hour + 300*time.Millisecond)
	one, err := s.Sign(h, at)
	if err != nil {
		t.Fatal(err)
	}
	two, err := s.SignData([]byte("some data"), at)
	if err != nil || !bytes.Equal(one, two) || !bytes.Equal(before, h.Sum(nil)) {
		t.Errorf("%v\n%s\n%s", err, one, two)
	}
	if proof, err := s.Keyring().Verify([]byte("some data"), one, made.Add(day)); err != nil || !proof.Time.Equal(made.Add(time.Hour)) || proof.User != "Test Images <images@example.org>" {
		t.Errorf("%+v, %v", proof, err)
	}
	// Not older than the key.
	early, err := s.SignData(nil, made.AddDate(-1, 0, 0))
	if err != nil {
		t.Fatal(err)
	}
	if proof, err := s.Keyring().Verify(nil, early, made.Add(day)); err != nil || !proof.Time.Equal(made) {
		t.Errorf("%+v, %v", proof, err)
	}
}

func TestFutureSignature(t *testing.T) {
	s := signerOf(t, made.Add(day), newKey(t, 0, made))
	sig, err := s.SignData(nil, made.Add(day))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Keyring().Verify(nil, sig, made.Add(day-clockSkew)); err != nil {
		t.Errorf("within the skew: %v", err)
	}
	_, err = s.Keyring().Verify(nil, sig, made.Add(day-clockSkew-time.Second))
	if fault.Kind(err) != fault.Corrupt || !strings.Contains(err.Error(), "which is in the future: check the clocks") {
		t.Errorf("beyond it: %v", err)
	}
	if _, err := NewSigner([]Secret{{Name: "k", Data: newKey(t, 0, made)}}, (&clock{made.Add(-time.Second)}).Now); err == nil || !strings.Contains(err.Error(), "set the clock right") {
		t.Errorf("a key of tomorrow: %v", err)
	}
}

// A key that expires while the program runs stops signing. If there are two, the
// other one signs on.
func TestExpiryWhileRunning(t *testing.T) {
	short, long := newKey(t, 2*day, made), newKey(t, 10*day, made)
	c := &clock{made.Add(day)}
	both, err := NewSigner([]Secret{{Name: "a", Data: short}, {Name: "b", Data: long}}, c.Now)
	if err != nil {
		t.Fatal(err)
	}
	first, err := both.Keys()
	if err != nil || strings.Count(first, "@") != 2 || !both.Expires().Equal(made.Add(10*day)) {
		t.Errorf("%q, %v, %v", first, both.Expires(), err)
	}
	c.now = made.Add(2*day - time.Second)
	if keys, _ := both.Keys(); keys != first {
		t.Error("expired too early")
	}
	c.now = made.Add(2 * day)
	second, frozen, err := both.Frozen()
	if err != nil || !strings.HasSuffix(first, second) || second == first {
		t.Errorf("%q, %v", second, err)
	}
	c.now = made.Add(10 * day)
	_, err = both.SignData(nil, made)
	if fault.Kind(err) != fault.Unavailable || !strings.Contains(err.Error(), "expired at 2026-11-11T00:00:00Z: give another") {
		t.Errorf("all expired: %v", err)
	}
	if sig, err := frozen(nil, made); err != nil || bytes.Contains(sig, []byte("nothing")) {
		t.Errorf("what was begun: %v", err)
	}
}

func TestRefusedKeys(t *testing.T) {
	now := made.Add(day)
	how := settings(made)
	how.Algorithm, how.Curve = packet.PubKeyAlgoECDSA, packet.CurveNistP256
	ecdsa, err := openpgp.NewEntity("x", "", "x@example.org", how)
	if err != nil {
		t.Fatal(err)
	}
	public, err := signerOf(t, now, newKey(t, 0, made)).Keyring().Armored()
	if err != nil {
		t.Fatal(err)
	}
	locked := lockedKey(t)
	for name, c := range map[string]struct {
		data, passphrase []byte
		want             string
	}{
		"nothing":          {nil, nil, "no OpenPGP key"},
		"another file":     {[]byte("hello\n"), nil, "no OpenPGP key"},
		"a public key":     {public, nil, "wanted \"PGP PRIVATE KEY BLOCK\""},
		"two keys":         {append(newKey(t, 0, made), newKey(t, 0, made)...), nil, "it has 2 keys"},
		"no passphrase":    {locked, nil, "needs a passphrase"},
		"wrong passphrase": {locked, []byte("wrong"), "the passphrase is not the one"},
		"ECDSA":            {privateOf(t, ecdsa), nil, "neither Ed25519 nor RSA"},
		"expired":          {newKey(t, 2*time.Hour, made), nil, "has expired"},
		"torn":             {newKey(t, 0, made)[:200], nil, "cannot be read"},
	} {
		_, err := NewSigner([]Secret{{Name: "k.asc", Data: c.data, Passphrase: c.passphrase}}, (&clock{now}).Now)
		if err == nil || fault.Kind(err) == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), "k.asc") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := NewSigner([]Secret{{Name: "k", Data: locked, Passphrase: []byte("right")}}, (&clock{now}).Now); err != nil {
		t.Errorf("the right passphrase: %v", err)
	}
	twice := newKey(t, 0, made)
	if _, err := NewSigner([]Secret{{Name: "a", Data: twice}, {Name: "b", Data: twice}}, (&clock{now}).Now); err == nil || !strings.Contains(err.Error(), "given twice") {
		t.Errorf("the same key twice: %v", err)
	}
	if _, err := ParseKeyring(twice); err == nil {
		t.Error("a secret key is a keyring")
	}
	keys, err := readKeys(twice, privateType)
	if err != nil {
		t.Fatal(err)
	}
	var binary bytes.Buffer
	if err := keys[0].SerializePrivateWithoutSigning(&binary, settings(now)); err != nil {
		t.Fatal(err)
	}
	if _, err := ParseKeyring(binary.Bytes()); err == nil || !strings.Contains(err.Error(), "secret key") {
		t.Errorf("a binary secret key as a keyring: %v", err)
	}
}

func privateOf(t *testing.T, e *openpgp.Entity) []byte {
	t.Helper()
	var out bytes.Buffer
	if err := e.SerializePrivateWithoutSigning(&out, settings(made)); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func lockedKey(t *testing.T) []byte {
	t.Helper()
	keys, err := readKeys(newKey(t, 0, made), privateType)
	if err != nil {
		t.Fatal(err)
	}
	if err := keys[0].EncryptPrivateKeys([]byte("right"), settings(made)); err != nil {
		t.Fatal(err)
	}
	return privateOf(t, keys[0])
}

// One good signature is enough, whatever the others are; two bad ones are not.
func TestSeveralSignatures(t *testing.T) {
	now := made.Add(day)
	known, other := signerOf(t, now, newKey(t, 0, made)), signerOf(t, now, newKey(t, 0, made))
	good, err := known.keys[0].sign(hashed("data"), now)
	if err != nil {
		t.Fatal(err)
	}
	foreign, err := other.keys[0].sign(hashed("data"), now)
	if err != nil {
		t.Fatal(err)
	}
	wrong, err := known.keys[0].sign(hashed("date"), now)
	if err != nil {
		t.Fatal(err)
	}
	file := func(all ...*packet.Signature) []byte {
		var out bytes.Buffer
		for _, s := range all {
			if err := s.Serialize(&out); err != nil {
				t.Fatal(err)
			}
		}
		return out.Bytes()
	}
	for name, sig := range map[string][]byte{"good first": file(good, foreign, wrong), "good last": file(wrong, foreign, good)} {
		if _, err := known.Keyring().Verify([]byte("data"), sig, now); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	many := make([]*packet.Signature, maxSignatures+1)
	for i := range many {
		many[i] = good
	}
	for name, sig := range map[string][]byte{"bad ones": file(foreign, wrong), "none": {}, "too many": file(many...), "text": []byte("good")} {
		if _, err := known.Keyring().Verify([]byte("data"), sig, now); fault.Kind(err) != fault.Corrupt {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A file of several armored blocks has the signatures of all of them. Damage and
// other content spoil none of them.
func TestSeveralBlocks(t *testing.T) {
	now := made.Add(day)
	known, other := signerOf(t, now, newKey(t, 0, made)), signerOf(t, now, newKey(t, 0, made))
	block := func(s *Signer, text string) []byte {
		t.Helper()
		sig, err := s.SignData([]byte(text), now)
		if err != nil {
			t.Fatal(err)
		}
		return sig
	}
	good, foreign, wrong := block(known, "data"), block(other, "data"), block(known, "date")
	key, err := known.Keyring().Armored()
	if err != nil {
		t.Fatal(err)
	}
	damaged := bytes.Clone(good)
	damaged[len(damaged)/2] ^= 1
	cut := good[:len(good)-60]
	for name, blocks := range map[string][][]byte{
		"good first": {good, foreign}, "good last": {foreign, wrong, good}, "text between": {foreign, []byte("and\n\n"), good},
		"a damaged one before": {damaged, good}, "one that is cut before": {cut, []byte("\n"), good}, "a damaged one behind": {good, damaged},
		"a key before": {key, good}, "CRLF": {bytes.ReplaceAll(slices.Concat(foreign, good), []byte("\n"), []byte("\r\n"))},
	} {
		if proof, err := known.Keyring().Verify([]byte("data"), slices.Concat(blocks...), now); err != nil || proof.User == "" {
			t.Errorf("%s: %v", name, err)
		}
	}
	many := make([][]byte, maxSignatures+1)
	for i := range many {
		many[i] = good
	}
	for name, blocks := range map[string][][]byte{"bad ones": {foreign, wrong}, "too many": many, "a key": {key}, "damaged": {damaged, damaged}, "cut": {cut}} {
		if _, err := known.Keyring().Verify([]byte("data"), slices.Concat(blocks...), now); fault.Kind(err) != fault.Corrupt {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func hashed(text string) hash.Hash {
	h := sha256.New()
	h.Write([]byte(text))
	return h
}

func TestSecretFile(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "key")
	if err := os.WriteFile(path, []byte("secret\r\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	data, err := ReadSecretFile(path)
	if err != nil || string(TrimPassphrase(data)) != "secret" {
		t.Errorf("%q, %v", data, err)
	}
	for _, mode := range []os.FileMode{0o640, 0o604, 0o620, 0o601} {
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		if _, err := ReadSecretFile(path); fault.Kind(err) != fault.Invalid || !strings.Contains(err.Error(), "chmod 600") {
			t.Errorf("mode %o: %v", mode, err)
		}
	}
	// systemd's credentials have a mask for a group that does not count.
	if err := os.Chmod(path, 0o440); err != nil {
		t.Fatal(err)
	}
	t.Setenv(credentials, dir)
	if _, err := ReadSecretFile(path); err != nil {
		t.Errorf("a credential: %v", err)
	}
	if got, ok := Credential("key"); !ok || got != path {
		t.Errorf("credential %q, %v", got, ok)
	}
	t.Setenv(credentials, dir+"/other")
	if _, err := ReadSecretFile(path); err == nil {
		t.Error("a file beside the credentials")
	}
	if _, err := ReadSecretFile(dir); fault.Kind(err) != fault.Invalid {
		t.Errorf("a folder: %v", err)
	}
	if os.Geteuid() == 0 {
		if err := os.Chmod(path, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chown(path, 12345, 0); err != nil {
			t.Fatal(err)
		}
		if _, err := ReadSecretFile(path); fault.Kind(err) != fault.Invalid || !strings.Contains(err.Error(), "belongs to user 12345") {
			t.Errorf("somebody else's: %v", err)
		}
	}
}

func TestNewKeyRefuses(t *testing.T) {
	for _, c := range []struct {
		name, email string
		lifetime    time.Duration
	}{{"", "a@b.example", 0}, {"x", "nobody", 0}, {"x", "a@b", 0}, {"x", "a b@c.example", 0}, {"x<y", "a@b.example", 0}, {"x", "a@b.example", -1}, {"x", "a@b.example", time.Minute}} {
		if _, err := NewKey(c.name, c.email, c.lifetime, made); fault.Kind(err) != fault.Invalid {
			t.Errorf("%+v: %v", c, err)
		}
	}
}

// No signature file crashes the check, and only the right one is good.
func FuzzVerify(f *testing.F) {
	now := made.Add(day)
	s := signerOf(f, now, newKey(f, 0, made))
	sig, err := s.SignData([]byte("data"), now)
	if err != nil {
		f.Fatal(err)
	}
	foreign, err := signerOf(f, now, newKey(f, 0, made)).SignData([]byte("data"), now)
	if err != nil {
		f.Fatal(err)
	}
	ring := s.Keyring()
	f.Add(sig)
	f.Add(foreign)
	f.Add([]byte{0xc2, 0x05, 4, 0, 22, 8, 0})
	f.Fuzz(func(t *testing.T, sig []byte) {
		if _, err := ring.Verify([]byte("date"), sig, now); err == nil || fault.Kind(err) == nil {
			t.Errorf("other data: %v", err)
		}
		if _, err := ring.Verify([]byte("data"), sig, now); err != nil && fault.Kind(err) == nil {
			t.Errorf("no kind: %v", err)
		}
	})
}

// No key file crashes the reader.
func FuzzKeys(f *testing.F) {
	secret := newKey(f, 0, made)
	public, err := signerOf(f, made, secret).Keyring().Armored()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(secret)
	f.Add(public)
	f.Fuzz(func(t *testing.T, data []byte) {
		if _, err := NewSigner([]Secret{{Name: "f", Data: data}}, (&clock{made}).Now); err != nil && fault.Kind(err) == nil {
			t.Errorf("no kind: %v", err)
		}
		ring, err := ParseKeyring(data)
		if err != nil {
			if fault.Kind(err) == nil {
				t.Errorf("no kind: %v", err)
			}
			return
		}
		if _, err := ring.Directory(); err != nil && fault.Kind(err) == nil {
			t.Errorf("no kind: %v", err)
		}
	})
}

package signature

import (
	"bytes"
	"strings"
	"testing"
	"time"
)

// Which user id a key has, and how it is written out, does not depend on the
// order of a map.
func TestWhoseKey(t *testing.T) {
	g := newGPG(t)
	at := func(day string, args ...string) {
		g.run(nil, append([]string{"--faked-system-time", "202501" + day + "T000000!"}, args...)...)
	}
	at("01", "--quick-gen-key", "Zoe <zoe@example.org>", "ed25519", "sign,cert", "never")
	fpr := g.fingerprint("zoe@example.org")
	at("02", "--quick-add-uid", fpr, "Bob <bob@example.org>")
	at("02", "--quick-add-uid", fpr, "Ann <ann@example.org>")
	now := time.Date(2025, 2, 1, 0, 0, 0, 0, time.UTC)
	is := func(what, want string) {
		t.Helper()
		exported := g.export("--export", fpr)
		var first []byte
		for range 12 {
			ring, err := ParseKeyring(exported)
			if err != nil {
				t.Fatal(err)
			}
			if got := userOf(ring.keys[0], now); got != want {
				t.Errorf("%s: it is the key of %q, want %q", what, got, want)
				return
			}
			out, err := ring.Armored()
			if first == nil {
				first = out
			}
			if err != nil || !bytes.Equal(out, first) {
				t.Errorf("%s: it is written out in another way each time (%v)", what, err)
				return
			}
		}
		other := newGPG(t)
		other.run(first, "--import")
		if listed := other.run(nil, "--list-keys", fpr); !strings.Contains(listed, want) {
			t.Errorf("%s: gpg reads\n%s", what, listed)
		}
	}
	is("those signed last, by their text", "Ann <ann@example.org>")
	at("03", "--quick-set-expire", fpr, "2030-01-01")
	is("all signed at once, by their text", "Ann <ann@example.org>")
	at("04", "--quick-set-primary-uid", fpr, "Zoe <zoe@example.org>")
	at("05", "--quick-add-uid", fpr, "Dan <dan@example.org>")
	is("the primary one, though another was signed later", "Zoe <zoe@example.org>")
	at("06", "--quick-revoke-uid", fpr, "Zoe <zoe@example.org>")
	is("the primary one is revoked", "Dan <dan@example.org>")
}

package signature

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp/packet"
	openpgp "github.com/ProtonMail/go-crypto/openpgp/v2"

	"aesthetic.computer/isofs/fault"
)

// CheckEmail says what is wrong with the address of a key's owner.
func CheckEmail(email string) error {
	if local, domain, ok := strings.Cut(email, "@"); !ok || local == "" || !strings.Contains(domain, ".") || strings.ContainsAny(email, " <>()\"\n") {
		return fmt.Errorf("%q is not an address like images@example.org", email)
	}
	return nil
}

// CheckName says what is wrong with the name of a key's owner.
func CheckName(name string) error {
	if strings.TrimSpace(name) == "" || strings.ContainsAny(name, "<>()\n") {
		return fmt.Errorf("%q is not a name for its owner", name)
	}
	return nil
}

// NewKey makes an Ed25519 key that signs, as gpg would: version 4, with one user
// id and no subkeys. It returns the secret key in armor.
func NewKey(name, email string, lifetime time.Duration, now time.Time) ([]byte, error) {
	if err := CheckEmail(email); err != nil {
		return nil, fmt.Errorf("make a key: %w: %w", err, fault.Invalid)
	}
	if err := CheckName(name); err != nil {
		return nil, fmt.Errorf("make a key: %w: %w", err, fault.Invalid)
	}
	if lifetime < 0 || lifetime > 100*366*24*time.Hour || lifetime > 0 && lifetime < time.Hour {
		return nil, fmt.Errorf("make a key: it cannot be valid for %s: %w", lifetime, fault.Invalid)
	}
	how := settings(now)
	how.Algorithm = packet.PubKeyAlgoEdDSA
	how.Curve = packet.Curve25519
	how.KeyLifetimeSecs = uint32(lifetime / time.Second)
	e, err := openpgp.NewEntity(name, "", email, how)
	if err != nil {
		return nil, fmt.Errorf("make a key: %w: %w", fault.Invalid, err)
	}
	e.Subkeys = nil // no program encrypts to it
	return armored(privateType, func(w io.Writer) error { return e.SerializePrivateWithoutSigning(w, how) })
}

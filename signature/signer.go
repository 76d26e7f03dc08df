package signature

import (
	"crypto"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"strings"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp/packet"
	openpgp "github.com/ProtonMail/go-crypto/openpgp/v2"

	"aesthetic.computer/isofs/fault"
)

// A Secret is the content of a file with a secret key.
type Secret struct {
	Name       string // of the file, for errors
	Data       []byte
	Passphrase []byte // nil: there is none
}

// A Signer signs with one key, or with several while one replaces another. It
// is safe for concurrent use.
type Signer struct {
	keys []*signingKey
	now  func() time.Time
}

// A signingKey is a primary key or a subkey that may sign data.
type signingKey struct {
	entity  *openpgp.Entity
	public  *packet.PublicKey
	private *packet.PrivateKey
	ready   time.Time // a signature must not be older than the key and what binds it
	expires time.Time // zero: never
}

// NewSigner takes the keys out of files, one each. It refuses a key that is
// revoked, has expired, cannot sign, or needs another passphrase; errors wrap
// fault.Invalid or fault.Corrupt. now is the clock, time.Now if nil.
func NewSigner(secrets []Secret, now func() time.Time) (*Signer, error) {
	if now == nil {
		now = time.Now
	}
	s := &Signer{now: now}
	for _, secret := range secrets {
		k, err := openKey(secret, now())
		if err != nil {
			return nil, fmt.Errorf("signing key %s: %w", secret.Name, err)
		}
		for _, other := range s.keys {
			if string(other.public.Fingerprint) == string(k.public.Fingerprint) {
				return nil, fmt.Errorf("signing key %s: key %s is given twice: %w", secret.Name, fingerprintOf(k.public), fault.Invalid)
			}
		}
		s.keys = append(s.keys, k)
	}
	if len(s.keys) == 0 || len(s.keys) > maxSignatures {
		return nil, fmt.Errorf("%d signing keys, wanted 1 to %d: %w", len(s.keys), maxSignatures, fault.Invalid)
	}
	return s, nil
}

func openKey(secret Secret, now time.Time) (*signingKey, error) {
	keys, err := readKeys(secret.Data, privateType)
	if err != nil {
		return nil, err
	}
	if len(keys) != 1 {
		return nil, fmt.Errorf("it has %d keys: give each a file of its own: %w", len(keys), fault.Invalid)
	}
	e := keys[0]
	name := fingerprintOf(e.PrimaryKey)
	if e.Revoked(now) {
		return nil, fmt.Errorf("key %s is revoked: make a new one (isofs key new): %w", name, fault.Invalid)
	}
	if len(secret.Passphrase) > 0 {
		if err := e.DecryptPrivateKeys(secret.Passphrase); err != nil {
			return nil, fmt.Errorf("key %s: the passphrase is not the one that it needs: %w", name, fault.Invalid)
		}
	}
	return chooseKey(e, now)
}

// chooseKey takes the newest subkey that may sign and has its secret, else the
// primary key.
func chooseKey(e *openpgp.Entity, now time.Time) (*signingKey, error) {
	var best *signingKey
	var errs []error
	for i := range e.Subkeys {
		sub := &e.Subkeys[i]
		if sub.PrivateKey == nil || sub.PrivateKey.Dummy() || !sub.PublicKey.CanSign() {
			continue
		}
		k, err := signingKeyOf(e, sub.PublicKey, sub.PrivateKey, now)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		if best == nil || k.public.CreationTime.After(best.public.CreationTime) {
			best = k
		}
	}
	if best == nil && e.PrivateKey != nil && !e.PrivateKey.Dummy() {
		var err error
		if best, err = signingKeyOf(e, e.PrimaryKey, e.PrivateKey, now); err != nil {
			errs = append([]error{err}, errs...)
		}
	}
	if best != nil {
		return best, nil
	}
	if len(errs) == 0 {
		return nil, fmt.Errorf("key %s: the file has no secret key that may sign; export one with gpg --export-secret-keys: %w", fingerprintOf(e.PrimaryKey), fault.Invalid)
	}
	return nil, errors.Join(errs...)
}

// signingKeyOf checks that a key may sign now, by algorithms that all programs
// check and that give the same bytes each time.
func signingKeyOf(e *openpgp.Entity, pub *packet.PublicKey, priv *packet.PrivateKey, now time.Time) (*signingKey, error) {
	name := fingerprintOf(pub)
	valid, ok := e.SigningKeyById(now, pub.KeyId, settings(now))
	if !ok {
		return nil, fmt.Errorf("key %s %s: %w", name, whyNot(e, pub, now), fault.Invalid)
	}
	if priv.Encrypted {
		return nil, fmt.Errorf("key %s needs a passphrase: name a file of it (--sign-passphrase-file), or the credential isofs-sign-passphrase: %w", name, fault.Invalid)
	}
	if pub.Version != 4 || !goodAlgorithm(pub) {
		return nil, fmt.Errorf("key %s is neither Ed25519 nor RSA, version 4, which all programs can check: make another (isofs key new): %w", name, fault.Invalid)
	}
	k := &signingKey{entity: e, public: pub, private: priv, ready: pub.CreationTime, expires: expiryOf(valid)}
	for _, sig := range []*packet.Signature{valid.PrimarySelfSignature, valid.SelfSignature} {
		if sig.CreationTime.After(k.ready) {
			k.ready = sig.CreationTime
		}
	}
	k.ready = k.ready.UTC()
	return k, nil
}

func goodAlgorithm(k *packet.PublicKey) bool {
	switch k.PubKeyAlgo {
	case packet.PubKeyAlgoRSA, packet.PubKeyAlgoRSASignOnly:
		return true
	case packet.PubKeyAlgoEdDSA:
		curve, err := k.Curve()
		return err == nil && curve == packet.Curve25519
	}
	return false
}

// expiryOf returns when a key, or the primary one above it, expires; zero for
// never.
func expiryOf(k openpgp.Key) (end time.Time) {
	add := func(pub *packet.PublicKey, sig *packet.Signature) {
		if sig == nil || sig.KeyLifetimeSecs == nil || *sig.KeyLifetimeSecs == 0 {
			return
		}
		t := pub.CreationTime.Add(time.Duration(*sig.KeyLifetimeSecs) * time.Second)
		if end.IsZero() || t.Before(end) {
			end = t
		}
	}
	add(k.Entity.PrimaryKey, k.PrimarySelfSignature)
	if k.PublicKey != k.Entity.PrimaryKey {
		add(k.PublicKey, k.SelfSignature)
	}
	return end
}

// whyNot says why a key may not sign.
func whyNot(e *openpgp.Entity, pub *packet.PublicKey, now time.Time) string {
	if pub.CreationTime.After(now) {
		return fmt.Sprintf("was made at %s, which is in the future: set the clock right", pub.CreationTime.UTC().Format(time.RFC3339))
	}
	if e.Revoked(now) {
		return "is revoked"
	}
	// Its state at its own creation shows whether it is only too old now.
	for _, sub := range e.Subkeys {
		if sub.PublicKey != pub {
			continue
		}
		if binding, err := sub.LatestValidBindingSignature(now, settings(now)); err == nil {
			if sub.Revoked(binding, now) {
				return "is a revoked subkey"
			}
			if sub.Expired(binding, now) {
				return "has expired: make it valid for longer (gpg --quick-set-expire) and export it again, or make a new one"
			}
		}
	}
	if self, err := e.PrimarySelfSignature(now, settings(now)); err == nil && e.PrimaryKey.KeyExpired(self, now) {
		return "has expired: make it valid for longer (gpg --quick-set-expire) and export it again, or make a new one"
	}
	return "may not sign data, or nothing binds it to its owner, or it is too weak"
}

// Keys names the keys that sign now. The same name means the same signatures.
// It fails with fault.Unavailable if all keys have expired.
func (s *Signer) Keys() (string, error) {
	keys, err := s.usable()
	return nameOf(keys), err
}

func nameOf(keys []*signingKey) string {
	var names []string
	for _, k := range keys {
		names = append(names, fmt.Sprintf("%s@%d", fingerprintOf(k.public), k.ready.Unix()))
	}
	return strings.Join(names, ",")
}

// usable returns the keys that have not expired.
func (s *Signer) usable() ([]*signingKey, error) {
	now := s.now()
	var keys []*signingKey
	for _, k := range s.keys {
		if k.expires.IsZero() || now.Before(k.expires) {
			keys = append(keys, k)
		}
	}
	if len(keys) == 0 {
		last := s.keys[len(s.keys)-1]
		return nil, fmt.Errorf("sign: the key %s expired at %s: give another (--sign-key), or make this one valid for longer and start again: %w",
			fingerprintOf(last.public), last.expires.UTC().Format(time.RFC3339), fault.Unavailable)
	}
	return keys, nil
}

// Expires returns when the last of the keys expires; zero for never.
func (s *Signer) Expires() (end time.Time) {
	for _, k := range s.keys {
		if k.expires.IsZero() {
			return time.Time{}
		}
		if k.expires.After(end) {
			end = k.expires
		}
	}
	return end
}

// Sign signs the data in h, a hash of crypto/sha256. It leaves h as it is. The
// signature carries the given time, or the key's creation time if that is
// later.
func (s *Signer) Sign(h hash.Hash, at time.Time) ([]byte, error) {
	keys, err := s.usable()
	if err != nil {
		return nil, err
	}
	return sign(keys, h, at)
}

// SignData is Sign for data in memory.
func (s *Signer) SignData(data []byte, at time.Time) ([]byte, error) {
	h := sha256.New()
	h.Write(data)
	return s.Sign(h, at)
}

// Frozen returns the name of the keys that are usable now, as Keys, and a
// function that signs with exactly these.
func (s *Signer) Frozen() (keys string, signData func(data []byte, at time.Time) ([]byte, error), err error) {
	usable, err := s.usable()
	if err != nil {
		return "", nil, err
	}
	return nameOf(usable), func(data []byte, at time.Time) ([]byte, error) {
		h := sha256.New()
		h.Write(data)
		return sign(usable, h, at)
	}, nil
}

func sign(keys []*signingKey, h hash.Hash, at time.Time) ([]byte, error) {
	return armored(signatureType, func(w io.Writer) error {
		for _, k := range keys {
			sig, err := k.sign(h, at)
			if err == nil {
				err = sig.Serialize(w)
			}
			if err != nil {
				return fmt.Errorf("sign with key %s: %w: %w", fingerprintOf(k.public), fault.Invalid, err)
			}
		}
		return nil
	})
}

func (k *signingKey) sign(h hash.Hash, at time.Time) (*packet.Signature, error) {
	if at.Before(k.ready) {
		at = k.ready
	}
	cloner, ok := h.(hash.Cloner)
	if !ok || h.Size() != sha256.Size {
		return nil, errors.New("the hash is not a SHA-256 that can be copied")
	}
	id := k.public.KeyId
	sig := &packet.Signature{
		Version: k.public.Version, SigType: packet.SigTypeBinary, PubKeyAlgo: k.public.PubKeyAlgo, Hash: crypto.SHA256,
		CreationTime: at.UTC().Truncate(time.Second), IssuerKeyId: &id,
	}
	signed, err := cloner.Clone()
	if err != nil {
		return nil, err
	}
	if err := sig.Sign(signed, k.private, settings(at)); err != nil {
		return nil, err
	}
	// A wrong Ed25519 signature can reveal the secret key.
	again, err := cloner.Clone()
	if err != nil {
		return nil, err
	}
	if err := k.public.VerifySignature(again, sig); err != nil {
		return nil, fmt.Errorf("what was signed does not verify; is the memory sound? %w", err)
	}
	return sig, nil
}

// Keyring returns the public keys.
func (s *Signer) Keyring() *Keyring {
	k := &Keyring{}
	for _, key := range s.keys {
		k.keys = append(k.keys, key.entity)
	}
	return k
}

// String names the keys for a log.
func (s *Signer) String() string {
	var names []string
	for _, k := range s.keys {
		name := fingerprintOf(k.public)
		if user := userOf(k.entity, s.now()); user != "" {
			name += " (" + user + ")"
		}
		names = append(names, name)
	}
	return strings.Join(names, ", ")
}

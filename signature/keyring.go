package signature

import (
	"bytes"
	"context"
	"crypto"
	"errors"
	"fmt"
	"hash"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp/armor"
	"github.com/ProtonMail/go-crypto/openpgp/packet"
	openpgp "github.com/ProtonMail/go-crypto/openpgp/v2"

	"aesthetic.computer/isofs/fault"
)

// clockSkew is how far in the future of our clock a signature may be.
const clockSkew = 10 * time.Minute

// A Keyring has the public keys that are trusted.
type Keyring struct{ keys openpgp.EntityList }

// ParseKeyring reads public keys, armored or binary, at least one. Secret keys
// are refused: they belong elsewhere. Errors wrap fault.Invalid or
// fault.Corrupt.
func ParseKeyring(data []byte) (*Keyring, error) {
	keys, err := readKeys(data, publicType)
	if err != nil {
		return nil, err
	}
	if len(keys) > maxKeys {
		return nil, fmt.Errorf("it has %d keys, at most %d are read: %w", len(keys), maxKeys, fault.Invalid)
	}
	for _, k := range keys {
		if k.PrivateKey != nil {
			return nil, fmt.Errorf("it has the secret key %s: export the public one (isofs key public) and keep this one where no other user can read it: %w", fingerprintOf(k.PrimaryKey), fault.Invalid)
		}
	}
	return &Keyring{keys}, nil
}

// A Proof says who signed, and when.
type Proof struct {
	Fingerprint string // of the key that signed
	User        string // its owner
	Time        time.Time
}

// Verify checks an armored or binary detached signature over data, with now as
// the clock. If the file has several, one good one is enough, whatever the
// others are. If none is good the error is fault.Corrupt.
func (k *Keyring) Verify(data, sig []byte, now time.Time) (Proof, error) {
	return k.VerifyReader(context.Background(), bytes.NewReader(data), sig, now)
}

// VerifyReader is Verify of data that is not in memory. It stops with ctx.
func (k *Keyring) VerifyReader(ctx context.Context, data io.Reader, sig []byte, now time.Time) (Proof, error) {
	all, err := readSignatures(sig)
	if err != nil {
		return Proof{}, err
	}
	hashes, err := hashFor(ctx, all, data)
	if err != nil {
		return Proof{}, err
	}
	var wrong []string
	for _, s := range all {
		proof, err := k.check(s, hashes, now)
		if err == nil {
			return proof, nil
		}
		wrong = append(wrong, err.Error())
	}
	return Proof{}, fmt.Errorf("the signature is not good: %s: %w", strings.Join(wrong, "; "), fault.Corrupt)
}

// readSignatures takes the signatures out of a file. It skips everything else.
func readSignatures(data []byte) ([]*packet.Signature, error) {
	if len(data) > MaxSize {
		return nil, fmt.Errorf("the signature has %d bytes, at most %d are read: %w", len(data), MaxSize, fault.Corrupt)
	}
	var all []*packet.Signature
	var wrong []error
	if len(data) > 0 && data[0]&0x80 != 0 {
		all, wrong = signaturesOf(bytes.NewReader(data), nil, nil)
	} else {
		all, wrong = signaturesInArmor(data)
	}
	if len(all) == 0 && len(wrong) > 0 {
		return nil, fmt.Errorf("the signature cannot be read: %w: %w", fault.Corrupt, errors.Join(wrong[:min(len(wrong), 3)]...))
	}
	if len(all) == 0 || len(all) > maxSignatures {
		return nil, fmt.Errorf("it has %d signatures, wanted 1 to %d: %w", len(all), maxSignatures, fault.Corrupt)
	}
	return all, nil
}

// armorBegins starts each armored block, at the beginning of a line.
var armorBegins = []byte("-----BEGIN ")

// signaturesInArmor takes the signatures out of all armored blocks of a file,
// and notes what is wrong with some. A bad block does not spoil the others. So
// each block is read by itself, also behind one that does not end.
func signaturesInArmor(data []byte) (all []*packet.Signature, wrong []error) {
	for len(data) > 0 {
		end := len(data)
		if next := bytes.Index(data[1:], armorBegins); next >= 0 {
			end = next + 1
		}
		part := data[:end]
		data = data[end:]
		block, err := armor.Decode(bytes.NewReader(part))
		switch {
		case errors.Is(err, io.EOF):
			continue // text before the first block, or what only looks like one
		case err != nil:
			wrong = append(wrong, err)
		case block.Type != signatureType:
			wrong = append(wrong, fmt.Errorf("it has a %.40q, wanted %q", block.Type, signatureType))
		default:
			all, wrong = signaturesOf(block.Body, all, wrong)
		}
	}
	if len(all)+len(wrong) == 0 {
		wrong = []error{errors.New("there is no OpenPGP signature in it")}
	}
	return all, wrong
}

// signaturesOf adds the signatures of a sequence of packets to all, up to the
// first packet that cannot be read.
func signaturesOf(body io.Reader, all []*packet.Signature, wrong []error) ([]*packet.Signature, []error) {
	packets := packet.NewReader(body)
	for {
		p, err := packets.Next()
		if errors.Is(err, io.EOF) {
			return all, wrong
		}
		if err != nil {
			return all, append(wrong, err)
		}
		if s, ok := p.(*packet.Signature); ok {
			all = append(all, s)
		}
	}
}

// hashFor reads the data once, for all algorithms in use.
func hashFor(ctx context.Context, all []*packet.Signature, data io.Reader) (map[crypto.Hash]hash.Hash, error) {
	hashes := map[crypto.Hash]hash.Hash{}
	var to []io.Writer
	for _, s := range all {
		if slices.Contains(goodHashes, s.Hash) && hashes[s.Hash] == nil {
			hashes[s.Hash] = s.Hash.New()
			to = append(to, hashes[s.Hash])
		}
	}
	if len(to) == 0 {
		return hashes, nil // none will be good
	}
	if _, err := io.CopyBuffer(struct{ io.Writer }{io.MultiWriter(to...)}, &stoppable{ctx, data}, make([]byte, 1<<20)); err != nil {
		return nil, fmt.Errorf("read what is signed: %w: %w", fault.Unavailable, err)
	}
	return hashes, nil
}

// A stoppable reader ends with its context.
type stoppable struct {
	ctx  context.Context
	from io.Reader
}

func (s *stoppable) Read(p []byte) (int, error) {
	if err := s.ctx.Err(); err != nil {
		return 0, err
	}
	return s.from.Read(p)
}

// check checks one signature. Its errors have no kind.
func (k *Keyring) check(s *packet.Signature, hashes map[crypto.Hash]hash.Hash, now time.Time) (Proof, error) {
	if s.Version != 4 || s.IssuerKeyId == nil {
		return Proof{}, fmt.Errorf("a signature of version %d, or one that names no key, is not looked at", s.Version)
	}
	id := fmt.Sprintf("%016X", *s.IssuerKeyId)
	if s.SigType != packet.SigTypeBinary {
		return Proof{}, fmt.Errorf("key %s signed a text, or something else, and not this file (type %d)", id, s.SigType)
	}
	h := hashes[s.Hash]
	if h == nil {
		return Proof{}, fmt.Errorf("key %s signed by a digest that is not trusted (%v); SHA-256 or better is needed", id, s.Hash)
	}
	if s.CreationTime.After(now.Add(clockSkew)) {
		return Proof{}, fmt.Errorf("key %s signed at %s, which is in the future: check the clocks here and where it was signed", id, s.CreationTime.UTC().Format(time.RFC3339))
	}
	if s.SigLifetimeSecs != nil && *s.SigLifetimeSecs != 0 && now.After(s.CreationTime.Add(time.Duration(*s.SigLifetimeSecs)*time.Second)) {
		return Proof{}, fmt.Errorf("the signature of key %s has expired: sign again", id)
	}
	for _, n := range s.Notations {
		if n.IsCritical {
			return Proof{}, fmt.Errorf("the signature of key %s has a critical notation %.60q that is not known here", id, n.Name)
		}
	}
	owners := k.keys.EntitiesById(*s.IssuerKeyId)
	if len(owners) == 0 {
		return Proof{}, fmt.Errorf("key %s is not in the keyring, which has %s", id, k)
	}
	var errs []error
	for _, e := range owners {
		proof, err := checkBy(e, s, h, now)
		if err == nil {
			return proof, nil
		}
		errs = append(errs, err)
	}
	return Proof{}, errors.Join(errs...)
}

// checkBy checks a signature by the key of e that it names.
func checkBy(e *openpgp.Entity, s *packet.Signature, h hash.Hash, now time.Time) (Proof, error) {
	key, err := keyAt(e, s, now)
	if err != nil {
		return Proof{}, err
	}
	name := fingerprintOf(key)
	if s.CreationTime.Before(key.CreationTime) {
		return Proof{}, fmt.Errorf("the signature is older than key %s, which is said to have made it", name)
	}
	copied, err := h.(hash.Cloner).Clone() // the check writes to it
	if err != nil {
		return Proof{}, err
	}
	if err := key.VerifySignature(copied, s); err != nil {
		return Proof{}, fmt.Errorf("key %s (%s) did not sign this: the file or the signature was changed, or they do not belong together", name, userOf(e, now))
	}
	return Proof{name, userOf(e, now), s.CreationTime.UTC()}, nil
}

// keyAt finds the key of e that a signature names, if it could sign then.
// Revoked keys do not count, whenever they signed: anyone with the secret can
// write any date. A key whose validity was extended is bound again, later than
// the signature. So a key that may sign now may have signed then.
func keyAt(e *openpgp.Entity, s *packet.Signature, now time.Time) (*packet.PublicKey, error) {
	id := *s.IssuerKeyId
	name := fingerprintOf(e.PrimaryKey)
	if e.Revoked(now) || revokedSubkey(e, id, now) {
		return nil, fmt.Errorf("key %016X of %s (%s) is revoked, and what it signed is not trusted any more: have it signed by the key that took its place", id, name, userOf(e, now))
	}
	for _, t := range []time.Time{s.CreationTime, now} {
		if k, ok := e.SigningKeyById(t, id, settings(t)); ok && k.PublicKey.KeyId == id && soundBindings(k) {
			return k.PublicKey, nil
		}
	}
	return nil, fmt.Errorf("key %016X of %s (%s) had expired when it signed at %s, or may not sign data, or is too weak: if it is valid for longer by now, put its newer export into the keyring",
		id, name, userOf(e, now), s.CreationTime.UTC().Format(time.RFC3339))
}

func revokedSubkey(e *openpgp.Entity, id uint64, now time.Time) bool {
	for _, sub := range e.Subkeys {
		if sub.PublicKey.KeyId != id {
			continue
		}
		for _, r := range sub.Revocations {
			if e.PrimaryKey.VerifySubkeyRevocationSignature(r.Packet, sub.PublicKey) == nil {
				return true
			}
		}
	}
	return false
}

// soundBindings reports whether all signatures that bind a key use a good
// digest.
func soundBindings(k openpgp.Key) bool {
	for _, s := range []*packet.Signature{k.PrimarySelfSignature, k.SelfSignature} {
		if s == nil || !slices.Contains(goodHashes, s.Hash) {
			return false
		}
	}
	return true
}

// String names the keys.
func (k *Keyring) String() string {
	var names []string
	for _, e := range k.keys {
		names = append(names, fingerprintOf(e.PrimaryKey))
	}
	return strings.Join(names, ", ")
}

// Owners names the keys' owners for people.
func (k *Keyring) Owners() string {
	var names []string
	for _, e := range k.keys {
		name := userOf(e, time.Now())
		if name == "" {
			name = "key " + fingerprintOf(e.PrimaryKey)
		}
		if !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return strings.Join(names, " or ")
}

// Armored returns the keys as a file that gpg --import reads.
func (k *Keyring) Armored() ([]byte, error) {
	return armored(publicType, func(w io.Writer) error { return public(w, k.keys...) })
}

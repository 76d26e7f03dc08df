package signature

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"slices"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp/packet"
	openpgp "github.com/ProtonMail/go-crypto/openpgp/v2"

	"aesthetic.computer/isofs/fault"
)

// userOf returns the user id by which people know a key; "" if it has none.
func userOf(e *openpgp.Entity, now time.Time) string {
	for _, id := range users(e, now) {
		return id.Name
	}
	return ""
}

// users returns the user ids of a key, the one by which people know it first.
// First comes the one that the owner made primary, then the last signed ones,
// then by their text. Last come those that are revoked, or that nothing binds
// to the key. The library has them in a map, whose order changes each time.
// Without a time, expiry does not count.
func users(e *openpgp.Entity, now time.Time) []*openpgp.Identity {
	sigs := map[*openpgp.Identity]*packet.Signature{}
	for _, id := range e.Identities {
		if sig, err := id.Verify(now, settings(now)); err == nil {
			sigs[id] = sig
		}
	}
	return slices.SortedFunc(maps.Values(e.Identities), func(a, b *openpgp.Identity) int {
		return cmp.Or(
			-cmp.Compare(rank(sigs[a]), rank(sigs[b])),
			-cmp.Compare(signedAt(sigs[a]), signedAt(sigs[b])),
			cmp.Compare(a.Name, b.Name),
		)
	})
}

// rank is higher for a user id that comes before others.
func rank(sig *packet.Signature) int {
	switch {
	case sig == nil:
		return 0
	case sig.IsPrimaryId != nil && *sig.IsPrimaryId:
		return 2
	}
	return 1
}

func signedAt(sig *packet.Signature) int64 {
	if sig == nil {
		return 0
	}
	return sig.CreationTime.Unix()
}

// public writes the public parts of keys, in an order that is always the same.
func public(w io.Writer, keys ...*openpgp.Entity) error {
	for _, k := range keys {
		if err := publicKey(w, k); err != nil {
			return fmt.Errorf("write the public key %s: %w: %w", fingerprintOf(k.PrimaryKey), fault.Invalid, err)
		}
	}
	return nil
}

// publicKey is Entity.Serialize, with the user ids in order.
func publicKey(w io.Writer, k *openpgp.Entity) error {
	if err := k.PrimaryKey.Serialize(w); err != nil {
		return err
	}
	for _, sig := range slices.Concat(k.Revocations, k.DirectSignatures) {
		if err := sig.Packet.Serialize(w); err != nil {
			return err
		}
	}
	for _, id := range users(k, time.Time{}) {
		if err := id.Serialize(w); err != nil {
			return err
		}
	}
	for i := range k.Subkeys {
		if err := k.Subkeys[i].Serialize(w, false); err != nil {
			return err
		}
	}
	return nil
}

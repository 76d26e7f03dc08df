package signature

import (
	"bytes"
	"crypto/sha1"
	"encoding/base32"
	"fmt"
	"strings"
	"time"

	openpgp "github.com/ProtonMail/go-crypto/openpgp/v2"
)

// A DirectoryEntry is what a web key directory has for one address.
type DirectoryEntry struct {
	Domain string // "aesthetic.computer"
	Hash   string // of the part before it; the file's name
	Keys   []byte // binary
}

// zbase32 is the alphabet of RFC 6189, section 5.1.6.
var zbase32 = base32.NewEncoding("ybndrfg8ejkmcpqxot1uwisza345h769").WithPadding(base32.NoPadding)

// wkdHash returns a web key directory's name for the part of an address before
// the @.
func wkdHash(local string) string {
	sum := sha1.Sum([]byte(lowerASCII(local))) // as in the draft; it is a name, not a proof
	return zbase32.EncodeToString(sum[:])
}

// lowerASCII leaves all but A to Z as it is, as the draft and gpg do.
func lowerASCII(s string) string {
	return strings.Map(func(r rune) rune {
		if 'A' <= r && r <= 'Z' {
			return r + 'a' - 'A'
		}
		return r
	}, s)
}

// Directory returns the web key directory of the keys: an entry for each
// address in their user ids.
func (k *Keyring) Directory() ([]DirectoryEntry, error) {
	type place struct{ domain, hash string }
	found := map[place][]*openpgp.Entity{}
	var order []place
	for _, e := range k.keys {
		for _, id := range users(e, time.Time{}) {
			local, domain, ok := strings.Cut(id.UserId.Email, "@")
			if !ok || local == "" || domain == "" || strings.ContainsAny(domain, "@/ ") {
				continue
			}
			p := place{strings.ToLower(domain), wkdHash(local)}
			if found[p] == nil {
				order = append(order, p)
			}
			if n := len(found[p]); n == 0 || found[p][n-1] != e {
				found[p] = append(found[p], e)
			}
		}
	}
	var all []DirectoryEntry
	for _, p := range order {
		var out bytes.Buffer
		if err := public(&out, found[p]...); err != nil {
			return nil, fmt.Errorf("make the web key directory: %w", err)
		}
		all = append(all, DirectoryEntry{p.domain, p.hash, out.Bytes()})
	}
	return all, nil
}

package bake

import (
	"html"
	"regexp"
)

// A TrustKey is a key that must sign the piece on the machine's stick.
type TrustKey struct {
	Keyring []byte // public OpenPGP keys, in armor
	Name    string // of their owner, for the screen
}

// trustPath is where the machine looks for the keys.
const trustPath = "etc/isofs/keyring.asc"

var unsignedName = regexp.MustCompile(`<!--name-->.*<!--/name-->`)

// trust makes the machine require a signature of a piece.
func (r *recipe) trust(k TrustKey) {
	if len(k.Keyring) == 0 {
		return
	}
	r.files[trustPath] = k.Keyring
	const page = "usr/lib/isofs/unsigned/piece.html"
	r.files[page] = unsignedName.ReplaceAllLiteral(r.files[page], []byte(html.EscapeString(k.Name)))
}

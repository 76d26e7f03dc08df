// Package signature makes and checks OpenPGP signatures: detached, armored,
// version 4, over SHA-256, as gpg, gpgv and sqv check them.
//
// A [Signer] continues a hash of the data, so that it signs an image of
// gigabytes without reading a byte of its base. The same keys, data and time
// give the same bytes. A [Keyring] has public keys and says whether one of them
// made a signature. The package does not decide what is signed and where
// signatures lie.
package signature

import (
	"bufio"
	"bytes"
	"crypto"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp/armor"
	"github.com/ProtonMail/go-crypto/openpgp/packet"
	openpgp "github.com/ProtonMail/go-crypto/openpgp/v2"

	"aesthetic.computer/isofs/fault"
)

// Suffix ends the name of a signature beside the signed file.
const Suffix = ".asc"

// Limits of what is read, far above real files.
const (
	// MaxSize bounds a signature file, in bytes.
	MaxSize = 64 << 10
	// MaxKeyFile bounds a file of keys, in bytes.
	MaxKeyFile = 4 << 20

	maxSignatures = 16 // in one file
	maxKeys       = 64 // in one keyring
)

const (
	signatureType = "PGP SIGNATURE"
	publicType    = "PGP PUBLIC KEY BLOCK"
	privateType   = "PGP PRIVATE KEY BLOCK"
)

// goodHashes are the digests that a signature may use.
var goodHashes = []crypto.Hash{crypto.SHA256, crypto.SHA384, crypto.SHA512}

// settings returns the rules for the OpenPGP library. Salts would change each
// signature.
func settings(now time.Time) *packet.Config {
	salted := false
	return &packet.Config{
		DefaultHash: crypto.SHA256,
		Time:        func() time.Time { return now },
		RejectHashAlgorithms: map[crypto.Hash]bool{
			crypto.MD5: true, crypto.RIPEMD160: true, crypto.SHA1: true,
		},
		NonDeterministicSignaturesViaNotation: &salted,
	}
}

// fingerprintOf returns a key's fingerprint as gpg writes it.
func fingerprintOf(k *packet.PublicKey) string {
	return strings.ToUpper(hex.EncodeToString(k.Fingerprint))
}

// readKeys reads the keys of a file: binary, or armored blocks of the given
// types one after another.
func readKeys(data []byte, types ...string) (openpgp.EntityList, error) {
	if len(data) > MaxKeyFile {
		return nil, fmt.Errorf("%d bytes, at most %d are read: %w", len(data), MaxKeyFile, fault.Invalid)
	}
	if len(data) > 0 && data[0]&0x80 != 0 { // the first bit of each packet
		return readBinaryKeys(data)
	}
	var all openpgp.EntityList
	rest := bufio.NewReader(bytes.NewReader(data)) // one for all blocks: it reads ahead
	for {
		block, err := armor.Decode(rest)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("its armor cannot be read: %w: %w", fault.Corrupt, err)
		}
		if !slices.Contains(types, block.Type) {
			return nil, fmt.Errorf("it has a %q, wanted %q: %w", block.Type, types[0], fault.Invalid)
		}
		body, err := io.ReadAll(io.LimitReader(block.Body, MaxKeyFile))
		if err != nil {
			return nil, fmt.Errorf("its armor cannot be read: %w: %w", fault.Corrupt, err)
		}
		keys, err := readBinaryKeys(body)
		if err != nil {
			return nil, err
		}
		all = append(all, keys...)
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("there is no OpenPGP key in it: %w", fault.Invalid)
	}
	return all, nil
}

func readBinaryKeys(data []byte) (openpgp.EntityList, error) {
	keys, err := openpgp.ReadKeyRing(bytes.NewReader(data))
	if err != nil {
		return nil, fmt.Errorf("its keys cannot be read: %w: %w", fault.Corrupt, err)
	}
	if len(keys) == 0 || len(keys) > maxKeys {
		return nil, fmt.Errorf("it has %d keys, wanted 1 to %d: %w", len(keys), maxKeys, fault.Invalid)
	}
	return keys, nil
}

// armored writes a body in armor.
func armored(kind string, write func(io.Writer) error) ([]byte, error) {
	var out bytes.Buffer
	w, err := armor.Encode(&out, kind, nil)
	if err != nil {
		return nil, err
	}
	if err := errors.Join(write(w), w.Close()); err != nil {
		return nil, err
	}
	out.WriteByte('\n')
	return out.Bytes(), nil
}

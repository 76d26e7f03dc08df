package signature

import (
	"context"
	"fmt"
	"os"
	"time"

	"aesthetic.computer/isofs/fault"
)

// Credentials of systemd that OpenSigner uses if the user names no file.
const (
	keyCredential        = "isofs-sign-key"
	passphraseCredential = "isofs-sign-passphrase"
)

// The files that can be wrong, in errors (fault.SettingError).
const (
	SettingKeys       = "signing key"
	SettingPassphrase = "passphrase file"
	SettingKeyring    = "keyring"
)

// OpenSigner reads files with secret keys, which only their owner may read, and the file with
// their passphrase, which is "" if they have none. Without keys it uses systemd's credentials;
// without these it returns nil. Errors are of the settings above.
func OpenSigner(keys []string, passphrase string) (*Signer, error) {
	if path, ok := Credential(keyCredential); ok && len(keys) == 0 {
		keys = []string{path}
	}
	if len(keys) == 0 {
		if passphrase != "" {
			var wrong fault.SettingErrors
			wrong.Addf(SettingPassphrase, "is given, and no %s", SettingKeys)
			return nil, wrong
		}
		return nil, nil
	}
	words, err := readPassphrase(passphrase)
	if err != nil {
		return nil, &fault.SettingError{Setting: SettingPassphrase, Err: err}
	}
	var secrets []Secret
	for _, path := range keys {
		data, err := ReadSecretFile(path)
		if err != nil {
			return nil, &fault.SettingError{Setting: SettingKeys, Err: err}
		}
		secrets = append(secrets, Secret{Name: path, Data: data, Passphrase: words})
	}
	s, err := NewSigner(secrets, nil)
	if err != nil {
		return nil, &fault.SettingError{Setting: SettingKeys, Err: err}
	}
	return s, nil
}

func readPassphrase(path string) ([]byte, error) {
	if path == "" {
		var ok bool
		if path, ok = Credential(passphraseCredential); !ok {
			return nil, nil
		}
	}
	data, err := ReadSecretFile(path)
	if err != nil {
		return nil, err
	}
	return TrimPassphrase(data), nil
}

// OpenKeyring reads a file of public keys; for "" it returns nil. Errors are of SettingKeyring.
func OpenKeyring(path string) (*Keyring, error) {
	if path == "" {
		return nil, nil
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, &fault.SettingError{Setting: SettingKeyring, Err: fmt.Errorf("%w: %w", fault.Invalid, err)}
	}
	ring, err := ParseKeyring(data)
	if err != nil {
		return nil, &fault.SettingError{Setting: SettingKeyring, Err: fmt.Errorf("%s: %w", path, err)}
	}
	return ring, nil
}

// VerifyFile is VerifyReader of a file, with the signature in another one.
func (k *Keyring) VerifyFile(ctx context.Context, path, sig string, now time.Time) (Proof, error) {
	fi, err := os.Stat(sig)
	if err == nil && fi.Size() > MaxSize {
		err = fmt.Errorf("%s has %d bytes, and is not a signature: %w", sig, fi.Size(), fault.Corrupt)
	}
	if err != nil {
		return Proof{}, fmt.Errorf("read the signature: %w", err)
	}
	text, err := os.ReadFile(sig)
	if err != nil {
		return Proof{}, fmt.Errorf("read the signature: %w", err)
	}
	f, err := os.Open(path)
	if err != nil {
		return Proof{}, fmt.Errorf("open the image: %w", err)
	}
	defer f.Close()
	return k.VerifyReader(ctx, f, text, now)
}

// VerifyOwn returns nil if one of the signer's own keys signed text.
func (s *Signer) VerifyOwn(text, sig []byte) error {
	_, err := s.Keyring().Verify(text, sig, time.Now())
	return err
}

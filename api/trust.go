package api

import (
	"bytes"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Trust is what people check images by. The zero value is for a server that
// signs nothing.
type Trust struct {
	// PublicKeys is the input of gpg --import.
	PublicKeys []byte
	// Directory has the files of a web key directory, by domain and name:
	// "example.org/iy9q119eutrkn8s1mk4r39qejnbu3n5q".
	Directory map[string][]byte
	// Sign returns the detached signature of a text. The time is that of the
	// signature.
	Sign func(text []byte, at time.Time) ([]byte, error)
}

// directoryPrefix begins the paths of a web key directory (RFC
// draft-koch-openpgp-webkey-service).
const directoryPrefix = "/.well-known/openpgpkey/"

// sums is the latest SHA256SUMS, with its signature.
type sums struct {
	mu        sync.Mutex // guards all below
	by        *Trust
	text      []byte
	signature []byte
}

// registerTrust adds the addresses that serve keys, sums and signatures.
func (s *server) registerTrust(mux *http.ServeMux) {
	mux.Handle("GET /SHA256SUMS", s.answer(s.sha256sums))
	mux.Handle("GET /SHA256SUMS.asc", s.answer(s.sumsSignature))
	mux.Handle("GET /isofs-key.asc", s.answer(s.publicKeys))
	mux.Handle("GET "+directoryPrefix+"{path...}", s.answer(s.keyDirectory))
}

// sumsNow lists the present images of the plain names, for sha256sum -c, and
// when the latest of them was made. It does not ask the source.
func (s *server) sumsNow(r *http.Request) (text []byte, at time.Time) {
	for _, name := range s.Catalog.Pieces(r.Context()) {
		snap := s.Catalog.Known(name)
		if snap == nil {
			continue
		}
		text = fmt.Appendf(text, "%s  %s\n", snap.SHA256(), snap.FileName())
		if snap.Time().After(at) {
			at = snap.Time()
		}
	}
	return text, at
}

func (s *server) sha256sums(w http.ResponseWriter, r *http.Request) error {
	text, _ := s.sumsNow(r)
	return writeTrust(w, "text/plain; charset=utf-8", text)
}

// sumsSignature signs the present SHA256SUMS.
func (s *server) sumsSignature(w http.ResponseWriter, r *http.Request) error {
	by := s.trust()
	if by.Sign == nil {
		return errUnsigned
	}
	text, at := s.sumsNow(r)
	signature, err := s.sums.signed(text, at, by)
	if err != nil {
		return err
	}
	return writeTrust(w, "application/pgp-signature", signature)
}

// signed returns the signature of a text. It is the earlier one if text and
// keys are the same.
func (c *sums) signed(text []byte, at time.Time, by *Trust) ([]byte, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.by == by && bytes.Equal(c.text, text) {
		return c.signature, nil
	}
	signature, err := by.Sign(text, at)
	if err != nil {
		return nil, err
	}
	c.by, c.text, c.signature = by, text, signature
	return signature, nil
}

// trust returns the present Trust.
func (s *server) trust() *Trust {
	if s.Trust == nil {
		return &Trust{}
	}
	return s.Trust()
}

// errUnsigned is the answer of a server without a key.
var errUnsigned = &statusError{http.StatusNotFound, "this server signs nothing"}

func (s *server) publicKeys(w http.ResponseWriter, _ *http.Request) error {
	keys := s.trust().PublicKeys
	if len(keys) == 0 {
		return errUnsigned
	}
	return writeTrust(w, "application/pgp-keys", keys)
}

// keyDirectory answers both forms of a web key directory. One is hu/<hash>,
// below the host of the address's domain. The other is <domain>/hu/<hash>,
// below openpgpkey.<domain>. Either has an empty policy.
func (s *server) keyDirectory(w http.ResponseWriter, r *http.Request) error {
	parts := strings.Split(r.PathValue("path"), "/")
	domain := ""
	if len(parts) > 1 && parts[0] != "hu" {
		domain, parts = strings.ToLower(parts[0]), parts[1:]
	}
	for file, keys := range s.trust().Directory {
		of, hash, _ := strings.Cut(file, "/")
		switch {
		case domain != "" && domain != of:
		case len(parts) == 1 && parts[0] == "policy":
			return writeTrust(w, "text/plain; charset=utf-8", nil)
		case len(parts) == 2 && parts[0] == "hu" && parts[1] == hash:
			return writeTrust(w, "application/octet-stream", keys)
		}
	}
	return &statusError{http.StatusNotFound, "there is no such key here"}
}

func writeTrust(w http.ResponseWriter, kind string, content []byte) error {
	h := w.Header()
	h.Set("Content-Type", kind)
	h.Set("Content-Length", strconv.Itoa(len(content)))
	h.Set("Cache-Control", "no-cache")
	h.Set("X-Content-Type-Options", "nosniff")
	_, _ = w.Write(content) // the client may have left
	return nil
}

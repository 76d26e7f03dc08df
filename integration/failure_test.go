package integration

import (
	"crypto/sha256"
	"encoding/hex"
	"strings"
)

func digest(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}

// published is the SHA-256 of an image as its sidecar has it.
func (s *server) published(path string) string {
	s.t.Helper()
	_, text := s.get(path + ".sha256")
	sum, _, _ := strings.Cut(string(text), " ")
	return sum
}

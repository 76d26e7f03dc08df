package integration

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

// A manifest has the fields of manifest.json that these tests need.
type manifest struct {
	Version   string    `json:"version"`
	Slot      int64     `json:"piecePartitionOffset"`
	SlotSize  int64     `json:"piecePartitionSize"`
	Size      int64     `json:"totalSize"`
	SHA256    string    `json:"sha256"`
	BlockSize int64     `json:"blockSize"`
	CreatedAt time.Time `json:"createdAt"`
}

func readManifest(t *testing.T) manifest {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(baseDir, "manifest.json"))
	if err != nil {
		t.Fatal(err)
	}
	var m manifest
	if err := json.Unmarshal(data, &m); err != nil {
		t.Fatal(err)
	}
	return m
}

// publish puts a bundle into a folder of pieces. Its time is that many hours after the base's, so
// every image of it has that time too.
func publish(t *testing.T, dir, piece, html string, hours int) {
	t.Helper()
	path := filepath.Join(dir, piece+".html")
	// The time is set before the file gets its name. So isofs sees both or neither.
	tmp := path + ".new"
	when := readManifest(t).CreatedAt.Add(time.Duration(hours) * time.Hour)
	if err := os.WriteFile(tmp, []byte(html), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(tmp, when, when); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(tmp, path); err != nil {
		t.Fatal(err)
	}
}

// unlike is a bundle of size bytes. No two places in it are alike, and it differs everywhere from
// the bundle of another seed.
func unlike(seed byte, size int) string {
	noise := make([]byte, size/2)
	_, _ = rand.NewChaCha8([32]byte{seed}).Read(noise) // never fails
	html := fmt.Sprintf("<!doctype html><title>bundle %d</title>\n", seed) + hex.EncodeToString(noise)
	return html[:size]
}

// pack writes an image by isofs pack, with a new state and cache, and returns the file.
func pack(t *testing.T, piece, piecesDir string) string {
	t.Helper()
	dir := readable(t)
	out := filepath.Join(dir, "packed.iso")
	if err := command(isofs, "pack", piece, "-o", out, "--base", baseDir, "--pieces", piecesDir,
		"--state", filepath.Join(dir, "state"), "--cache", filepath.Join(dir, "cache")); err != nil {
		t.Fatal(err)
	}
	return out
}

func fileSum(t *testing.T, path string) string {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		t.Fatal(err)
	}
	return hex.EncodeToString(h.Sum(nil))
}

func textSum(text string) string {
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:])
}

// must runs a program, which must succeed, and returns what it printed.
func must(t *testing.T, name string, args ...string) string {
	t.Helper()
	if _, err := exec.LookPath(name); err != nil {
		name = "/usr/sbin/" + name
	}
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %q: %v\n%s", name, args, err, out)
	}
	return string(out)
}

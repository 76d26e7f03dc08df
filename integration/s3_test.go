package integration

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"aesthetic.computer/isofs/integration/s3test"
)

// bucket is a real S3 server that has the base, uploaded in parts, and the
// flags to serve it by. The credentials come from the environment.
func bucket(t *testing.T) (*s3test.Server, []string) {
	t.Helper()
	b := s3test.Start(t)
	for _, name := range []string{"base.iso", "manifest.json"} {
		data, err := os.ReadFile(filepath.Join(baseDir, name))
		if err != nil {
			t.Fatal(err)
		}
		b.PutParts("tiny/"+name, data, 8<<20)
	}
	t.Setenv("AWS_ACCESS_KEY_ID", s3test.Access)
	t.Setenv("AWS_SECRET_ACCESS_KEY", s3test.Secret)
	return b, []string{"--base", "s3://" + s3test.Bucket + "/tiny", "--s3-endpoint", b.Endpoint()}
}

// An image from a bucket is the one that is packed from a folder, also if the
// server is killed and started again while it is downloaded.
func TestBaseInABucket(t *testing.T) {
	b, flags := bucket(t)
	dir := pieces(t, nil)
	publish(t, dir, "p", unlike(77, 1<<20), 1)
	s := serve(t, append(flags, "--pieces", dir)...)
	want := fileSum(t, pack(t, "p", dir))

	resp, err := http.Get(s.url("/p-os.iso"))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	sum := sha256.New()
	if _, err := io.CopyN(sum, resp.Body, 1<<20); err != nil {
		t.Fatal(err)
	}
	b.Kill()
	var reading sync.WaitGroup
	reading.Go(func() {
		if _, err := io.Copy(sum, resp.Body); err != nil {
			t.Errorf("the download broke off: %v", err)
		}
	})
	b.Restart()
	reading.Wait()
	if got := hex.EncodeToString(sum.Sum(nil)); got != want {
		t.Errorf("downloaded %s, packed %s", got, want)
	}
}

// While the server is away, what is cached is served; a wrong object in its
// place is not; and when all is as it was, all is served.
func TestBucketFails(t *testing.T) {
	b, flags := bucket(t)
	right, err := os.ReadFile(filepath.Join(baseDir, "base.iso"))
	if err != nil {
		t.Fatal(err)
	}
	s := serve(t, append(flags, unanswered)...)
	s.fine(places[0], some)
	b.Kill()
	s.refused(places[2], some)
	s.fine(places[0], some)
	b.Restart()
	s.fine(places[1], some)

	b.Put("tiny/base.iso", bytes.Repeat([]byte{0xa5}, len(right)))
	s.refused(places[4], some)
	s.fine(places[0], some)
	s.says("object changed")
	b.Put("tiny/base.iso", right[:len(right)/2])
	s.refused(places[5], some)
	b.Put("tiny/base.iso", nil)
	s.refused(places[6], some)
	b.Put("tiny/base.iso", right)
	s.all()
}

// A public bucket needs no credentials, and one that is not says so.
func TestBucketAnonymously(t *testing.T) {
	b, flags := bucket(t)
	pack := func() (int, string) {
		dir := readable(t)
		status, _, said := isofsCommand(t, nil, append([]string{"pack", "notepat", "-o", filepath.Join(dir, "x.iso"), "--state", filepath.Join(dir, "state"),
			"--s3-anonymous"}, flags...)...)
		return status, said
	}
	if status, said := pack(); status == 0 || !strings.Contains(said, "is not public") {
		t.Errorf("status %d: %s", status, said)
	}
	b.Publish(true)
	if status, said := pack(); status != 0 {
		t.Errorf("status %d: %s", status, said)
	}
}

// A presigned URL is of one object, so manifest and image are named one by one.
// Nothing that is signed is told.
func TestBaseByPresignedURLs(t *testing.T) {
	b, _ := bucket(t)
	manifest, image := b.Presign("tiny/manifest.json", 0), b.Presign("tiny/base.iso", 0)
	s := serve(t, "--base", manifest, "--mirror", strings.ReplaceAll(image, ",", "%2C"))
	s.whole("/notepat-os.iso")
	if text := s.log.String(); strings.Contains(text, "X-Amz-Signature") {
		t.Errorf("the log has a signature:\n%s", text)
	}
}

// Flags of S3 that are wrong are refused before anything is opened, and a
// presigned URL alone is no folder.
func TestBucketFlags(t *testing.T) {
	for _, c := range []struct{ base, flag, word string }{
		{"s3://b/x", "--s3-endpoint=localhost:9000", "--s3-endpoint"},
		{"s3://b/x", "--s3-path-style=perhaps", "--s3-path-style"},
		{"http://127.0.0.1:1/x?X-Amz-Signature=hush", "--s3-anonymous", "one by one"},
		{"http://127.0.0.1:1/manifest.json?X-Amz-Signature=hush", "--s3-anonymous", "base.iso"},
	} {
		status, _, said := isofsCommand(t, nil, "pack", "notepat", "-o", filepath.Join(t.TempDir(), "x"), "--base", c.base, c.flag)
		if status != 2 || !strings.Contains(said, c.word) || strings.Contains(said, "hush") {
			t.Errorf("%s %s: status %d: %s", c.base, c.flag, status, said)
		}
	}
}

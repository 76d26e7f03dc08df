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

// bucket is a real S3 server with the base, uploaded in parts, and the flags to serve it. The
// credentials come from the environment.
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

// TestBaseInABucket: an image from a bucket equals the one that pack makes from a folder. So it
// does if the server is killed and restarted during the download.
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

// TestBucketFails: without the server isofs serves cached blocks. It does not serve a wrong object
// in the base's place. After the repair it serves everything.
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

// TestBucketAnonymously: a public bucket needs no credentials. For another one isofs says that it
// is not public.
func TestBucketAnonymously(t *testing.T) {
	b, flags := bucket(t)
	pack := func() (int, string) {
		dir := readable(t)
		status, _, stderr := isofsCommand(t, nil, append([]string{"pack", "notepat", "-o", filepath.Join(dir, "x.iso"), "--state", filepath.Join(dir, "state"),
			"--s3-anonymous"}, flags...)...)
		return status, stderr
	}
	if status, stderr := pack(); status == 0 || !strings.Contains(stderr, "is not public") {
		t.Errorf("status %d: %s", status, stderr)
	}
	b.Publish(true)
	if status, stderr := pack(); status != 0 {
		t.Errorf("status %d: %s", status, stderr)
	}
}

// TestBaseByPresignedURLs: a presigned URL is of one object, so flags name manifest and image
// separately. No output contains the signature.
func TestBaseByPresignedURLs(t *testing.T) {
	b, _ := bucket(t)
	manifest, image := b.Presign("tiny/manifest.json", 0), b.Presign("tiny/base.iso", 0)
	s := serve(t, "--base", manifest, "--mirror", strings.ReplaceAll(image, ",", "%2C"))
	s.whole("/notepat-os.iso")
	if text := s.log.String(); strings.Contains(text, "X-Amz-Signature") {
		t.Errorf("the log has a signature:\n%s", text)
	}
}

// TestBucketFlags: isofs refuses wrong S3 flags before it opens anything. A single presigned URL is
// not a folder.
func TestBucketFlags(t *testing.T) {
	for _, c := range []struct{ base, flag, word string }{
		{"s3://b/x", "--s3-endpoint=localhost:9000", "--s3-endpoint"},
		{"s3://b/x", "--s3-path-style=perhaps", "--s3-path-style"},
		{"http://127.0.0.1:1/x?X-Amz-Signature=hush", "--s3-anonymous", "one by one"},
		{"http://127.0.0.1:1/manifest.json?X-Amz-Signature=hush", "--s3-anonymous", "base.iso"},
	} {
		status, _, stderr := isofsCommand(t, nil, "pack", "notepat", "-o", filepath.Join(t.TempDir(), "x"), "--base", c.base, c.flag)
		if status != 2 || !strings.Contains(stderr, c.word) || strings.Contains(stderr, "hush") {
			t.Errorf("%s %s: status %d: %s", c.base, c.flag, status, stderr)
		}
	}
}

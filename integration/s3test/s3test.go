// Package s3test runs a real S3 server, versitygw, for tests. Each server has a new folder and a
// loopback address, and is killed when the test ends.
//
// scripts/setup s3 builds the server. Its version is in integration/s3server/go.mod.
package s3test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
)

// The server starts with Bucket. Access and Secret are the root account's keys.
const (
	Bucket = "bases"
	Access = "isofs-test"
	Secret = "a-secret-of-the-tests"
	Region = "us-east-1"
)

// patience bounds every wait. No test measures time with it.
const patience = 60 * time.Second

// A Server is a running S3 server.
type Server struct {
	t      *testing.T
	addr   string
	dir    string   // of the objects
	args   []string // of the program, before "posix"
	cmd    *exec.Cmd
	ended  chan struct{}
	output *bytes.Buffer // for reading after the server's end
	Client *s3.Client    // of the root
}

var hosts atomic.Uint32

// Start runs a server with an empty Bucket. On a machine without the program it skips the test by
// name; in CI it fails the test.
func Start(t *testing.T) *Server {
	t.Helper()
	s := newServer(t, t.TempDir(), Region)
	s.MakeBucket(Bucket)
	return s
}

// StartHosted runs a server of a region over a folder of objects, which other servers may share. As
// on Amazon, a bucket's name stands before the domain in the host name.
func StartHosted(t *testing.T, dir, region, domain string) *Server {
	t.Helper()
	return newServer(t, dir, region, "--virtual-domain", domain)
}

func newServer(t *testing.T, dir, region string, flags ...string) *Server {
	t.Helper()
	program(t)
	n := hosts.Add(1)
	l, err := net.Listen("tcp", fmt.Sprintf("127.78.%d.%d:0", n>>8&0xff, n&0xff))
	must(t, err)
	must(t, l.Close())
	s := &Server{t: t, addr: l.Addr().String(), dir: dir}
	s.args = append([]string{"--port", s.addr, "--region", region, "--quiet"}, flags...)
	s.Client = s3.New(s3.Options{
		BaseEndpoint: aws.String(s.Endpoint()), UsePathStyle: true, Region: region,
		Credentials: credentials.NewStaticCredentialsProvider(Access, Secret, ""),
	})
	t.Cleanup(s.Kill)
	s.Restart()
	return s
}

// MakeBucket makes an empty bucket.
func (s *Server) MakeBucket(name string) {
	s.t.Helper()
	_, err := s.Client.CreateBucket(context.Background(), &s3.CreateBucketInput{
		Bucket: aws.String(name), ObjectOwnership: types.ObjectOwnershipBucketOwnerPreferred,
	})
	must(s.t, err)
}

// program is the path of the server's program.
func program(t *testing.T) string {
	t.Helper()
	root, err := os.Getwd()
	must(t, err)
	mod := filepath.Join("integration", "s3server", "go.mod")
	for ; ; root = filepath.Dir(root) {
		if _, err := os.Stat(filepath.Join(root, mod)); err == nil {
			break
		}
		if root == filepath.Dir(root) {
			t.Fatalf("no %s in a folder above the test", mod)
		}
	}
	text, err := os.ReadFile(filepath.Join(root, mod))
	must(t, err)
	version := regexp.MustCompile(`versity/versitygw (v\S+)`).FindSubmatch(text)
	if version == nil {
		t.Fatalf("%s does not say which versitygw", mod)
	}
	path := filepath.Join(root, "build", "versitygw-"+string(version[1]))
	if _, err := os.Stat(path); err != nil {
		const lacks = "needs an S3 server; scripts/setup s3 builds it"
		if os.Getenv("CI") != "" {
			t.Fatal(lacks)
		}
		t.Skip(lacks)
	}
	return path
}

// Endpoint is the server's URL.
func (s *Server) Endpoint() string { return "http://" + s.addr }

// Restart runs the server on the same address and folder as before, and waits until it answers.
func (s *Server) Restart() {
	s.t.Helper()
	s.output, s.ended = &bytes.Buffer{}, make(chan struct{})
	s.cmd = exec.Command(program(s.t), append(s.args, "posix", s.dir)...)
	s.cmd.Env = append(os.Environ(), "ROOT_ACCESS_KEY="+Access, "ROOT_SECRET_KEY="+Secret)
	s.cmd.Stdout, s.cmd.Stderr = s.output, s.output
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	must(s.t, s.cmd.Start())
	go func(cmd *exec.Cmd, ended chan struct{}) {
		_ = cmd.Wait() // it was killed
		close(ended)
	}(s.cmd, s.ended)
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		select {
		case <-s.ended:
			s.t.Fatalf("versitygw ended:\n%s", s.output)
		default:
		}
		if resp, err := http.Get(s.Endpoint()); err == nil {
			resp.Body.Close()
			return
		}
	}
	s.t.Fatal("versitygw does not answer")
}

// Kill ends the server by SIGKILL, if it runs.
func (s *Server) Kill() {
	if s.cmd == nil || s.cmd.Process == nil {
		return
	}
	if err := s.cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		s.t.Error(err)
	}
	<-s.ended
}

// Put writes content to the object key of Bucket. If content is nil, Put removes the object.
func (s *Server) Put(key string, content []byte) {
	s.t.Helper()
	var err error
	if content == nil {
		_, err = s.Client.DeleteObject(context.Background(), &s3.DeleteObjectInput{Bucket: aws.String(Bucket), Key: &key})
	} else {
		_, err = s.Client.PutObject(context.Background(), &s3.PutObjectInput{Bucket: aws.String(Bucket), Key: &key, Body: bytes.NewReader(content)})
	}
	must(s.t, err)
}

// PutParts is Put in parts of size bytes, as large objects are uploaded.
func (s *Server) PutParts(key string, content []byte, size int) {
	s.t.Helper()
	ctx, bucket := context.Background(), aws.String(Bucket)
	upload, err := s.Client.CreateMultipartUpload(ctx, &s3.CreateMultipartUploadInput{
		Bucket: bucket, Key: &key, ChecksumAlgorithm: types.ChecksumAlgorithmCrc32c,
	})
	must(s.t, err)
	var parts []types.CompletedPart
	for off := 0; off < len(content); off += size {
		n := aws.Int32(int32(len(parts) + 1))
		part, err := s.Client.UploadPart(ctx, &s3.UploadPartInput{
			Bucket: bucket, Key: &key, UploadId: upload.UploadId, PartNumber: n, ChecksumAlgorithm: types.ChecksumAlgorithmCrc32c,
			Body: bytes.NewReader(content[off:min(off+size, len(content))]),
		})
		must(s.t, err)
		parts = append(parts, types.CompletedPart{PartNumber: n, ETag: part.ETag, ChecksumCRC32C: part.ChecksumCRC32C})
	}
	_, err = s.Client.CompleteMultipartUpload(ctx, &s3.CompleteMultipartUploadInput{
		Bucket: bucket, Key: &key, UploadId: upload.UploadId, MultipartUpload: &types.CompletedMultipartUpload{Parts: parts},
	})
	must(s.t, err)
}

// Publish sets whether clients without credentials may read the objects of Bucket.
func (s *Server) Publish(public bool) {
	s.t.Helper()
	if !public {
		_, err := s.Client.DeleteBucketPolicy(context.Background(), &s3.DeleteBucketPolicyInput{Bucket: aws.String(Bucket)})
		must(s.t, err)
		return
	}
	policy := strings.ReplaceAll(`{"Statement":[{"Effect":"Allow","Principal":"*","Action":"s3:GetObject","Resource":"arn:aws:s3:::BUCKET/*"}]}`, "BUCKET", Bucket)
	_, err := s.Client.PutBucketPolicy(context.Background(), &s3.PutBucketPolicyInput{Bucket: aws.String(Bucket), Policy: &policy})
	must(s.t, err)
}

// Presign returns a URL that permits reading key. It was made that long ago, and is valid for a
// quarter of an hour.
func (s *Server) Presign(key string, ago time.Duration) string {
	s.t.Helper()
	req, err := s3.NewPresignClient(s.Client).PresignGetObject(context.Background(),
		&s3.GetObjectInput{Bucket: aws.String(Bucket), Key: &key}, s3.WithPresignExpires(15*time.Minute),
		func(o *s3.PresignOptions) { o.Presigner = earlier{v4.NewSigner(), ago} })
	must(s.t, err)
	return req.URL
}

// earlier signs as if the time were earlier.
type earlier struct {
	*v4.Signer
	by time.Duration
}

func (e earlier) PresignHTTP(ctx context.Context, c aws.Credentials, r *http.Request, payload, service, region string, at time.Time, o ...func(*v4.SignerOptions)) (string, http.Header, error) {
	return e.Signer.PresignHTTP(ctx, c, r, payload, service, region, at.Add(-e.by), o...)
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

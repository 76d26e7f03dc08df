package origin

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"

	"aesthetic.computer/isofs/fault"
	"aesthetic.computer/isofs/integration/s3test"
)

// Tests must not use what the AWS SDK finds on the machine.
func TestMain(m *testing.M) {
	for _, v := range os.Environ() {
		if name, _, _ := strings.Cut(v, "="); strings.HasPrefix(name, "AWS_") {
			os.Unsetenv(name)
		}
	}
	os.Setenv("AWS_CONFIG_FILE", os.DevNull)
	os.Setenv("AWS_SHARED_CREDENTIALS_FILE", os.DevNull)
	os.Setenv("AWS_EC2_METADATA_DISABLED", "true")
	os.Exit(m.Run())
}

func addressOf(key string) string { return "s3://" + s3test.Bucket + "/" + key }

// signed returns options that may read all of a server.
func signed(s *s3test.Server) Options {
	return Options{S3: S3{Endpoint: s.Endpoint(), credentials: keys(s3test.Secret)}}
}

func keys(secret string) aws.CredentialsProvider {
	return credentials.NewStaticCredentialsProvider(s3test.Access, secret, "")
}

// A relay is in front of a server, and records its requests.
type relay struct {
	*httptest.Server
	mu      sync.Mutex
	methods []string
	status  []int
}

// newRelay relays. change may replace the body of the n-th answer (from 1).
func newRelay(t *testing.T, s *s3test.Server, change func(n int, body io.ReadCloser) io.ReadCloser) *relay {
	to, err := url.Parse(s.Endpoint())
	must(t, err)
	r := &relay{}
	r.Server = httptest.NewServer(&httputil.ReverseProxy{
		Rewrite: func(p *httputil.ProxyRequest) {
			p.SetURL(to)
			p.Out.Host = p.In.Host // it is signed
		},
		ModifyResponse: func(resp *http.Response) error {
			r.mu.Lock()
			r.methods = append(r.methods, resp.Request.Method)
			r.status = append(r.status, resp.StatusCode)
			n := len(r.status)
			r.mu.Unlock()
			if change != nil {
				resp.Body = change(n, resp.Body)
			}
			return nil
		},
	})
	t.Cleanup(r.Close)
	return r
}

func (r *relay) options() Options {
	return Options{S3: S3{Endpoint: r.URL, credentials: keys(s3test.Secret)}}
}

// An object that was uploaded in parts has an ETag that is not a hash, and a
// checksum of checksums.
func TestBucketObjectOfParts(t *testing.T) {
	s := s3test.Start(t)
	whole := make([]byte, 20<<20+4711)
	r := rand.NewChaCha8([32]byte{1})
	r.Read(whole)
	s.PutParts("parts", whole, 8<<20)
	o := open(t, addressOf("parts"), int64(len(whole)), signed(s))
	random := rand.New(r)
	for range 200 {
		p := make([]byte, 1+random.IntN(1<<20))
		off := random.IntN(len(whole) - len(p))
		must(t, o.Fetch(t.Context(), p, int64(off)))
		if !bytes.Equal(p, whole[off:][:len(p)]) {
			t.Fatalf("wrong bytes in [%d,%d)", off, off+len(p))
		}
	}
	all, err := signed(s).ReadAll(t.Context(), addressOf("parts"), 32<<20)
	must(t, err)
	if !bytes.Equal(all, whole) {
		t.Error("wrong bytes in the whole")
	}
}

// The object is overwritten when a fetch has half of it.
func TestBucketObjectOverwritten(t *testing.T) {
	s := s3test.Start(t)
	first, second := bytes.Repeat([]byte("first..."), 1<<17), bytes.Repeat([]byte("second.."), 1<<17)
	s.Put("x", first)
	r := newRelay(t, s, func(n int, body io.ReadCloser) io.ReadCloser {
		if n != 2 {
			return body
		}
		s.Put("x", second)
		return struct {
			io.Reader
			io.Closer
		}{io.LimitReader(body, int64(len(first)/2)), body}
	})
	o := open(t, addressOf("x"), int64(len(first)), r.options())
	p := make([]byte, len(first))
	must(t, o.Fetch(t.Context(), p[:100], 0))
	err := o.FetchStream(t.Context(), p, 0, func(n int) {
		if !bytes.Equal(p[:n], first[:n]) {
			t.Error("reported bytes that are not of the first object")
		}
	})
	wantKind(t, err, fault.Corrupt)
	if !strings.Contains(err.Error(), "object changed") {
		t.Errorf("%v does not say that the object changed", err)
	}
	if want := []int{206, 206, 412}; !slices.Equal(r.status, want) {
		t.Errorf("answers %v, want %v: the rest is asked for if the object is still the same", r.status, want)
	}
	// The pin was removed: the new object is read, and then the one after it.
	for _, now := range [][]byte{second, first} {
		s.Put("x", now)
		if err := o.Fetch(t.Context(), p[:100], 0); err != nil {
			wantKind(t, err, fault.Corrupt)
		}
		must(t, o.Fetch(t.Context(), p, 0))
		if !bytes.Equal(p, now) {
			t.Error("wrong bytes")
		}
	}
}

func TestBucketAnonymously(t *testing.T) {
	s := s3test.Start(t)
	s.Put("x", []byte("abc"))
	o := open(t, addressOf("x"), 3, Options{S3: S3{Endpoint: s.Endpoint(), Anonymous: true}})
	p := make([]byte, 3)
	err := o.Fetch(t.Context(), p, 0)
	wantKind(t, err, fault.Unavailable)
	if !strings.Contains(err.Error(), "without credentials (--s3-anonymous)") || strings.Contains(err.Error(), "check the credentials") {
		t.Errorf("%v: it is not said that there were no credentials", err)
	}
	s.Publish(true)
	must(t, o.Fetch(t.Context(), p, 0))
	if string(p) != "abc" {
		t.Errorf("got %q", p)
	}
	s.Publish(false)
	wantKind(t, o.Fetch(t.Context(), p, 0), fault.Unavailable)
}

// A request with wrong keys is made once. Corrected keys are used without a
// restart.
func TestBucketWrongCredentials(t *testing.T) {
	s := s3test.Start(t)
	s.Put("x", []byte("abc"))
	file := filepath.Join(t.TempDir(), "credentials")
	write := func(secret string) {
		must(t, os.WriteFile(file, fmt.Appendf(nil, "[default]\naws_access_key_id = %s\naws_secret_access_key = %s\n", s3test.Access, secret), 0o600))
	}
	t.Setenv("AWS_SHARED_CREDENTIALS_FILE", file)
	r := newRelay(t, s, nil)
	o := open(t, addressOf("x"), 3, Options{S3: S3{Endpoint: r.URL}})
	p := make([]byte, 3)
	for i, secret := range []string{"a-wrong-secret", "another-secret"} {
		write(secret)
		err := o.Fetch(t.Context(), p, 0)
		wantKind(t, err, fault.Unavailable)
		if !strings.Contains(err.Error(), "check the credentials") || strings.Contains(err.Error(), "secret") {
			t.Errorf("error: %v", err)
		}
		// A request with the first keys shows that there are second ones.
		if want := []int{1, 3}[i]; len(r.status) != want {
			t.Errorf("%d requests, want %d: %v", len(r.status), want, r.status)
		}
	}
	write(s3test.Secret)
	must(t, o.Fetch(t.Context(), p, 0))
	if string(p) != "abc" {
		t.Errorf("got %q", p)
	}
}

// The keys of a role end at a time that only the server has.
func TestBucketCredentialsAreRefreshed(t *testing.T) {
	s := s3test.Start(t)
	s.Put("x", []byte("abc"))
	given := 0
	o := signed(s)
	o.S3.credentials = aws.CredentialsProviderFunc(func(ctx context.Context) (aws.Credentials, error) {
		given++
		if given == 1 {
			return keys("ended").Retrieve(ctx)
		}
		return keys(s3test.Secret).Retrieve(ctx)
	})
	opened := open(t, addressOf("x"), 3, o)
	for range 3 {
		must(t, opened.Fetch(t.Context(), make([]byte, 3), 0))
	}
	if given != 2 {
		t.Errorf("credentials were given %d times, want 2", given)
	}
}

func TestBucketWithoutCredentials(t *testing.T) {
	// A machine without a role, of the kind that the SDK warns about.
	machine := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPut {
			w.WriteHeader(http.StatusForbidden)
		} else {
			w.WriteHeader(http.StatusNotFound)
		}
	}))
	t.Cleanup(machine.Close)
	t.Setenv("AWS_EC2_METADATA_DISABLED", "")
	t.Setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", machine.URL)
	var log bytes.Buffer
	was := slog.Default()
	slog.SetDefault(slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug})))
	terminal := os.Stderr
	r, w, err := os.Pipe()
	must(t, err)
	os.Stderr = w
	t.Cleanup(func() {
		os.Stderr = terminal
		slog.SetDefault(was)
		w.Close()
		if printed, _ := io.ReadAll(r); len(printed) > 0 || !strings.Contains(log.String(), "AWS SDK: ") {
			t.Errorf("the SDK writes to standard error by itself: %q; to the log: %q", printed, &log)
		}
	})
	for _, err := range []error{
		open(t, addressOf("x"), 3, Options{S3: S3{Endpoint: "http://127.0.0.1:1"}}).Fetch(t.Context(), make([]byte, 3), 0),
		func() error {
			_, err := Options{S3: S3{Endpoint: "http://127.0.0.1:1"}}.ReadAll(t.Context(), addressOf("x"), 3)
			return err
		}(),
	} {
		wantKind(t, err, fault.Unavailable)
		if strings.Count(err.Error(), "no credentials for S3 were found") != 1 || !strings.Contains(err.Error(), "set AWS_ACCESS_KEY_ID") || strings.Contains(err.Error(), "refresh") {
			t.Errorf("%v: that there are none, and what to do, is not all that is said", err)
		}
	}
}

func TestBucketNothingThere(t *testing.T) {
	s := s3test.Start(t)
	for address, word := range map[string]string{addressOf("none"): "NoSuchKey", "s3://no-such-bucket/x": "NoSuchBucket"} {
		err := open(t, address, 3, signed(s)).Fetch(t.Context(), make([]byte, 3), 0)
		wantKind(t, err, fault.NotFound)
		if !strings.Contains(err.Error(), word) {
			t.Errorf("%v does not say %s", err, word)
		}
		_, err = signed(s).ReadAll(t.Context(), address, 3)
		wantKind(t, err, fault.NotFound)
	}
}

// Policies that allow no more than needed, and presigned URLs, refuse HEAD.
func TestBucketWithoutHEAD(t *testing.T) {
	s := s3test.Start(t)
	s.Put("x", []byte("abc"))
	r := newRelay(t, s, nil)
	must(t, open(t, addressOf("x"), 3, r.options()).Fetch(t.Context(), make([]byte, 3), 0))
	_, err := r.options().ReadAll(t.Context(), addressOf("x"), 3)
	must(t, err)
	if want := []string{"GET", "GET"}; !slices.Equal(r.methods, want) {
		t.Errorf("asked by %v, want %v", r.methods, want)
	}
}

func TestPresignedURL(t *testing.T) {
	s := s3test.Start(t)
	s.Put("x", []byte("abcdef"))
	resp, err := http.Head(s.Presign("x", 0))
	must(t, err)
	resp.Body.Close()
	if resp.StatusCode != http.StatusForbidden {
		t.Errorf("HEAD of a presigned URL: %s", resp.Status)
	}
	p := make([]byte, 3)
	must(t, open(t, s.Presign("x", 0), 6, Options{}).Fetch(t.Context(), p, 2))
	if string(p) != "cde" {
		t.Errorf("got %q", p)
	}
	err = open(t, s.Presign("x", time.Hour), 6, Options{}).Fetch(t.Context(), p, 2)
	wantKind(t, err, fault.Unavailable)
	if !strings.Contains(err.Error(), "expired") || strings.Contains(err.Error(), "Signature") {
		t.Errorf("error: %v", err)
	}
}

// The server is killed while it sends, and another is started.
func TestBucketServerKilled(t *testing.T) {
	s := s3test.Start(t)
	whole := bytes.Repeat([]byte("0123456789abcdef"), 2<<20)
	s.Put("x", whole)
	p, kills := make([]byte, len(whole)), 0
	must(t, open(t, addressOf("x"), int64(len(whole)), signed(s)).FetchStream(t.Context(), p, 0, func(n int) {
		if n < len(whole)/4 && kills == 0 {
			kills++
			s.Kill()
			s.Restart()
		}
	}))
	if kills != 1 {
		t.Error("all came before the server could be killed")
	}
	if !bytes.Equal(p, whole) {
		t.Error("wrong bytes")
	}
}

// What the SDK finds in the environment holds where no option says otherwise.
func TestBucketByEnvironment(t *testing.T) {
	s := s3test.Start(t)
	s.Put("x", []byte("abc"))
	t.Setenv("AWS_ENDPOINT_URL", s.Endpoint())
	t.Setenv("AWS_ACCESS_KEY_ID", s3test.Access)
	t.Setenv("AWS_SECRET_ACCESS_KEY", s3test.Secret)
	t.Setenv("AWS_MAX_ATTEMPTS", "7")
	all, err := ReadAll(t.Context(), addressOf("x"), 3)
	must(t, err)
	if string(all) != "abc" {
		t.Errorf("got %q", all)
	}
	wantKind(t, open(t, addressOf("none"), 3, Options{}).Fetch(t.Context(), make([]byte, 3), 0), fault.NotFound)
}

// isofs makes the attempts and not the SDK, whatever the SDK's settings are.
func TestBucketAttempts(t *testing.T) {
	t.Setenv("AWS_MAX_ATTEMPTS", "7")
	s := serve(t, status(503, 2, "Retry-After", "7"))
	o := s.quick()
	o.S3 = S3{Endpoint: s.URL, Anonymous: true}
	must(t, open(t, addressOf("x"), int64(len(content)), o).Fetch(t.Context(), make([]byte, 3), 0))
	if want := []time.Duration{7 * time.Second, 7 * time.Second}; s.requests() != 3 || !slices.Equal(s.pauses, want) {
		t.Errorf("%d requests, pauses %v, want %v", s.requests(), s.pauses, want)
	}
}

func TestBucketAddressing(t *testing.T) {
	var asked []string
	s := serve(t, func(n int, w http.ResponseWriter, r *http.Request) bool {
		asked = append(asked, r.Host[:strings.Index(r.Host+":", ":")]+r.URL.EscapedPath())
		return false
	})
	host := strings.Replace(s.URL, "127.0.0.1", "localhost", 1)
	for _, style := range []*bool{nil, aws.Bool(true)} {
		o := s.quick()
		o.S3 = S3{Endpoint: host, PathStyle: style, Anonymous: true}
		must(t, open(t, addressOf("a b/ä?%41#.iso"), int64(len(content)), o).Fetch(t.Context(), make([]byte, 3), 0))
	}
	want := "localhost/bases/a%20b/%C3%A4%3F%2541%23.iso"
	if !slices.Equal(asked, []string{want, want}) {
		t.Errorf("asked for %q, want %q", asked, want)
	}
	o := Options{S3: S3{Endpoint: host, PathStyle: aws.Bool(false), Anonymous: true}, Timeout: 50 * time.Millisecond}
	g, err := newObject("bases", "x", o)
	must(t, err)
	if g.client.Options().UsePathStyle {
		t.Error("the path has the bucket although the host shall have it")
	}
}

// A request signed for one host is not sent to another.
func TestBucketElsewhere(t *testing.T) {
	other := serve(t, status(200, forever))
	s := serve(t, status(301, forever, "X-Amz-Bucket-Region", "eu-west-3", "Location", other.URL))
	o := s.quick()
	o.S3 = S3{Endpoint: s.URL, Anonymous: true}
	err := open(t, addressOf("x"), 3, o).Fetch(t.Context(), make([]byte, 3), 0)
	wantKind(t, err, fault.Unavailable)
	if !strings.Contains(err.Error(), "region eu-west-3") || s.requests() != 1 || other.requests() != 0 {
		t.Errorf("%d and %d requests, error: %v", s.requests(), other.requests(), err)
	}
}

// A whole object is compared with its checksum; a request for a range has none.
func TestBucketChecksum(t *testing.T) {
	var modes []string
	s := serve(t, func(n int, w http.ResponseWriter, r *http.Request) bool {
		modes = append(modes, r.Header.Get("X-Amz-Checksum-Mode"))
		w.Header().Set("X-Amz-Checksum-Crc32c", "AAAAAA==")
		return false
	})
	o := s.quick()
	o.S3 = S3{Endpoint: s.URL, Anonymous: true}
	_, err := o.ReadAll(t.Context(), addressOf("x"), 1<<20)
	wantKind(t, err, fault.Corrupt)
	must(t, open(t, addressOf("x"), int64(len(content)), o).Fetch(t.Context(), make([]byte, 3), 0))
	if want := []string{"ENABLED", "ENABLED", ""}; !slices.Equal(modes, want) {
		t.Errorf("checksum modes %q, want %q", modes, want)
	}
}

package origin

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/middleware"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/feature/ec2/imds"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/aws/smithy-go"
	"github.com/aws/smithy-go/logging"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"aesthetic.computer/isofs/fault"
)

// An object is one in an S3 bucket.
type object struct {
	bucket, key string
	client      *s3.Client
	keys        *aws.CredentialsCache // nil: anonymous
	http        *http.Client
	o           Options
}

// newObject makes the getter of an object.
func newObject(bucket, key string, o Options) (*object, error) {
	o = o.withDefaults()
	s, cfg, err := newS3(o, o.transport())
	if err != nil {
		return nil, err
	}
	s.bucket, s.key = bucket, key
	s.client = s3.NewFromConfig(cfg, s.configure)
	return s, nil
}

// The values of S3 that can be wrong, in errors (fault.SettingError).
const (
	SettingEndpoint = "S3 endpoint"
	SettingRegion   = "S3 region"
)

// Validate returns all that is wrong with the values as fault.SettingErrors, and nil if nothing
// is. It does not repeat secrets.
func (c S3) Validate() error {
	var wrong fault.SettingErrors
	if c.Endpoint != "" {
		u, err := url.Parse(c.Endpoint)
		if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" || u.User != nil || u.RawQuery != "" {
			wrong.Addf(SettingEndpoint, "%s is not a URL like https://host:port", Redact(c.Endpoint))
		}
	}
	if strings.ContainsAny(c.Region, "/ .") {
		wrong.Addf(SettingRegion, "%q is not a region like eu-central-1", c.Region)
	}
	return wrong.Err()
}

// ErrNoCredentials means that requests cannot be signed.
var ErrNoCredentials = errors.New("no credentials for S3 were found, neither in the environment nor in ~/.aws, and this machine has no role: " +
	"set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE; a public bucket is read with --s3-anonymous")

// keys are the credentials that sign requests. They are read again, files included,
// when they expire or a server refused them.
func (c S3) keys(cfg aws.Config) *aws.CredentialsCache {
	switch {
	case c.Anonymous:
		return nil
	case c.credentials != nil:
		return aws.NewCredentialsCache(c.credentials)
	}
	return aws.NewCredentialsCache(aws.CredentialsProviderFunc(func(ctx context.Context) (aws.Credentials, error) {
		now, err := c.load(ctx)
		if err != nil || now.Credentials == nil {
			return aws.Credentials{}, errors.Join(err, ErrNoCredentials)
		}
		keys, err := now.Credentials.Retrieve(ctx)
		// The SDK looks for the machine's role last, when it found nothing else.
		if e, ok := errors.AsType[*smithy.OperationError](err); ok && e.ServiceID == imds.ServiceID && ctx.Err() == nil {
			return keys, ErrNoCredentials
		}
		return keys, err
	}))
}

// configure replaces settings that the SDK found by those of Options.
func (s *object) configure(to *s3.Options) {
	set := s.o.S3
	if set.Endpoint != "" {
		to.BaseEndpoint = aws.String(set.Endpoint)
	}
	to.UsePathStyle = to.BaseEndpoint != nil
	if set.PathStyle != nil {
		to.UsePathStyle = *set.PathStyle
	}
	to.Credentials = aws.AnonymousCredentials{}
	if s.keys != nil {
		to.Credentials = s.keys
	}
	to.HTTPClient, to.HTTPSignerV4 = s.http, signer{}
	// The loop makes the attempts, as for every origin.
	to.Retryer, to.RetryMaxAttempts = aws.NopRetryer{}, 0
	// The SDK can check only whole objects by their checksum, not ranges: the
	// SHA-256 of each block guards those. For a whole object ask turns it on.
	to.ResponseChecksumValidation = aws.ResponseChecksumValidationWhenRequired
	to.DisableLogOutputChecksumValidationSkipped = true
}

// A signer signs each request from the secret. The signer of the SDK caches what it
// derived from a secret by the name of the key. So it would still sign with a wrong
// secret after that was corrected.
type signer struct{}

func (signer) SignHTTP(ctx context.Context, c aws.Credentials, r *http.Request, payload, service, region string, at time.Time, o ...func(*v4.SignerOptions)) error {
	s := v4.NewSigner(func(o *v4.SignerOptions) { o.DisableURIPathEscaping = true })
	return s.SignHTTP(ctx, c, r, payload, service, region, at, o...)
}

// String is the object's address.
func (s *object) String() string { return "s3://" + s.bucket + "/" + s.key }

func (s *object) close() { s.http.CloseIdleConnections() }

// get implements getter. It refreshes refused credentials, once. The credentials of
// a role expire, and the SDK does not always notice.
func (s *object) get(ctx context.Context, span, ifMatch string) (*http.Response, error) {
	used, err := s.credentials(ctx)
	if err != nil {
		return nil, err
	}
	resp, err := s.ask(ctx, span, ifMatch)
	if err != nil || !denied(resp.StatusCode) {
		return resp, err
	}
	if s.keys == nil {
		resp.Body.Close()
		return nil, newFailure(final, fault.Unavailable,
			"the server answered %s to a request without credentials (--s3-anonymous): the bucket is not public, or has no such object", resp.Status)
	}
	if !s.renewed(ctx, used) {
		return resp, nil
	}
	resp.Body.Close()
	return s.ask(ctx, span, ifMatch)
}

// denied reports whether a status can mean that credentials have expired. Amazon
// answers 400 to a session that has ended.
func denied(status int) bool {
	return status == http.StatusUnauthorized || status == http.StatusForbidden || status == http.StatusBadRequest
}

// credentials returns the credentials for the next request. It is called before the
// request, so that it does not use up the time for the first byte.
func (s *object) credentials(ctx context.Context) (aws.Credentials, error) {
	if s.keys == nil {
		return aws.Credentials{}, nil
	}
	c, err := s.keys.Retrieve(ctx)
	switch {
	case errors.Is(err, ErrNoCredentials):
		return c, newFailure(final, fault.Unavailable, "%w", ErrNoCredentials)
	case err != nil && ctx.Err() == nil:
		return c, wrong(fault.Unavailable, "get credentials for S3: %v", bare(err))
	}
	return c, err
}

// renewed reports whether there are now other credentials than those used.
func (s *object) renewed(ctx context.Context, used aws.Credentials) bool {
	same := func(c aws.Credentials, err error) bool {
		return err != nil || c.AccessKeyID == used.AccessKeyID && c.SecretAccessKey == used.SecretAccessKey && c.SessionToken == used.SessionToken
	}
	// Another fetch may have renewed them already.
	if !same(s.keys.Retrieve(ctx)) {
		return true
	}
	s.keys.Invalidate()
	return !same(s.keys.Retrieve(ctx))
}

// ask makes one request, and turns the SDK's result into an answer of HTTP.
func (s *object) ask(ctx context.Context, span, ifMatch string) (*http.Response, error) {
	in := &s3.GetObjectInput{Bucket: &s.bucket, Key: &s.key}
	if span == "" {
		in.ChecksumMode = types.ChecksumModeEnabled
	} else {
		in.Range = &span
	}
	if ifMatch != "" {
		in.IfMatch = &ifMatch
	}
	return s.o.watch(ctx, func(ctx context.Context) (*http.Response, error) {
		out, err := s.client.GetObject(ctx, in)
		if e, ok := errors.AsType[*smithyhttp.ResponseError](err); ok && e.HTTPStatusCode() >= http.StatusMultipleChoices {
			return refusedBy(e), nil
		}
		if err != nil {
			return nil, err
		}
		raw, ok := awshttp.GetRawResponse(out.ResultMetadata).(*smithyhttp.Response)
		if !ok {
			out.Body.Close()
			return nil, wrong(fault.Unavailable, "the AWS SDK does not show the server's answer")
		}
		resp := *raw.Response
		resp.Body = out.Body
		if span == "" {
			resp.Body = &summed{ReadCloser: out.Body, left: resp.ContentLength}
		}
		return &resp, nil
	})
}

// refusedBy returns the answer that the SDK turned into an error. The status
// decides what follows; S3's own code is for people.
func refusedBy(e *smithyhttp.ResponseError) *http.Response {
	resp := *e.Response.Response
	resp.Body = http.NoBody
	var words []string
	if api, ok := errors.AsType[smithy.APIError](e.Err); ok {
		words = append(words, api.ErrorCode())
	}
	if region := resp.Header.Get("X-Amz-Bucket-Region"); region != "" && resp.StatusCode < http.StatusBadRequest {
		words = append(words, "the bucket is in region "+region)
	}
	if len(words) > 0 {
		resp.Status += " (" + strings.Join(words, ", ") + ")"
	}
	return &resp
}

// A summed body is that of a whole object. It fails behind its last byte if the
// checksum is wrong.
type summed struct {
	io.ReadCloser
	left int64 // by Content-Length
}

func (w *summed) Read(p []byte) (int, error) {
	n, err := w.ReadCloser.Read(p)
	w.left -= int64(n)
	if err != nil && !errors.Is(err, io.EOF) && w.left == 0 {
		err = wrong(fault.Corrupt, "the object's checksum: %v", err)
	}
	return n, err
}

const (
	// writeAttempts bounds the attempts of a request that writes.
	writeAttempts = 5
	// writeAnswer is how long a server may take to answer after the whole body was
	// sent: it may have to join an object of many parts.
	writeAnswer = 5 * time.Minute
)

// S3Client makes the SDK's client with these settings, to write to a bucket. It
// makes the SDK's own attempts and pauses. S3Client sends no request.
func (o Options) S3Client() (*s3.Client, error) {
	o = o.withDefaults()
	t := o.transport()
	t.ResponseHeaderTimeout = writeAnswer
	s, cfg, err := newS3(o, t)
	if err != nil {
		return nil, err
	}
	return s3.NewFromConfig(cfg, s.configure, func(to *s3.Options) {
		to.Retryer = retry.NewStandard(func(o *retry.StandardOptions) { o.MaxAttempts = writeAttempts })
	}), nil
}

// newS3 makes the parts that all requests to buckets share.
func newS3(o Options, t *http.Transport) (*object, aws.Config, error) {
	if err := o.S3.check(); err != nil {
		return nil, aws.Config{}, err
	}
	cfg, err := o.S3.load(context.Background())
	if err != nil {
		return nil, aws.Config{}, fmt.Errorf("%w: the settings of the AWS SDK: %w", fault.Invalid, err)
	}
	return &object{o: o, keys: o.S3.keys(cfg), http: &http.Client{
		Transport: t,
		// A signature is for one host. refusedBy names another region.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}, cfg, nil
}

// logSDK writes the SDK's log to ours, for debugging. A warning that matters comes
// as an error, too.
func logSDK(_ logging.Classification, format string, a ...any) {
	slog.Debug("AWS SDK: " + fmt.Sprintf(format, a...))
}

// load reads the settings that the SDK finds. It sends no request.
func (c S3) load(ctx context.Context) (aws.Config, error) {
	cfg, err := config.LoadDefaultConfig(ctx, config.WithRegion(c.Region), config.WithLogger(logging.LoggerFunc(logSDK)))
	if cfg.Region == "" {
		// A signature needs a region. A server with regions answers which is right.
		cfg.Region = "us-east-1"
	}
	return cfg, err
}

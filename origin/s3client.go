package origin

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"regexp"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/smithy-go/logging"

	"aesthetic.computer/isofs/fault"
)

// bucketName is what a bucket may be called, in Amazon's old rules.
var bucketName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{1,254}$`)

// IsBucketName reports whether a bucket can be called so.
func IsBucketName(name string) bool { return bucketName.MatchString(name) }

const (
	// writeAttempts is how often a request that writes is made, the first included.
	writeAttempts = 5
	// writeAnswer is how long a server may take to answer when all was sent: an
	// object of many parts is put together meanwhile.
	writeAnswer = 5 * time.Minute
)

// S3Client makes the SDK's client with these settings, for who writes to a
// bucket: with the SDK's own attempts and pauses. It asks no server.
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

// newS3 makes what all requests to buckets have in common.
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
		// A signature is for one host. Another region is said in words.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}, cfg, nil
}

// sdkSays has the SDK write to the log as all others do, and to that of debugging:
// what it warns of and matters comes as an error, too.
func sdkSays(_ logging.Classification, format string, a ...any) {
	slog.Debug("AWS SDK: " + fmt.Sprintf(format, a...))
}

// load reads what the SDK finds. It asks no server.
func (c S3) load(ctx context.Context) (aws.Config, error) {
	cfg, err := config.LoadDefaultConfig(ctx, config.WithRegion(c.Region), config.WithLogger(logging.LoggerFunc(sdkSays)))
	if cfg.Region == "" {
		// One must be there to sign for; a server with regions says which is right.
		cfg.Region = "us-east-1"
	}
	return cfg, err
}

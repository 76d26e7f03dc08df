package origin

import (
	"cmp"
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"net/url"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"

	"aesthetic.computer/isofs/fault"
)

// Options set how an origin is reached, and how patient its reader is. A zero field means its default.
type Options struct {
	Timeout     time.Duration // of one Fetch or ReadAll with all its attempts; 30 s
	Connect     time.Duration // to make a connection; 2 s
	Stall       time.Duration // without a byte, after which an attempt is given up; 5 s
	Backoff     time.Duration // longest pause after a first failure, doubled with each further one; 50 ms
	MaxBackoff  time.Duration // longest pause of all, unless the server sends Retry-After; 2 s
	Connections int           // idle connections kept for the next Fetch; 16
	TLS         *tls.Config   // nil: the system's roots
	S3          S3            // how buckets are reached
	Log         *slog.Logger  // gets a line when attempts fail and are repeated; nil: none
	// Redirects are the hosts, as "cdn.example" or "cdn.example:8443", that a server
	// may redirect to besides its own. A redirect to others is refused: they could
	// be services that only this machine reaches.
	Redirects []string

	// sleep waits for d or until ctx ends. Tests put a clock of their own here.
	sleep func(ctx context.Context, d time.Duration) error
}

func (o Options) withDefaults() Options {
	o.Timeout = cmp.Or(max(o.Timeout, 0), 30*time.Second)
	o.Connect = cmp.Or(max(o.Connect, 0), 2*time.Second)
	o.Stall = cmp.Or(max(o.Stall, 0), 5*time.Second)
	o.Backoff = cmp.Or(max(o.Backoff, 0), 50*time.Millisecond)
	o.MaxBackoff = cmp.Or(max(o.MaxBackoff, 0), 2*time.Second)
	o.Connections = cmp.Or(max(o.Connections, 0), 16)
	if o.sleep == nil {
		o.sleep = sleep
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return o
}

// logFailing logs at once that attempts fail, as they may be repeated for long.
func (o Options) logFailing(name fmt.Stringer, err error) {
	o.Log.Warn("the origin does not answer as it should; trying again", "origin", name.String(), "for", o.Timeout, "err", err)
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// S3 sets how buckets are reached. The AWS SDK finds the rest, as in all programs that use it: in the
// environment (AWS_ENDPOINT_URL, AWS_REGION, AWS_PROFILE, ...), in ~/.aws, by the role of the machine.
type S3 struct {
	Endpoint  string // URL of a server that is not Amazon's
	Region    string // us-east-1 if none is found
	PathStyle *bool  // the bucket is in the path and not in the host's name; nil: if there is an endpoint
	Anonymous bool   // requests are not signed

	// credentials are a test's.
	credentials aws.CredentialsProvider
}

func (c S3) check() error {
	if c.Endpoint == "" {
		return nil
	}
	u, err := url.Parse(c.Endpoint)
	if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Hostname() == "" || u.User != nil || u.RawQuery != "" {
		return fmt.Errorf("%w: the endpoint is not like https://host:port", fault.Invalid)
	}
	return nil
}

package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"path"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"aesthetic.computer/isofs/fault"
	"aesthetic.computer/isofs/origin"
)

// A bucket is a Store in S3.
type bucket struct {
	name, prefix string
	client       *s3.Client
	how          origin.Options
}

var _ Store = (*bucket)(nil)

func newBucket(address string, how origin.Options) (*bucket, error) {
	name, prefix, _ := strings.Cut(address, "/")
	if !origin.IsBucketName(name) {
		return nil, fmt.Errorf("publish at s3://%s: %w: write s3://bucket/prefix", address, fault.Invalid)
	}
	// A server that keeps objects as files makes "x/y" of it when it writes, and
	// finds nothing when it lists. Amazon keeps it as it stands.
	prefix = strings.TrimRight(prefix, "/")
	for part := range strings.SplitSeq(prefix, "/") {
		if prefix != "" && (part == "" || part == "." || part == "..") {
			return nil, fmt.Errorf("publish at s3://%s: %w: its key has an empty name, . or .. in it, which servers do not agree about: write s3://%s",
				address, fault.Invalid, path.Join(name, path.Join("/", prefix)))
		}
	}
	client, err := how.S3Client()
	if err != nil {
		return nil, fmt.Errorf("publish at s3://%s: %w", address, err)
	}
	return &bucket{name: name, prefix: prefix, client: client, how: how}, nil
}

// String is the address.
func (b *bucket) String() string { return strings.TrimSuffix("s3://"+b.name+"/"+b.prefix, "/") }

func (b *bucket) key(name string) *string { return aws.String(origin.JoinKey(b.prefix, name)) }

// Read implements Store. The tag is the ETag.
func (b *bucket) Read(ctx context.Context, name string, limit int64) ([]byte, string, error) {
	out, err := b.client.GetObject(ctx, &s3.GetObjectInput{Bucket: &b.name, Key: b.key(name), ChecksumMode: types.ChecksumModeEnabled})
	if err != nil {
		return nil, "", b.refused("read", name, err)
	}
	defer out.Body.Close()
	data, err := io.ReadAll(io.LimitReader(out.Body, limit+1))
	if err != nil {
		return nil, "", b.refused("read", name, err)
	}
	if int64(len(data)) > limit {
		return nil, "", fmt.Errorf("read %s: it has more than %d bytes: %w", name, limit, fault.Corrupt)
	}
	return data, aws.ToString(out.ETag), nil
}

// Put implements Store, by If-Match or If-None-Match.
func (b *bucket) Put(ctx context.Context, name string, data []byte, tag string) error {
	in := &s3.PutObjectInput{
		Bucket: &b.name, Key: b.key(name), Body: bytes.NewReader(data), ContentType: aws.String("application/json"),
	}
	if path.Ext(name) == ".asc" {
		in.ContentType = aws.String("application/pgp-signature")
	}
	if tag == "" {
		in.IfNoneMatch = aws.String("*")
	} else {
		in.IfMatch = &tag
	}
	if strings.HasPrefix(name, "channels/") {
		// A cache on the way must not hold this back.
		in.CacheControl = aws.String("no-cache")
	}
	_, err := b.client.PutObject(ctx, in)
	return b.refused("write", name, err)
}

// List implements Store.
func (b *bucket) List(ctx context.Context, folder string) (map[string]int64, error) {
	found := map[string]int64{}
	pages := s3.NewListObjectsV2Paginator(b.client, &s3.ListObjectsV2Input{Bucket: &b.name, Prefix: aws.String(*b.key(folder) + "/")})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return nil, b.refused("list", folder, err)
		}
		for _, o := range page.Contents {
			found[strings.TrimPrefix(aws.ToString(o.Key), *b.key(""))] = aws.ToInt64(o.Size)
		}
	}
	return found, nil
}

// Remove implements Store.
func (b *bucket) Remove(ctx context.Context, folder, first string) error {
	there, err := b.List(ctx, folder)
	if err != nil {
		return err
	}
	names := []string{path.Join(folder, first)}
	delete(there, names[0])
	for name := range there {
		names = append(names, name)
	}
	for _, name := range names {
		if err := b.Delete(ctx, name); err != nil {
			return err
		}
	}
	return nil
}

// Delete implements Store.
func (b *bucket) Delete(ctx context.Context, name string) error {
	_, err := b.client.DeleteObject(ctx, &s3.DeleteObjectInput{Bucket: &b.name, Key: b.key(name)})
	return b.refused("remove", name, err)
}

// Open implements Store.
func (b *bucket) Open(name string, size int64) (origin.Origin, error) {
	return b.how.Open("s3://"+b.name+"/"+*b.key(name), size)
}

// refused gives an answer of the server its kind; nil stays nil.
func (b *bucket) refused(what, name string, err error) error {
	if err == nil {
		return nil
	}
	if errors.Is(err, origin.ErrNoCredentials) {
		return fmt.Errorf("%s %s in %s: %w: %w", what, name, b, fault.Unavailable, origin.ErrNoCredentials)
	}
	kind, status, hint := fault.Unavailable, 0, ""
	if e, ok := errors.AsType[*smithyhttp.ResponseError](err); ok {
		status = e.HTTPStatusCode()
		if api, ok := errors.AsType[smithy.APIError](e.Err); ok {
			err = fmt.Errorf("the server answers %d, %s: %s", status, api.ErrorCode(), api.ErrorMessage())
		}
	}
	switch status {
	case http.StatusPreconditionFailed, http.StatusConflict:
		return conflict(name)
	case http.StatusNotFound:
		kind = fault.NotFound
	case http.StatusUnauthorized, http.StatusForbidden:
		hint = ": check the credentials and what they may do"
		if b.how.S3.Anonymous {
			hint = ": the request had no credentials (--s3-anonymous), and the bucket is not public for it"
		}
	case http.StatusNotImplemented:
		hint = ": publishing needs a server that knows conditional writes (If-Match, If-None-Match)"
	}
	return fmt.Errorf("%s %s in %s: %w: %w%s", what, name, b, kind, err, hint)
}

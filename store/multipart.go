package store

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"golang.org/x/sync/errgroup"

	"aesthetic.computer/isofs/fault"
)

const (
	// minPart is the size of the parts of all but the largest images: S3 wants
	// 5 MiB at least, and 10000 parts at most.
	minPart  = 8 << 20
	maxParts = 10_000
	// uploads is how many parts are sent at once; so many are in memory.
	uploads = 4
)

// partSize follows from the size alone, so that a continued upload has the same
// parts.
func partSize(size int64) int64 {
	per := (size + maxParts - 1) / maxParts
	return max(minPart, (per+(1<<20)-1)>>20<<20)
}

// An upload is one in parts, under way.
type upload struct {
	bucket     *bucket
	name, id   string
	from       io.ReaderAt
	size, part int64

	mu    sync.Mutex // guards what follows, and done
	parts map[int32]types.CompletedPart
	done  func(n int64)
}

// Upload implements Store, in parts. It continues an earlier upload of that
// name: parts that have the right SHA-256 stay.
func (b *bucket) Upload(ctx context.Context, name string, from io.ReaderAt, size int64, done func(n int64)) error {
	u := &upload{bucket: b, name: name, from: from, size: size, part: partSize(size), parts: map[int32]types.CompletedPart{}, done: done}
	there, err := u.resume(ctx)
	if err != nil {
		return err
	}
	if u.id == "" {
		created, err := b.client.CreateMultipartUpload(ctx, &s3.CreateMultipartUploadInput{
			Bucket: &b.name, Key: b.key(name), ContentType: aws.String("application/octet-stream"), ChecksumAlgorithm: types.ChecksumAlgorithmSha256,
		})
		if err != nil {
			return b.refused("upload", name, err)
		}
		u.id = aws.ToString(created.UploadId)
	}
	group, within := errgroup.WithContext(ctx)
	group.SetLimit(uploads)
	for off := int64(0); off < size && within.Err() == nil; off += u.part {
		group.Go(func() error { return u.send(within, off, there) })
	}
	if err := group.Wait(); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("upload %s: %w: %w", name, fault.Unavailable, err)
	}
	return u.complete(ctx)
}

// resume finds the newest upload of that name, and its parts.
func (u *upload) resume(ctx context.Context) (map[int32]types.Part, error) {
	b, key := u.bucket, u.bucket.key(u.name)
	var last types.MultipartUpload
	pages := s3.NewListMultipartUploadsPaginator(b.client, &s3.ListMultipartUploadsInput{Bucket: &b.name, Prefix: key})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return nil, b.refused("look for an earlier upload of", u.name, err)
		}
		for _, m := range page.Uploads {
			if aws.ToString(m.Key) == *key && m.ChecksumAlgorithm == types.ChecksumAlgorithmSha256 &&
				(last.UploadId == nil || aws.ToTime(m.Initiated).After(aws.ToTime(last.Initiated))) {
				last = m
			}
		}
	}
	if last.UploadId == nil {
		return nil, nil
	}
	u.id = *last.UploadId
	there := map[int32]types.Part{}
	parts := s3.NewListPartsPaginator(b.client, &s3.ListPartsInput{Bucket: &b.name, Key: key, UploadId: last.UploadId})
	for parts.HasMorePages() {
		page, err := parts.NextPage(ctx)
		if err != nil {
			// It may have ended since it was listed.
			return nil, u.ended(b.refused("look for an earlier upload of", u.name, err))
		}
		for _, p := range page.Parts {
			there[aws.ToInt32(p.PartNumber)] = p
		}
	}
	return there, nil
}

// send uploads the part at off, unless it is there.
func (u *upload) send(ctx context.Context, off int64, there map[int32]types.Part) error {
	p := make([]byte, min(u.part, u.size-off))
	if _, err := io.ReadFull(io.NewSectionReader(u.from, off, int64(len(p))), p); err != nil {
		return fmt.Errorf("read the image at byte %d: %w: %w", off, fault.Unavailable, err)
	}
	raw := sha256.Sum256(p)
	sum := base64.StdEncoding.EncodeToString(raw[:])
	number := int32(off/u.part) + 1
	etag := there[number].ETag
	if old := there[number]; aws.ToInt64(old.Size) != int64(len(p)) || aws.ToString(old.ChecksumSHA256) != sum {
		out, err := u.bucket.client.UploadPart(ctx, &s3.UploadPartInput{
			Bucket: &u.bucket.name, Key: u.bucket.key(u.name), UploadId: &u.id, PartNumber: &number,
			ChecksumAlgorithm: types.ChecksumAlgorithmSha256, ChecksumSHA256: &sum, Body: bytes.NewReader(p),
		})
		if err != nil {
			return u.lost(ctx, u.bucket.refused("upload", u.name, err))
		}
		etag = out.ETag
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	u.parts[number] = types.CompletedPart{PartNumber: &number, ETag: etag, ChecksumSHA256: &sum}
	u.done(int64(len(p)))
	return nil
}

// complete makes the object of the parts, unless it exists.
func (u *upload) complete(ctx context.Context) error {
	parts := make([]types.CompletedPart, len(u.parts))
	for number, p := range u.parts {
		parts[number-1] = p
	}
	_, err := u.bucket.client.CompleteMultipartUpload(ctx, &s3.CompleteMultipartUploadInput{
		Bucket: &u.bucket.name, Key: u.bucket.key(u.name), UploadId: &u.id, IfNoneMatch: aws.String("*"),
		MultipartUpload: &types.CompletedMultipartUpload{Parts: parts},
	})
	return u.ended(u.bucket.refused("upload", u.name, err))
}

// lost is ended for a part that was not taken. A server may answer that the
// upload has ended, and cut the connection before the whole part was sent. The
// client then sees only the cut. So lost asks again, without a body.
func (u *upload) lost(ctx context.Context, err error) error {
	if errors.Is(err, fault.Unavailable) && ctx.Err() == nil {
		_, listErr := u.bucket.client.ListParts(ctx, &s3.ListPartsInput{
			Bucket: &u.bucket.name, Key: u.bucket.key(u.name), UploadId: &u.id, MaxParts: aws.Int32(1),
		})
		if listErr != nil && errors.Is(u.bucket.refused("look at the upload of", u.name, listErr), fault.NotFound) {
			return conflict(u.name)
		}
	}
	return u.ended(err)
}

// ended decides what an upload that has ended means: another publisher has
// completed it.
func (u *upload) ended(err error) error {
	if errors.Is(err, fault.NotFound) {
		return conflict(u.name)
	}
	return err
}

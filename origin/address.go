package origin

import (
	"fmt"
	"net/url"
	"regexp"
	"strings"

	"aesthetic.computer/isofs/fault"
)

// Join returns the address of an object below a place: a folder's path, a URL
// without a query, or s3://bucket/prefix. Publishing, listing and serving all
// use it, so that they mean the same object. It removes only slashes at the end
// of the place. In the keys of a bucket "x//y" is a name like any other (package
// store publishes nothing there, as servers differ). Only the file system can
// tell where "link/.." leads.
func Join(place, name string) string { return strings.TrimRight(place, "/") + "/" + name }

// JoinKey is Join of a bucket's prefix, which may be empty.
func JoinKey(prefix, name string) string {
	if prefix = strings.TrimRight(prefix, "/"); prefix == "" {
		return name
	}
	return prefix + "/" + name
}

// FilePath returns the path if the address is one, or is file:///path; ok is
// false for an address of another scheme. Errors wrap fault.Invalid.
func FilePath(address string) (path string, ok bool, err error) {
	scheme, _, isURL := strings.Cut(address, "://")
	switch {
	case address == "":
		return "", false, fmt.Errorf("%w: empty address", fault.Invalid)
	case !isURL:
		return address, true, nil
	case !strings.EqualFold(scheme, "file"):
		return "", false, nil
	}
	u, err := url.Parse(address)
	if err != nil || u.Host != "" && u.Host != "localhost" || u.Path == "" {
		return "", false, fmt.Errorf("%s: %w: write file:///path", Redact(address), fault.Invalid)
	}
	return u.Path, true, nil
}

// Redact returns address without its secrets: user, password, and the query,
// where presigned URLs have their signature.
func Redact(address string) string {
	scheme, rest, ok := strings.Cut(address, "://")
	if !ok {
		return address
	}
	if bucket, key, ok := strings.Cut(rest, "/"); ok && scheme == "s3" && bucketName.MatchString(bucket) {
		return "s3://" + bucket + "/" + key // as it is: any character may be in a key
	}
	u, err := url.Parse(address)
	if err != nil {
		return "(unreadable address)"
	}
	u.User, u.Fragment, u.RawFragment = nil, "", ""
	if u.RawQuery != "" {
		u.RawQuery = "..."
	}
	return u.String()
}

// bucketName matches the names that a bucket may have, in Amazon's old rules.
var bucketName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{1,254}$`)

// IsBucketName reports whether a bucket can have this name.
func IsBucketName(name string) bool { return bucketName.MatchString(name) }

// splitBucket splits the bucket/key behind s3://.
func splitBucket(address string) (bucket, key string, err error) {
	bucket, key, _ = strings.Cut(address, "/")
	if !bucketName.MatchString(bucket) || key == "" || strings.HasSuffix(key, "/") {
		return "", "", fmt.Errorf("%w: write s3://bucket/key", fault.Invalid)
	}
	return bucket, key, nil
}

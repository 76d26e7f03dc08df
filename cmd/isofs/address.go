package main

import (
	"fmt"
	"net/url"
	"path"
	"strconv"
	"strings"

	"github.com/spf13/pflag"

	"aesthetic.computer/isofs/fault"
	"aesthetic.computer/isofs/origin"
)

// manifestOf is where the manifest of --base is: in the folder, or the address
// itself, if that names a *.json.
func manifestOf(address string) (string, error) {
	if namesManifest(address) {
		return address, nil
	}
	return join(address, manifestName)
}

// imageOf is where the image of --base is: beside the manifest.
func imageOf(address string) (string, error) {
	if !namesManifest(address) {
		return join(address, imageName)
	}
	if hasQuery(address) {
		return "", fmt.Errorf("%s is the address of one object and says not where %s is: give that one's own address with --mirror: %w",
			origin.Redact(address), imageName, fault.Invalid)
	}
	return address[:strings.LastIndex(address, "/")+1] + imageName, nil
}

// join appends a file's name to a folder's path or URL. A query is of one
// object: a signature, a version.
func join(address, name string) (string, error) {
	if hasQuery(address) {
		return "", fmt.Errorf("%s has a query, so %s cannot be put behind it: name the objects one by one, --base as .../%s?... and the image with --mirror: %w",
			origin.Redact(address), name, manifestName, fault.Invalid)
	}
	return origin.Join(address, name), nil
}

func namesManifest(address string) bool {
	if u := webURL(address); u != nil {
		return path.Ext(u.Path) == ".json"
	}
	return path.Ext(address) == ".json"
}

func hasQuery(address string) bool {
	u := webURL(address)
	return u != nil && (u.RawQuery != "" || u.ForceQuery)
}

// webURL is address if it is one of the web: in paths and in the keys of a
// bucket a question mark is a character.
func webURL(address string) *url.URL {
	if u, err := url.Parse(address); err == nil && (u.Scheme == "http" || u.Scheme == "https") {
		return u
	}
	return nil
}

// s3Flags say how s3:// addresses are reached.
type s3Flags struct {
	endpoint  string
	region    string
	pathStyle string
	anonymous bool
}

const pathStyleAuto = "auto"

func (o *s3Flags) register(flags *pflag.FlagSet) {
	flags.StringVar(&o.endpoint, "s3-endpoint", "", "URL of the S3 server of s3:// addresses (default as the AWS SDK finds it: AWS_ENDPOINT_URL, ~/.aws, Amazon)")
	flags.StringVar(&o.region, "s3-region", "", "region of the bucket (default as the AWS SDK finds it, else us-east-1)")
	choiceVar(flags, &o.pathStyle, "s3-path-style", pathStyleAuto, []string{"true", "false", pathStyleAuto}, "name the bucket in the path and not in the host's name: true, false, or auto, which is true with an endpoint of one's own")
	flags.Lookup("s3-path-style").NoOptDefVal = "true"
	flags.BoolVar(&o.anonymous, "s3-anonymous", false, "read a public bucket without credentials")
}

func (o *s3Flags) validate() []error {
	var wrong []error
	if o.endpoint != "" {
		u := webURL(o.endpoint)
		if u == nil || u.Hostname() == "" || u.User != nil || u.RawQuery != "" {
			wrong = append(wrong, wrongFlag("s3-endpoint", "%s is not a URL like https://host:port", origin.Redact(o.endpoint)))
		}
	}
	if strings.ContainsAny(o.region, "/ .") {
		wrong = append(wrong, wrongFlag("s3-region", "%q is not a region like eu-central-1", o.region))
	}
	return wrong
}

func (o *s3Flags) options() origin.S3 {
	s := origin.S3{Endpoint: o.endpoint, Region: o.region, Anonymous: o.anonymous}
	if style, err := strconv.ParseBool(o.pathStyle); err == nil {
		s.PathStyle = &style
	}
	return s
}

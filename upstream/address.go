package upstream

import (
	"fmt"
	"net/url"
	"path"
	"strings"

	"aesthetic.computer/isofs/base"
	"aesthetic.computer/isofs/fault"
	"aesthetic.computer/isofs/origin"
)

// manifestOf is where the manifest of a base's address is: in the folder, or the
// address itself, if that names a *.json.
func manifestOf(address string) (string, error) {
	if namesManifest(address) {
		return address, nil
	}
	return join(address, base.ManifestName)
}

// imageOf is where the image of a base's address is: beside the manifest.
func imageOf(address string) (string, error) {
	if !namesManifest(address) {
		return join(address, base.ImageName)
	}
	if hasQuery(address) {
		return "", fmt.Errorf("%s is the address of one object and says not where %s is: give that one's own address with --mirror: %w",
			origin.Redact(address), base.ImageName, fault.Invalid)
	}
	return address[:strings.LastIndex(address, "/")+1] + base.ImageName, nil
}

// join appends a file's name to a folder's path or URL. A URL with a query is
// refused, since the query (a signature, a version) is of one object.
func join(address, name string) (string, error) {
	if hasQuery(address) {
		return "", fmt.Errorf("%s has a query, so %s cannot be put behind it: name the objects one by one, --base as .../%s?... and the image with --mirror: %w",
			origin.Redact(address), name, base.ManifestName, fault.Invalid)
	}
	return origin.Join(address, name), nil
}

// namesManifest reports whether an address is that of a manifest.
func namesManifest(address string) bool {
	if u := webURL(address); u != nil {
		return path.Ext(u.Path) == ".json"
	}
	return path.Ext(address) == ".json"
}

// hasQuery reports whether an address is a URL with a query.
func hasQuery(address string) bool {
	u := webURL(address)
	return u != nil && (u.RawQuery != "" || u.ForceQuery)
}

// webURL is address if it is an http or https URL, else nil. In paths and in the
// keys of a bucket a question mark is a character.
func webURL(address string) *url.URL {
	if u, err := url.Parse(address); err == nil && (u.Scheme == "http" || u.Scheme == "https") {
		return u
	}
	return nil
}

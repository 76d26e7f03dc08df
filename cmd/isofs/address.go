package main

import (
	"fmt"
	"net/url"
	"path"
	"strings"

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

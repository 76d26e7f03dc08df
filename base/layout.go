package base

import (
	"cmp"
	"crypto/sha256"
	"fmt"
	"path"
	"strconv"
	"strings"
	"time"

	"aesthetic.computer/isofs/fault"
)

// Names of the files of a version.
const (
	ImageName             = "base.iso"
	ManifestName          = "manifest.json"
	ManifestSignatureName = ManifestName + signatureSuffix
)

const signatureSuffix = ".asc"

// Folders in a place where bases are published.
const (
	basesDir    = "bases"
	channelsDir = "channels"
)

// KindPath is the folder of all versions of a flavor and architecture, below
// the root of a place where bases are published.
func KindPath(flavor, arch string) string { return path.Join(basesDir, flavor, arch) }

// VersionPath is the folder of one version.
func VersionPath(flavor, arch, version string) string {
	return path.Join(KindPath(flavor, arch), version)
}

// ChannelDir is the folder of all channels.
func ChannelDir() string { return channelsDir }

// ChannelPath is the file of a channel.
func ChannelPath(flavor, arch string) string {
	return path.Join(channelsDir, flavor+"-"+arch+".json")
}

// ChannelSignaturePath is the file of the signature of a channel whose file has
// the given content: channels/tiny-amd64.7-0123456789abcdef.asc. Each content
// has another one, so that a signature is never beside a channel that it does
// not sign.
func ChannelSignaturePath(c *Channel, content []byte) string {
	sum := sha256.Sum256(content)
	return fmt.Sprintf("%s/%s-%s.%d-%x%s", channelsDir, c.Flavor, c.Arch, c.Revision, sum[:8], signatureSuffix)
}

// SplitChannelSignature returns the revision that a signature file is for. ok
// is false if the file is not one of this channel.
func SplitChannelSignature(name, flavor, arch string) (revision int64, ok bool) {
	rest, mine := strings.CutPrefix(name, channelsDir+"/"+flavor+"-"+arch+".")
	rest, isSignature := strings.CutSuffix(rest, signatureSuffix)
	digits, _, hasSum := strings.Cut(rest, "-")
	revision, err := strconv.ParseInt(digits, 10, 64)
	return revision, mine && isSignature && hasSum && err == nil && revision > 0
}

// SplitChannelPath splits the path or URL of a channel: the part before
// channels/<flavor>-<arch>.json, "." if that is empty, and the two names.
func SplitChannelPath(address string) (root, flavor, arch string, err error) {
	dir, file := path.Split(address)
	name, isJSON := strings.CutSuffix(file, ".json")
	flavor, arch, isKind := strings.Cut(name, "-")
	root, inChannels := strings.CutSuffix("/"+dir, "/"+channelsDir+"/")
	if !isJSON || !isKind || !inChannels || checkKind(flavor, arch) != nil {
		return "", "", "", fmt.Errorf("no address like .../%s: %w", ChannelPath("FLAVOR", "ARCH"), fault.Invalid)
	}
	switch root {
	case "":
		return ".", flavor, arch, nil // a relative path
	case "/":
		return "/", flavor, arch, nil
	}
	return root[1:], flavor, arch, nil
}

// CompareVersions orders versions by their date and then by their number. Both
// must be versions.
func CompareVersions(a, b string) int {
	day := func(v string) string { return v[:min(len(v), len(time.DateOnly))] }
	return cmp.Or(strings.Compare(day(a), day(b)), cmp.Compare(versionNumber(a), versionNumber(b)))
}

func versionNumber(v string) int {
	_, digits, _ := strings.Cut(v, ".")
	n, _ := strconv.Atoi(digits) // no number is 0
	return n
}

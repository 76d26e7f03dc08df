package vfs

import "strings"

const (
	// imageEnd ends the file name of every image.
	imageEnd = "-os.iso"
	// snapshotsName is the folder of the snapshots in the root.
	snapshotsName = "s"
	// idDigits is the length of a snapshot's id.
	idDigits = 32
)

// splitName splits "notepat-os.iso.sha256" into the image's file name and the
// suffix of the sidecar, which is empty for the image itself. It says no to
// names that no image can have, so that the probes of desktops and crawlers
// (".Trash", "autorun.inf", "favicon.ico") never reach the Tree.
func splitName(name string) (fileName, suffix string, ok bool) {
	fileName = name
	if !strings.HasSuffix(name, imageEnd) {
		at := strings.LastIndex(name, imageEnd+".")
		if at < 0 {
			return "", "", false
		}
		fileName, suffix = name[:at+len(imageEnd)], name[at+len(imageEnd)+1:]
		if !validSuffix(suffix) {
			return "", "", false
		}
	}
	if len(fileName) == len(imageEnd) || fileName[0] == '.' {
		return "", "", false
	}
	for _, b := range []byte(fileName) {
		if b < ' ' || b == 0x7f {
			return "", "", false
		}
	}
	return fileName, suffix, true
}

// validSuffix admits "sha256" and "bmap.asc", and no empty part.
func validSuffix(suffix string) bool {
	for part := range strings.SplitSeq(suffix, ".") {
		if part == "" || strings.Trim(part, "abcdefghijklmnopqrstuvwxyz0123456789") != "" {
			return false
		}
	}
	return true
}

// sidecarName is the inverse of splitName.
func sidecarName(fileName, suffix string) string {
	if suffix == "" {
		return fileName
	}
	return fileName + "." + suffix
}

// validID admits 32 lower-case hex digits.
func validID(name string) bool {
	return len(name) == idDigits && strings.Trim(name, "0123456789abcdef") == ""
}

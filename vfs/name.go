package vfs

import "strings"

const (
	// imageEnd ends the file name of every image, slotEnd that of what is in an
	// image's slot alone.
	imageEnd = "-os.iso"
	slotEnd  = "-piece.img"
	// snapshotsName is the folder of the snapshots in the root.
	snapshotsName = "s"
	// idDigits is the length of a snapshot's id.
	idDigits = 32
)

// splitName splits "notepat-os.iso.sha256" into the image's file name and the
// suffix of the sidecar, which is empty for the image itself. It refuses names
// that no image can have. So the probes of desktops and crawlers (".Trash",
// "autorun.inf", "favicon.ico") never reach the Tree.
func splitName(name string) (fileName, suffix string, ok bool) {
	fileName, suffix, end := splitAt(name, imageEnd)
	if end == "" {
		fileName, suffix, end = splitAt(name, slotEnd)
	}
	if end == "" || suffix != "" && !validSuffix(suffix) || fileName == end || fileName[0] == '.' {
		return "", "", false
	}
	for _, b := range []byte(fileName) {
		if b < ' ' || b == 0x7f {
			return "", "", false
		}
	}
	return fileName, suffix, true
}

// splitAt splits name behind end, and returns the end that it found.
func splitAt(name, end string) (fileName, suffix, found string) {
	if strings.HasSuffix(name, end) {
		return name, "", end
	}
	at := strings.LastIndex(name, end+".")
	if at < 0 || at+len(end)+1 == len(name) {
		return "", "", ""
	}
	return name[:at+len(end)], name[at+len(end)+1:], end
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

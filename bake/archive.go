package bake

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"aesthetic.computer/isofs/fault"
)

// DebianRelease is the release of Debian in the flavor debian.
const DebianRelease = "trixie"

// archiveKeyring has the keys of Debian's archive.
const archiveKeyring = "/usr/share/keyrings/debian-archive-keyring.gpg"

// An archive is a source of Debian's packages.
type archive struct {
	main, security string // addresses; security may be ""
}

// hostArchive finds the mirrors that this machine's apt uses, under etc, which
// is /etc/apt. Its release may be another: mirrors have all of them.
func hostArchive(etc string) (archive, error) {
	var a archive
	lists, _ := filepath.Glob(filepath.Join(etc, "sources.list.d", "*.list"))
	lists = append([]string{filepath.Join(etc, "sources.list")}, lists...)
	stanzas, _ := filepath.Glob(filepath.Join(etc, "sources.list.d", "*.sources"))
	for _, name := range append(lists, stanzas...) {
		data, err := os.ReadFile(name)
		if err != nil {
			continue
		}
		for _, s := range parseSources(string(data), strings.HasSuffix(name, ".sources")) {
			a.take(s)
		}
	}
	if a.main == "" {
		return a, fmt.Errorf("%s names no mirror of Debian: pass one: %w", etc, fault.NotFound)
	}
	return a, nil
}

// take uses an address that looks like Debian's.
func (a *archive) take(uri string) {
	uri = strings.TrimSuffix(uri, "/")
	switch last := uri[strings.LastIndexByte(uri, '/')+1:]; {
	case !strings.HasPrefix(uri, "http://") && !strings.HasPrefix(uri, "https://"):
	case last == "debian" && a.main == "":
		a.main = uri
	case last == "debian-security" && a.security == "":
		a.security = uri
	}
}

// parseSources reads the addresses out of either form of apt's list of sources
// (sources.list(5)).
func parseSources(text string, stanzas bool) (found []string) {
	of := addressOfLine
	if stanzas {
		of = addressOfField
	}
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if strings.HasPrefix(line, "#") {
			continue
		}
		if address := of(line); address != "" {
			found = append(found, address)
		}
	}
	return found
}

// addressOfLine reads  deb [options] uri suite components.
func addressOfLine(line string) string {
	f := strings.Fields(line)
	if len(f) > 1 && f[0] == "deb" && strings.HasPrefix(f[1], "[") {
		end := slices.IndexFunc(f, func(w string) bool { return strings.HasSuffix(w, "]") })
		f = slices.Delete(f, 1, end+1)
	}
	if len(f) < 3 || f[0] != "deb" {
		return ""
	}
	return f[1]
}

// addressOfField reads  URIs: uri ...  of a stanza.
func addressOfField(line string) string {
	key, value, _ := strings.Cut(line, ":")
	if f := strings.Fields(value); len(f) > 0 && strings.EqualFold(key, "URIs") {
		return f[0]
	}
	return ""
}

// lines are the sources of the release, as mmdebstrap takes them: all that is
// free, and firmware.
func (a archive) lines() []string {
	line := func(address, suite string) string {
		return "deb [signed-by=" + archiveKeyring + "] " + address + " " + suite + " main non-free-firmware"
	}
	lines := []string{line(a.main, DebianRelease), line(a.main, DebianRelease+"-updates")}
	if a.security != "" {
		lines = append(lines, line(a.security, DebianRelease+"-security"))
	}
	return lines
}

package vfs

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// mostHolders bounds how many processes a message names.
const mostHolders = 8

// A holder is a process that keeps a mount busy.
type holder struct {
	pid  int
	name string // "nginx"
	by   string // "notepat-os.iso"
}

// holders lists the processes that have a file of the mount at point open,
// mapped, or as their folder, as far as this process may look. It only reads
// /proc, so it cannot hang on the mount.
func holders(point string) []holder {
	processes, err := os.ReadDir("/proc")
	if err != nil {
		return nil
	}
	var list []holder
	for _, process := range processes {
		pid, err := strconv.Atoi(process.Name())
		if err != nil {
			continue
		}
		dir := filepath.Join("/proc", process.Name())
		if by := heldBy(dir, point); by != "" {
			name, _ := os.ReadFile(filepath.Join(dir, "comm"))
			list = append(list, holder{pid, strings.TrimSpace(string(name)), by})
		}
	}
	slices.SortFunc(list, func(a, b holder) int { return a.pid - b.pid })
	return list
}

// heldBy says by what the process at dir holds point, or "".
func heldBy(dir, point string) string {
	if link, err := os.Readlink(filepath.Join(dir, "cwd")); err == nil && below(point, link) {
		return "it is its working folder"
	}
	if link, err := os.Readlink(filepath.Join(dir, "root")); err == nil && below(point, link) {
		return "it is its root folder"
	}
	fds, _ := os.ReadDir(filepath.Join(dir, "fd"))
	for _, fd := range fds {
		if link, err := os.Readlink(filepath.Join(dir, "fd", fd.Name())); err == nil && below(point, link) {
			return "has open " + link
		}
	}
	maps, err := os.Open(filepath.Join(dir, "maps"))
	if err != nil {
		return ""
	}
	defer maps.Close()
	for lines := bufio.NewScanner(maps); lines.Scan(); {
		// The path is the rest of the line from the first slash on.
		if at := strings.IndexByte(lines.Text(), '/'); at >= 0 && below(point, lines.Text()[at:]) {
			return "has mapped " + lines.Text()[at:]
		}
	}
	return ""
}

// below reports whether path is point or in it.
func below(point, path string) bool {
	rest, ok := strings.CutPrefix(path, point)
	return ok && (rest == "" || rest[0] == '/')
}

// describe returns holders in words.
func describe(list []holder) string {
	if len(list) == 0 {
		return "by processes that cannot be seen from here, or by names that are being looked up"
	}
	var words []string
	for _, h := range list[:min(len(list), mostHolders)] {
		words = append(words, fmt.Sprintf("%s (process %d) %s", h.name, h.pid, h.by))
	}
	if more := len(list) - mostHolders; more > 0 {
		words = append(words, fmt.Sprintf("and %d more", more))
	}
	return strings.Join(words, ", ")
}

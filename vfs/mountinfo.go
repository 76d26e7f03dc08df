package vfs

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"aesthetic.computer/isofs/fault"
)

// A mounted is a line of /proc/self/mountinfo (proc_pid_mountinfo(5)).
type mounted struct {
	device  string // "0:45"
	point   string
	fsType  string // "fuse.isofs"
	source  string
	options string // "rw,user_id=0,group_id=0,allow_other,max_read=1048576"
}

// topMount returns the uppermost mount at exactly the path point, which must be
// resolved, or nil. It asks no file system anything, so it cannot hang.
func topMount(point string) (*mounted, error) {
	f, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return nil, fmt.Errorf("list mounts: %w: %w", fault.Unavailable, err)
	}
	defer f.Close()
	var top *mounted
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if m := parseMount(lines.Text()); m != nil && m.point == point {
			top = m // later lines were mounted later
		}
	}
	return top, nil
}

// parseMount reads "36 35 98:0 /root /point rw,noatime master:1 - ext3 /dev/root rw".
func parseMount(line string) *mounted {
	front, back, ok := strings.Cut(line, " - ")
	if !ok {
		return nil
	}
	left, right := strings.Fields(front), strings.Fields(back)
	if len(left) < 5 || len(right) < 3 {
		return nil
	}
	return &mounted{
		device:  left[2],
		point:   unescape(left[4]),
		fsType:  right[0],
		source:  unescape(right[1]),
		options: right[2],
	}
}

// number returns the option name=number, or -1.
func (m *mounted) number(name string) int {
	for option := range strings.SplitSeq(m.options, ",") {
		if value, ok := strings.CutPrefix(option, name+"="); ok {
			if n, err := strconv.Atoi(value); err == nil {
				return n
			}
		}
	}
	return -1
}

// unescape turns the octal \040 of mountinfo into a blank, and so on.
func unescape(field string) string {
	var out strings.Builder
	for i := 0; i < len(field); i++ {
		if field[i] == '\\' && i+3 < len(field) {
			if code, err := strconv.ParseUint(field[i+1:i+4], 8, 8); err == nil {
				out.WriteByte(byte(code))
				i += 3
				continue
			}
		}
		out.WriteByte(field[i])
	}
	return out.String()
}

// resolve makes path absolute and resolves the links of its parents. It leaves the
// last name alone, as a look at that may wait for a server that does not answer.
func resolve(path string) (string, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return "", fmt.Errorf("mount point %s: %w: %w", path, fault.Invalid, err)
	}
	parent, err := filepath.EvalSymlinks(filepath.Dir(abs))
	if os.IsNotExist(err) {
		return abs, nil // nothing can be mounted there
	}
	if err != nil {
		return "", fmt.Errorf("mount point %s: %w: %w", path, fault.Invalid, err)
	}
	return filepath.Join(parent, filepath.Base(abs)), nil
}

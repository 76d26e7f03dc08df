package stick

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"aesthetic.computer/isofs/fault"
)

// A Host is the machine that sticks are in, as the kernel shows it.
type Host struct {
	// Root is where its /sys and /proc are; "": the real ones.
	Root string
	// Stat describes a path; nil is os.Stat.
	Stat func(path string) (Node, error)
}

// A Node is what there is at a path.
type Node struct {
	Number string // "8:16" of a block device, else ""
	File   bool   // a plain file
	Size   int64  // of a plain file
}

// A Device is a disk, or a file with an image in it.
type Device struct {
	Path  string
	File  bool
	Size  int64
	Model string // "SanDisk Cruzer", "" if the kernel does not know
	Bus   string // "USB", "SD card", "" for others

	// uses are the reasons to leave it alone.
	uses []Refusal
}

// A Refusal is why a device is not written to.
type Refusal struct {
	Text string
	// Forceable is true if the user may override it.
	Forceable bool
}

// A RefusedError lists why a device is not written to. It wraps fault.Invalid.
type RefusedError struct {
	Path string
	Why  []Refusal
}

// Error lists the reasons, and whether --force helps.
func (e *RefusedError) Error() string {
	s := fmt.Sprintf("%s is not written to:", e.Path)
	forceable := true
	for _, r := range e.Why {
		s += "\n  " + r.Text
		forceable = forceable && r.Forceable
	}
	if forceable {
		s += "\nif you are sure that it is the right one, --force does it all the same"
	}
	return s
}

// Unwrap returns fault.Invalid.
func (e *RefusedError) Unwrap() error { return fault.Invalid }

// Check returns a *RefusedError if the device must not be written to. Force
// overrides the reasons that are Forceable.
func (d *Device) Check(force bool) error {
	var why []Refusal
	for _, r := range d.uses {
		if !force || !r.Forceable {
			why = append(why, r)
		}
	}
	if len(why) > 0 {
		return &RefusedError{d.Path, why}
	}
	return nil
}

// Busy reports whether something on the device is mounted or in use, so that no
// process can have it alone.
func (d *Device) Busy() bool {
	return slices.ContainsFunc(d.uses, func(r Refusal) bool { return strings.HasPrefix(r.Text, inUse) })
}

// inUse begins the reasons for which the kernel would refuse an exclusive open.
const inUse = "in use: "

func (d *Device) refuse(forceable bool, format string, args ...any) {
	d.uses = append(d.uses, Refusal{fmt.Sprintf(format, args...), forceable})
}

func (h Host) path(parts ...string) string {
	return filepath.Join(append([]string{h.Root, "/"}, parts...)...)
}

func (h Host) stat(path string) (Node, error) {
	if h.Stat != nil {
		return h.Stat(path)
	}
	fi, err := os.Stat(path)
	if err != nil {
		return Node{}, err
	}
	var st unix.Stat_t
	if fi.Mode()&os.ModeDevice != 0 && fi.Mode()&os.ModeCharDevice == 0 {
		if err := unix.Stat(path, &st); err != nil {
			return Node{}, err
		}
		return Node{Number: fmt.Sprintf("%d:%d", unix.Major(st.Rdev), unix.Minor(st.Rdev))}, nil
	}
	return Node{File: fi.Mode().IsRegular(), Size: fi.Size()}, nil
}

// Device describes path. Only a path that is neither a block device nor a file
// is an error; all other objections are for Device.Check.
func (h Host) Device(path string) (*Device, error) {
	node, err := h.stat(path)
	if err != nil {
		return nil, fmt.Errorf("look at %s: %w: %w", path, fault.NotFound, err)
	}
	d := &Device{Path: path, File: node.File, Size: node.Size}
	switch {
	case node.File:
		h.lookForLoops(d)
		return d, nil
	case node.Number == "":
		return nil, fmt.Errorf("%s is neither a disk nor a file: %w", path, fault.Invalid)
	}
	dir, err := filepath.EvalSymlinks(h.path("sys/dev/block", node.Number))
	if err != nil {
		return nil, fmt.Errorf("look at %s: the kernel knows no block device %s: %w: %w", path, node.Number, fault.NotFound, err)
	}
	if h.has(dir, "partition") {
		d.refuse(false, "it is partition %s of %s: give the whole disk", h.read(dir, "partition"), filepath.Base(filepath.Dir(dir)))
	}
	sectors, _ := strconv.ParseInt(h.read(dir, "size"), 10, 64) // not known is 0
	d.Size = sectors * sector
	d.Model = strings.TrimSpace(h.read(dir, "device/vendor") + " " + h.read(dir, "device/model"))
	if d.Model == "" {
		d.Model = h.read(dir, "device/name") // of an SD card
	}
	h.lookAtKind(d, dir)
	h.lookForUses(d, dir)
	return d, nil
}

// usbPath matches the paths of devices behind a USB controller.
var usbPath = regexp.MustCompile(`/usb\d+/`)

// lookAtKind refuses what is not a stick.
func (h Host) lookAtKind(d *Device, dir string) {
	switch {
	case usbPath.MatchString(dir + "/"):
		d.Bus = "USB"
	case h.read(dir, "device/type") == "SD":
		d.Bus = "SD card"
	case h.read(dir, "removable") != "1":
		d.refuse(true, "it is not removable: neither on USB, nor an SD card, nor what the kernel calls removable")
	}
	if h.read(dir, "ro") == "1" {
		d.refuse(false, "it is read-only: look for a switch on its side")
	}
	if size := h.read(dir, "queue/logical_block_size"); size != "" && size != strconv.Itoa(sector) {
		d.refuse(false, "it has sectors of %s bytes; images have a partition table for %d", size, sector)
	}
}

// lookForUses refuses a disk if something on it is mounted, is swapped to, or
// belongs to another device (LVM, LUKS, RAID, loop).
func (h Host) lookForUses(d *Device, dir string) {
	members := map[string]string{} // number to name
	h.gather(members, dir)
	for _, line := range h.mounts() {
		number, at := line.number, line.at
		if _, ours := members[number]; !ours {
			// btrfs and others have other numbers.
			node, err := h.stat(line.source)
			if number = node.Number; !strings.HasPrefix(line.source, "/") || err != nil || members[number] == "" {
				continue
			}
		}
		if at == "/" {
			d.refuse(false, inUse+"it holds the running system (%s is mounted at /)", members[number])
			continue
		}
		d.refuse(true, inUse+"%s is mounted at %s: umount it first", members[number], at)
	}
	for _, line := range h.lines("proc/swaps") {
		node, err := h.stat(strings.Fields(line + " -")[0])
		if name := members[node.Number]; err == nil && name != "" {
			d.refuse(false, inUse+"the system swaps to %s", name)
		}
	}
	for _, name := range sortedHolders(members, filepath.Base(dir)) {
		d.refuse(true, inUse+"%s lies on it", name)
	}
}

// sortedHolders returns the members that are neither the disk nor partitions of
// it.
func sortedHolders(members map[string]string, disk string) []string {
	var names []string
	for _, name := range members {
		if !strings.HasPrefix(name, disk) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// gather adds the device in dir, its partitions and all that lies on them.
func (h Host) gather(members map[string]string, dir string) {
	number := h.read(dir, "dev")
	if _, seen := members[number]; seen || number == "" {
		return
	}
	members[number] = filepath.Base(dir)
	entries, _ := os.ReadDir(dir) // none is nothing to gather
	for _, e := range entries {
		if h.has(filepath.Join(dir, e.Name()), "partition") {
			h.gather(members, filepath.Join(dir, e.Name()))
		}
	}
	holders, _ := os.ReadDir(filepath.Join(dir, "holders"))
	for _, e := range holders {
		if holder, err := filepath.EvalSymlinks(h.path("sys/class/block", e.Name())); err == nil {
			h.gather(members, holder)
		}
	}
}

// lookForLoops refuses a file that a loop device shows as a disk.
func (h Host) lookForLoops(d *Device) {
	own, err := filepath.Abs(d.Path)
	if err == nil {
		own, err = filepath.EvalSymlinks(own)
	}
	if err != nil {
		return // there is nothing to compare
	}
	loops, _ := filepath.Glob(h.path("sys/block/loop*/loop/backing_file")) // the pattern is right
	for _, loop := range loops {
		if strings.TrimSpace(h.readFile(loop)) == own {
			d.refuse(true, inUse+"%s shows it as a disk: losetup -d first, or give that", filepath.Base(filepath.Dir(filepath.Dir(loop))))
		}
	}
}

// A mounted is a line of mountinfo (proc_pid_mountinfo(5)).
type mounted struct{ number, at, source string }

// mounts lists the mounts here, and those of the system where this process may
// read them: a container has other mounts.
func (h Host) mounts() []mounted {
	var list []mounted
	seen := map[mounted]bool{}
	for _, file := range []string{"proc/self/mountinfo", "proc/1/mountinfo"} {
		for _, line := range h.lines(file) {
			head, tail, _ := strings.Cut(line, " - ")
			fields, end := strings.Fields(head), strings.Fields(tail)
			if len(fields) < 5 || len(end) < 2 {
				continue
			}
			m := mounted{fields[2], unescape(fields[4]), unescape(end[1])}
			if !seen[m] {
				seen[m] = true
				list = append(list, m)
			}
		}
	}
	return list
}

// unescape undoes the octal escapes of space, tab, newline and backslash.
func unescape(s string) string {
	return strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`).Replace(s)
}

func (h Host) lines(file string) []string {
	f, err := os.Open(h.path(file))
	if err != nil {
		return nil
	}
	defer f.Close()
	var list []string
	for s := bufio.NewScanner(f); s.Scan(); {
		list = append(list, s.Text())
	}
	return list
}

func (h Host) has(dir, name string) bool {
	_, err := os.Stat(filepath.Join(dir, name))
	return err == nil
}

func (h Host) read(dir, name string) string {
	return strings.TrimSpace(h.readFile(filepath.Join(dir, name)))
}

// readFile returns "" for a missing file.
func (h Host) readFile(path string) string {
	data, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	return string(data)
}

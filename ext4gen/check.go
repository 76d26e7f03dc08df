package ext4gen

import (
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"aesthetic.computer/isofs/fault"
)

// check refuses all that would not make a sound volume, except files that are
// too big.
func check(o Options, files []File) error {
	if err := checkSize(o.Size); err != nil {
		return err
	}
	switch {
	case len(o.Label) > maxLabelLen:
		return fmt.Errorf("the label has %d bytes, more than %d: %w", len(o.Label), maxLabelLen, fault.Invalid)
	case strings.Contains(o.Label, "\x00") || !utf8.ValidString(o.Label):
		return fmt.Errorf("the label %q is not UTF-8 without NUL: %w", o.Label, fault.Invalid)
	case o.UUID == [16]byte{}:
		// blkid ignores this UUID, and only the UUID distinguishes two sticks
		// of one label. A caller that passes it has forgotten to derive one.
		return fmt.Errorf("the UUID is all zero: %w", fault.Invalid)
	case o.Time < minTime || o.Time > maxTime:
		return fmt.Errorf("an inode cannot hold the time %d, only %d to %d: %w", o.Time, int64(minTime), int64(maxTime), fault.Invalid)
	}
	return checkFiles(files)
}

func checkSize(size int64) error {
	switch {
	case size < MinSize || size > MaxSize:
		return fmt.Errorf("the volume has %d bytes, not %d to %d: %w", size, MinSize, MaxSize, fault.Invalid)
	case size%BlockSize != 0:
		return fmt.Errorf("the volume has %d bytes, not a multiple of %d: %w", size, BlockSize, fault.Invalid)
	}
	return nil
}

func checkFiles(files []File) error {
	need := recLen(".") + recLen("..") + recLen(lostFound)
	for i, f := range files {
		if err := checkName(f.Name); err != nil {
			return fmt.Errorf("file %d: %w", i+1, err)
		}
		if f.Source == nil {
			return fmt.Errorf("file %q has no source: %w", f.Name, fault.Invalid)
		}
		// Also bounds the number of files, to fewer than there are inodes.
		if need += recLen(f.Name); need > dirSpace {
			return fmt.Errorf("the names of the first %d of %d files exceed one directory block (%d of %d bytes): %w",
				i+1, len(files), need, dirSpace, fault.Invalid)
		}
	}
	names := make([]string, len(files))
	for i, f := range files {
		names[i] = f.Name
	}
	slices.Sort(names)
	for i := range names {
		if i > 0 && names[i] == names[i-1] {
			return fmt.Errorf("two files are named %q: %w", names[i], fault.Invalid)
		}
	}
	return nil
}

func checkName(name string) error {
	switch {
	case name == "":
		return fmt.Errorf("the name is empty: %w", fault.Invalid)
	case len(name) > maxNameLen:
		return fmt.Errorf("the name has %d bytes, more than %d: %w", len(name), maxNameLen, fault.Invalid)
	case name == "." || name == ".." || name == lostFound:
		return fmt.Errorf("the name %q is that of a directory: %w", name, fault.Invalid)
	case strings.ContainsAny(name, "/\x00"):
		return fmt.Errorf("the name %q contains a slash or NUL: %w", name, fault.Invalid)
	case !utf8.ValidString(name):
		return fmt.Errorf("the name %q is not UTF-8: %w", name, fault.Invalid)
	}
	return nil
}

package base

import (
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"strings"
	"time"

	"aesthetic.computer/isofs/fault"
	"aesthetic.computer/isofs/partition"
)

// Names become folders and parts of URLs, so they have a small alphabet.
var (
	versionForm = regexp.MustCompile(`^\d{4}-\d{2}-\d{2}(\.[1-9]\d{0,5})?$`)
	nameForm    = regexp.MustCompile(`^[a-z0-9_]+$`)
)

// Validate checks the manifest against itself. A field that can never be right
// is fault.Invalid. Fields that contradict each other are fault.Corrupt. The
// error names the field, and both values.
func (m *Manifest) Validate() error {
	for _, check := range []func() error{
		m.validateNames, m.validateSizes, m.validateSlot, m.validateHashes, m.validateBootFiles, m.validateMirrors,
		m.validateZsync, m.validateEmpty,
	} {
		if err := check(); err != nil {
			return err
		}
	}
	return nil
}

// CheckVersion reports whether s is a version: a date, YYYY-MM-DD, perhaps with
// ".N" for the further bases of that day. Errors wrap fault.Invalid.
func CheckVersion(s string) error {
	if !versionForm.MatchString(s) {
		return fmt.Errorf("version %.40q is not YYYY-MM-DD or YYYY-MM-DD.N (N from 1 on): %w", s, fault.Invalid)
	}
	if _, err := time.Parse(time.DateOnly, s[:len(time.DateOnly)]); err != nil {
		return fmt.Errorf("version %q begins with no date of the calendar: %w", s, fault.Invalid)
	}
	return nil
}

// checkKind checks the names of a flavor and an architecture.
func checkKind(flavor, arch string) error {
	for _, f := range []struct{ name, value string }{{"flavor", flavor}, {"arch", arch}} {
		if len(f.value) > maxNameLen || !nameForm.MatchString(f.value) {
			return fmt.Errorf("%s %.40q is not 1 to %d of a-z, 0-9 and _: %w", f.name, f.value, maxNameLen, fault.Invalid)
		}
	}
	return nil
}

func (m *Manifest) validateNames() error {
	if err := CheckVersion(m.Version); err != nil {
		return err
	}
	if err := checkKind(m.Flavor, m.Arch); err != nil {
		return err
	}
	if len(m.Fedora) > maxNameLen {
		return fmt.Errorf("fedora has %d characters, at most %d are allowed: %w", len(m.Fedora), maxNameLen, fault.Invalid)
	}
	if _, err := time.Parse(time.RFC3339, m.CreatedAt); err != nil || !strings.HasSuffix(m.CreatedAt, "Z") {
		return fmt.Errorf("createdAt %.40q is not an RFC 3339 time in UTC (2026-11-01T00:00:00Z): %w", m.CreatedAt, fault.Invalid)
	}
	return nil
}

func (m *Manifest) validateSizes() error {
	if m.TotalSize < MinSlotSize || m.TotalSize > MaxImageSize || m.TotalSize%partition.SectorSize != 0 {
		return fmt.Errorf("totalSize %d is not a multiple of %d in %d..%d: %w", m.TotalSize, partition.SectorSize, MinSlotSize, int64(MaxImageSize), fault.Invalid)
	}
	if b := m.BlockSize; b < minBlockSize || b > maxBlockSize || b&(b-1) != 0 {
		return fmt.Errorf("blockSize %d is not a power of two in %d..%d: %w", b, minBlockSize, maxBlockSize, fault.Invalid)
	}
	if n := m.blockCount(); n > maxBlocks {
		return fmt.Errorf("totalSize %d makes %d blocks of blockSize %d, at most %d are allowed; use larger blocks: %w",
			m.TotalSize, n, m.BlockSize, maxBlocks, fault.Invalid)
	}
	return nil
}

// blockCount is the number of blocks in TotalSize.
func (m *Manifest) blockCount() int64 { return (m.TotalSize + m.BlockSize - 1) / m.BlockSize }

func (m *Manifest) validateSlot() error {
	if err := checkSlot(m.slot(), m.TotalSize); err != nil {
		return err
	}
	if want := m.TotalSize - m.SlotEnd(); int64(len(m.Tail)) != want {
		return fmt.Errorf("tail has %d bytes, but %d lie between the slot's end %d and totalSize %d: %w",
			len(m.Tail), want, m.SlotEnd(), m.TotalSize, fault.Corrupt)
	}
	return nil
}

func (m *Manifest) validateHashes() error {
	if want := m.blockCount(); int64(len(m.Blocks)) != want {
		return fmt.Errorf("blocks has %d hashes, but totalSize %d makes %d blocks of %d bytes: %w",
			len(m.Blocks), m.TotalSize, want, m.BlockSize, fault.Corrupt)
	}
	if m.SHA256 == (Hash{}) {
		return fmt.Errorf("sha256 is missing: %w", fault.Invalid)
	}
	for i, h := range m.Blocks {
		if h == (Hash{}) {
			return fmt.Errorf("blocks: the hash of block %d is missing: %w", i, fault.Invalid)
		}
	}
	if _, err := m.ResumeSHA256(); err != nil {
		return err
	}
	_, err := m.ResumeSHA1()
	return err
}

func (m *Manifest) validateBootFiles() error {
	if len(m.BootFiles) > maxBootFiles {
		return fmt.Errorf("bootFiles has %d entries, at most %d are allowed: %w", len(m.BootFiles), maxBootFiles, fault.Invalid)
	}
	seen := map[string]bool{}
	for i, f := range m.BootFiles {
		if err := m.validateBootFile(f); err != nil {
			return fmt.Errorf("bootFiles: entry %d: %w", i, err)
		}
		if seen[f.Name] {
			return fmt.Errorf("bootFiles: entry %d: name %q is there twice: %w", i, f.Name, fault.Corrupt)
		}
		seen[f.Name] = true
	}
	return nil
}

func (m *Manifest) validateBootFile(f BootFile) error {
	if len(f.Name) > maxNameLen || !nameForm.MatchString(f.Name) {
		return fmt.Errorf("name %.40q is not 1 to %d of a-z, 0-9 and _: %w", f.Name, maxNameLen, fault.Invalid)
	}
	if len(f.Path) < 2 || len(f.Path) > 255 || f.Path[0] != '/' {
		return fmt.Errorf("path %.40q of %s is not an absolute path of at most 255 bytes: %w", f.Path, f.Name, fault.Invalid)
	}
	if f.Length <= 0 || f.Offset < 0 || f.Offset > m.PiecePartitionOffset-f.Length {
		return fmt.Errorf("%s at offset %d, length %d, does not lie before the slot at %d: %w",
			f.Name, f.Offset, f.Length, m.PiecePartitionOffset, fault.Corrupt)
	}
	if f.SHA256 == (Hash{}) {
		return fmt.Errorf("sha256 of %s is missing: %w", f.Name, fault.Invalid)
	}
	return nil
}

func (m *Manifest) validateMirrors() error {
	if len(m.Mirrors) > maxMirrors {
		return fmt.Errorf("mirrors has %d entries, at most %d are allowed: %w", len(m.Mirrors), maxMirrors, fault.Invalid)
	}
	seen := map[string]bool{}
	for i, address := range m.Mirrors {
		if err := checkMirror(address); err != nil {
			return fmt.Errorf("mirrors: entry %d: %w: %w", i, err, fault.Invalid)
		}
		if seen[address] {
			return fmt.Errorf("mirrors: entry %d is there twice: %w", i, fault.Corrupt)
		}
		seen[address] = true
	}
	return nil
}

// checkMirror checks the address of an image. The errors do not repeat it,
// since it may contain a secret.
func checkMirror(address string) error {
	if len(address) > maxAddress {
		return fmt.Errorf("an address of %d bytes, at most %d are allowed", len(address), maxAddress)
	}
	u, err := url.Parse(address)
	switch {
	case err != nil:
		return errors.New("not a URL")
	case u.Scheme != "http" && u.Scheme != "https" && u.Scheme != "s3":
		return errors.New("not an absolute address of http, https or s3")
	case u.User != nil:
		return errors.New("a manifest must not contain a user or password")
	case u.Hostname() == "" || strings.Trim(u.Path, "/") == "":
		return errors.New("no host, or no path of an image")
	case u.Fragment != "":
		return errors.New("a fragment (#) is of no use in an address")
	}
	return nil
}

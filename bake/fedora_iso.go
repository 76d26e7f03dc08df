package bake

import (
	"bufio"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"aesthetic.computer/isofs/fault"
)

// stageVerify is the first stage of a bake of the flavor fedora.
const stageVerify = "verify the ISO"

// An ISODigest identifies the expected ISO.
type ISODigest struct {
	// SHA256 is 64 hex digits; or
	SHA256 string
	// Checksum is the path of a file with lines of sha256sum --tag, as in
	// Fedora's CHECKSUM files.
	Checksum string
	// Keyring is the path of gpgv's keyring for the signature around the lines
	// of Checksum. "": the signature is not checked.
	Keyring string
}

// check refuses a digest with too few or too many fields.
func (d ISODigest) check() error {
	switch {
	case d.SHA256 == "" && d.Checksum == "":
		return fmt.Errorf("nothing says which ISO is meant: pass the CHECKSUM file that lies beside it where it was downloaded, or its SHA-256: %w", fault.Invalid)
	case d.SHA256 != "" && d.Checksum != "":
		return fmt.Errorf("both a SHA-256 and a CHECKSUM file are given: pass one of them: %w", fault.Invalid)
	case d.Keyring != "" && d.Checksum == "":
		return fmt.Errorf("a keyring is for the signature of a CHECKSUM file, and none is given: %w", fault.Invalid)
	}
	if _, err := hex.DecodeString(d.SHA256); d.SHA256 != "" && (err != nil || len(d.SHA256) != 2*sha256.Size) {
		return fmt.Errorf("SHA-256 %.80q is not 64 hex digits: %w", d.SHA256, fault.Invalid)
	}
	return nil
}

// verifyISO compares the ISO with the expected digest, and returns its digest.
func (j *job) verifyISO(ctx context.Context, path string, d ISODigest) (string, error) {
	want := strings.ToLower(d.SHA256)
	if d.Checksum != "" {
		text, err := j.readChecksums(ctx, d)
		if err != nil {
			return "", err
		}
		if want, err = findChecksum(text, filepath.Base(path)); err != nil {
			return "", fmt.Errorf("look into %s: %w", d.Checksum, err)
		}
	}
	f, err := os.Open(path)
	if err != nil {
		return "", fmt.Errorf("open the ISO: %w: %w", fault.Invalid, err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return "", err
	}
	h, done := sha256.New(), int64(0)
	for done < info.Size() {
		if ctx.Err() != nil {
			return "", context.Cause(ctx)
		}
		j.Progress(stageVerify, done, info.Size())
		n, err := io.CopyN(h, f, min(16<<20, info.Size()-done))
		if done += n; err != nil {
			return "", fmt.Errorf("read the ISO %s at %d: %w", path, done, err)
		}
	}
	j.Progress(stageVerify, done, info.Size())
	if got := hex.EncodeToString(h.Sum(nil)); got != want {
		return "", fmt.Errorf("%s has sha256 %s, %s is demanded: download it again (wget -c continues a part of it): %w", path, got, want, fault.Corrupt)
	}
	return want, nil
}

// readChecksums reads the CHECKSUM file. With a keyring it returns only the
// signed part.
func (j *job) readChecksums(ctx context.Context, d ISODigest) ([]byte, error) {
	path := d.Checksum
	if d.Keyring != "" {
		path = j.path("checksums")
		if _, err := j.run.output(ctx, j.scratch, "gpgv", "--keyring", d.Keyring, "--output", path, d.Checksum); err != nil {
			return nil, fmt.Errorf("check the signature of %s by %s: %w: %w", d.Checksum, d.Keyring, fault.Corrupt, err)
		}
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("read the CHECKSUM file: %w: %w", fault.Invalid, err)
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, 1<<20))
}

// checksumLine is a line of `sha256sum --tag`.
var checksumLine = regexp.MustCompile(`^SHA256 \((.+)\) = ([0-9A-Fa-f]{64})$`)

// findChecksum finds the digest of the file name.
func findChecksum(text []byte, name string) (digest string, err error) {
	var names []string
	for line := range strings.Lines(string(text)) {
		m := checksumLine.FindStringSubmatch(strings.TrimSpace(line))
		if m == nil {
			continue
		}
		names = append(names, m[1])
		if m[1] != name {
			continue
		}
		if digest != "" && !strings.EqualFold(digest, m[2]) {
			return "", fmt.Errorf("it has two checksums of %s: %w", name, fault.Invalid)
		}
		digest = strings.ToLower(m[2])
	}
	switch {
	case len(names) == 0:
		return "", fmt.Errorf("it has no line such as SHA256 (%s) = ...: it is not a CHECKSUM file: %w", name, fault.Invalid)
	case digest == "":
		return "", fmt.Errorf("it does not name %s, only %.300s; an ISO that was renamed needs its name back: %w", name, strings.Join(names, ", "), fault.NotFound)
	}
	return digest, nil
}

// readVolume reads the label of the ISO 9660, and its size as a file.
func readVolume(path string) (label string, size int64, err error) {
	f, err := os.Open(path)
	if err != nil {
		return "", 0, fmt.Errorf("open the ISO: %w: %w", fault.Invalid, err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return "", 0, err
	}
	p := make([]byte, isoSector)
	if _, err := f.ReadAt(p, isoPrimary*isoSector); err != nil && !errors.Is(err, io.EOF) {
		return "", 0, fmt.Errorf("read the ISO %s: %w: %w", path, fault.Invalid, err)
	}
	if p[0] != 1 || string(p[1:6]) != "CD001" {
		return "", 0, fmt.Errorf("%s is not an ISO 9660: pass a Fedora Live ISO: %w", path, fault.Invalid)
	}
	return strings.TrimSpace(string(p[40:72])), info.Size(), nil
}

// A release is Fedora's, as far as it is known: "43" and "43-1.6".
type release struct{ major, full string }

var releaseInName = regexp.MustCompile(`-(\d{2,3})(-(\d+\.\d+))?(\.|$)`)

// releaseOf reads the release from the ISO's name, or from its label if the
// file has another name.
func releaseOf(name, label string) release {
	name = strings.TrimSuffix(name, ".iso")
	for _, text := range []string{name, label} {
		// Before Fedora 42 the architecture came first: -x86_64-41-1.4.
		if m := releaseInName.FindStringSubmatch(text); m != nil {
			r := release{major: m[1], full: m[1]}
			if m[3] != "" {
				r.full += "-" + m[3]
			}
			return r
		}
	}
	return release{}
}

// osRelease reads the name of the root's system, and compares it with the ISO's
// name.
func (r release) osRelease(tree string) (string, error) {
	values := map[string]string{}
	text, err := readFirst(tree, "usr/lib/os-release", "etc/os-release")
	if err != nil {
		return "", fmt.Errorf("the root file system in the ISO has no os-release: it is not a Fedora: %w: %w", fault.Invalid, err)
	}
	for lines := bufio.NewScanner(strings.NewReader(string(text))); lines.Scan(); {
		key, value, _ := strings.Cut(lines.Text(), "=")
		values[key] = strings.Trim(value, `"'`)
	}
	version := values["VERSION_ID"]
	switch {
	case values["ID"] != "fedora" && !strings.Contains(" "+values["ID_LIKE"]+" ", " fedora "):
		return "", fmt.Errorf("the ISO has a root file system of %q, not of a Fedora: %w", cmp.Or(values["ID"], "unknown"), fault.Invalid)
	case version == "":
		return "", fmt.Errorf("the root file system's os-release has no VERSION_ID: %w", fault.Invalid)
	case r.major != "" && r.major != version:
		return "", fmt.Errorf("the ISO's name or label says Fedora %s, the root file system in it %s: %w", r.major, version, fault.Invalid)
	}
	return cmp.Or(r.full, version), nil
}

// unpackISO copies all files of the ISO to dir.
func (f *fedoraJob) unpackISO(ctx context.Context, dir string) error {
	if _, err := f.run.output(ctx, f.scratch, "xorriso", "-osirrox", "on", "-indev", "stdio:"+f.iso, "-extract", "/", dir); err != nil {
		return fmt.Errorf("copy the files out of the ISO %s: %w", f.iso, err)
	}
	if _, err := os.Stat(filepath.Join(dir, squashfsPath)); err != nil {
		return fmt.Errorf("the ISO %s has no %s: it is not a live system, and neither are Fedora's installers: %w", f.iso, squashfsPath, fault.NotFound)
	}
	return nil
}

// bootFile finds a file under dir, in upper or lower case.
func bootFile(dir, name string) (path string, err error) {
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	for _, e := range entries {
		if strings.EqualFold(e.Name(), name) && e.Type().IsRegular() {
			return filepath.Join(dir, e.Name()), nil
		}
	}
	return "", fmt.Errorf("the ISO has no EFI/BOOT/%s: it does not boot a PC by UEFI: %w", name, fault.NotFound)
}

// takeBoot copies shim and GRUB of the ISO in iso to dir.
func takeBoot(iso, dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	for name, needed := range map[string]bool{"BOOTX64.EFI": true, "grubx64.efi": true, "mmx64.efi": false} {
		path, err := bootFile(filepath.Join(iso, "EFI", "BOOT"), name)
		if err != nil {
			if needed {
				return err
			}
			continue
		}
		if err := copyFile(filepath.Join(dir, name), path); err != nil {
			return err
		}
	}
	return nil
}

// copyFile copies a file of some MB.
func copyFile(to, from string) error {
	data, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	return os.WriteFile(to, data, 0o644)
}

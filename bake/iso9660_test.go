package bake

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"aesthetic.computer/isofs/fault"
	"aesthetic.computer/isofs/integration/testkit"
)

// testVolume is a volume around a fake GRUB.
func testVolume() *isoVolume {
	return &isoVolume{
		volume: "ISOFS_TEST",
		time:   time.Unix(DefaultEpoch, 0).UTC(),
		total:  64 << 20,
		core:   bytes.Repeat([]byte("core!"), 1001),
		stub:   []byte("stub\n"),
	}
}

// The same inputs give the same bytes in every version of isofs.
func TestShellIsTheSameForEver(t *testing.T) {
	data, err := testVolume().bytes()
	if err != nil {
		t.Fatal(err)
	}
	const golden = "cda803996b63381a4feeaad44ee6a9414255101504927ca54cc6630c59279141"
	if got := hex.EncodeToString(sha256Sum(data)); got != golden {
		t.Errorf("sha256 %s, not %s", got, golden)
	}
}

func sha256Sum(data []byte) []byte {
	sum := sha256.Sum256(data)
	return sum[:]
}

// xorriso and isoinfo read back the written files.
func TestShellIsReadBack(t *testing.T) {
	xorriso, isoinfo := testkit.NeedTool(t, "xorriso", "xorriso"), testkit.NeedTool(t, "isoinfo", "genisoimage")
	s := testVolume()
	data, err := s.bytes()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	path := filepath.Join(dir, "volume.iso")
	if err := os.WriteFile(path, append(make([]byte, isoPrimary*isoSector), data...), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(path, s.total); err != nil {
		t.Fatal(err)
	}
	for file, want := range map[string][]byte{"/EFI/DEBIAN/GRUB.CFG;1": s.stub, "/BOOT/ELTORITO.IMG;1": s.bootableCore()} {
		if got := run(t, isoinfo, "-i", path, "-x", file); got != string(want) {
			t.Errorf("isoinfo reads %d bytes in %s, not the %d written", len(got), file, len(want))
		}
	}
	out := run(t, xorriso, "-indev", path, "-check_media", "--", "-osirrox", "on", "-extract", "/", filepath.Join(dir, "out"))
	for _, sign := range []string{"WARNING", "FAILURE", "SORRY"} {
		if strings.Contains(out, sign) {
			t.Errorf("xorriso: %s", out)
		}
	}
	if got, err := os.ReadFile(filepath.Join(dir, "out/EFI/DEBIAN/GRUB.CFG")); err != nil || !bytes.Equal(got, s.stub) {
		t.Errorf("xorriso reads %q, %v", got, err)
	}
}

func TestShellRefuses(t *testing.T) {
	for name, change := range map[string]func(*isoVolume){
		"volume name": func(s *isoVolume) { s.volume = "isofs" },
		"sectors":     func(s *isoVolume) { s.total += 512 },
		"as much as":  func(s *isoVolume) { s.core = make([]byte, 1<<20) },
		"GRUB for":    func(s *isoVolume) { s.core = nil },
		"first conf":  func(s *isoVolume) { s.stub = make([]byte, isoSector+1) },
	} {
		s := testVolume()
		change(s)
		if _, err := s.bytes(); fault.Kind(err) != fault.Invalid || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: got %v", name, err)
		}
	}
	if _, err := masterBoot(make([]byte, 511)); fault.Kind(err) != fault.Invalid {
		t.Errorf("a short boot sector: %v", err)
	}
}

// checkShell checks a baked image with tools for disks and CD-ROMs.
func checkShell(t *testing.T, r *Result) {
	t.Helper()
	out := run(t, testkit.NeedTool(t, "xorriso", "xorriso"), "-indev", r.Image, "-report_el_torito", "plain", "-report_system_area", "plain")
	for _, want := range []string{
		"Boot record  : El Torito , MBR protective-msdos-label grub2-mbr cyl-align-off GPT",
		"Volume id    : 'ISOFS_TINY'",
		"El Torito boot img :   1  BIOS  y   none  0x0000  0x00      4          27",
		"El Torito boot img :   2  UEFI  y   none  0x0000  0x00      0         512",
		"El Torito img opts :   1  boot-info-table grub2-boot-info",
		"GPT start and size :   1  2048  ",
		"GPT partname local :   3  PIECE",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("xorriso does not say %q:\n%s", want, out)
		}
	}
	if strings.Contains(out, "GPT partname local :   4") {
		t.Errorf("xorriso: a fourth partition:\n%s", out)
	}
	if out := run(t, testkit.NeedTool(t, "sfdisk", "fdisk"), "--verify", r.Image); !strings.Contains(out, "No errors detected") || !strings.Contains(out, "Using 3 out of 128 partitions") {
		t.Errorf("sfdisk: %s", out)
	}
	if out := run(t, testkit.NeedTool(t, "file", "file"), "--brief", r.Image); !strings.Contains(out, "'ISOFS_TINY' (bootable)") {
		t.Errorf("file: %s", out)
	}
}

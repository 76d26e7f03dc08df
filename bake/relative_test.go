package bake

import (
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"aesthetic.computer/isofs/integration/testkit"
)

// fakeTools puts testdata/tool in front of PATH under the names of the tools,
// changes to a new folder, and returns its path and the file with the calls.
func fakeTools(t *testing.T, tools ...string) (here, calls string) {
	t.Helper()
	if os.Geteuid() != 0 {
		testkit.Lack(t, "root: sudo go test ./bake")
	}
	tool, err := filepath.Abs("testdata/tool")
	if err != nil {
		t.Fatal(err)
	}
	bin := t.TempDir()
	for name := range toolPackages {
		tools = append(tools, name)
	}
	for _, name := range tools {
		if err := os.Symlink(tool, filepath.Join(bin, name)); err != nil {
			t.Fatal(err)
		}
	}
	here, calls = t.TempDir(), filepath.Join(bin, "calls")
	t.Setenv("PATH", bin+":"+os.Getenv("PATH"))
	t.Setenv("CALLS", calls)
	t.Chdir(here)
	return here, calls
}

// checkCalls wants these tools to have been called, none of them in the folder
// here, and no path below here given to one that is not absolute.
func checkCalls(t *testing.T, here, calls string, want ...string) {
	t.Helper()
	notes, err := os.ReadFile(calls)
	if err != nil {
		t.Fatal(err)
	}
	relative := regexp.MustCompile(`\bthe[-.](work|bases|iso|checksums|keys)`)
	var called []string
	for line := range strings.Lines(string(notes)) {
		fields := strings.Split(strings.TrimSpace(line), "\t")
		if fields[0] == here {
			t.Errorf("%s ran in the folder that the bake was started in: this test shows nothing", fields[1])
		}
		called = append(called, fields[1])
		for _, argument := range fields[2:] {
			if relative.MatchString(strings.ReplaceAll(argument, here+"/the", "")) {
				t.Errorf("%s, which runs in %s, is given %s", fields[1], fields[0], argument)
			}
		}
	}
	for _, tool := range want {
		if !slices.Contains(called, tool) {
			t.Errorf("%s was not called, only %v", tool, called)
		}
	}
}

// Tools run in another folder than the bake. So their paths are absolute,
// though the bake's own folders are relative, as in the Makefile.
func TestRelativePaths(t *testing.T) {
	t.Run("debian", func(t *testing.T) {
		here, calls := fakeTools(t, "mmdebstrap", "unshare", "tar", "xz")
		_, err := Debian(t.Context(), DebianOptions{WorkDir: "the-work", OutDir: "the-bases", Mirror: "http://archive.test/debian"})
		if err == nil || !strings.Contains(err.Error(), "mkfs.vfat is the last one") {
			t.Errorf("got %v", err)
		}
		checkCalls(t, here, calls, "unshare", "tar", "ld-linux-x86-64.so.2", "mke2fs", "debugfs", "mkfs.vfat")
		if kept, _ := filepath.Glob("the-work/steps/*/erofs/rootfs.erofs"); len(kept) != 1 {
			t.Errorf("the finished steps are %v", kept)
		}
	})
	t.Run("fedora", func(t *testing.T) {
		here, calls := fakeTools(t, "mmdebstrap", "unshare", "tar", "xorriso", "unsquashfs", "fuse2fs", "gpgv")
		iso := make([]byte, 64<<10)
		copy(iso[isoPrimary*isoSector:], "\x01CD001")
		sums := fmt.Sprintf("SHA256 (the.iso) = %x\n", sha256.Sum256(iso))
		for name, data := range map[string][]byte{"the.iso": iso, "the-checksums": []byte(sums), "the-keys": nil} {
			if err := os.WriteFile(name, data, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		_, err := Fedora(t.Context(), FedoraOptions{
			LiveISO: "the.iso", Want: ISODigest{Checksum: "the-checksums", Keyring: "the-keys"},
			DebianOptions: DebianOptions{WorkDir: "the-work", OutDir: "the-bases", Mirror: "http://archive.test/debian"},
		})
		if err == nil || !strings.Contains(err.Error(), "apt-get is the last one") {
			t.Errorf("got %v", err)
		}
		checkCalls(t, here, calls, "gpgv", "mmdebstrap", "tar", "xorriso", "unsquashfs", "unshare")
		for _, kept := range []string{"the-work/dnf", "the-work/tools", "the-work/steps"} {
			if _, err := os.Stat(kept); err != nil {
				t.Error(err)
			}
		}
	})
	t.Run("tiny", func(t *testing.T) {
		fakeTools(t)
		// The first tool of all ends the bake; the work directory exists by
		// then.
		_, err := Tiny(t.Context(), TinyOptions{WorkDir: "the-work", OutDir: "the-bases"})
		if err == nil || !strings.Contains(err.Error(), "apt-cache is the last one") {
			t.Errorf("got %v", err)
		}
	})
}

// A tool in a relative folder of PATH could not be started from another folder.
func TestRelativePATH(t *testing.T) {
	t.Setenv("PATH", "bin:.::/usr/bin")
	if got := searchPath(); !slices.Equal(got, []string{"/usr/bin", "/usr/sbin", "/sbin"}) {
		t.Errorf("tools are looked for in %v", got)
	}
}

package partition

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"aesthetic.computer/isofs/integration/testkit"
)

const mib = 1 << 20

// folderForVolumes makes a folder with a file of zeroes, one of noise, and a
// small one.
func folderForVolumes(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	noise := make([]byte, 700<<10)
	_, _ = rand.NewChaCha8([32]byte{3}).Read(noise)
	for name, content := range map[string][]byte{"zero": make([]byte, 3*mib), "noise": noise, "small": []byte("small")} {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func runTool(t *testing.T, pkg, name string, args ...string) string {
	t.Helper()
	out, err := exec.Command(testkit.NeedTool(t, name, pkg), args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %q: %v\n%s", name, args, err, out)
	}
	return string(out)
}

// The test compares with dumpe2fs, which lists the free blocks of each group.
func TestFreeSpaceOfExt4(t *testing.T) {
	t.Setenv("PATH", os.Getenv("PATH")+":/usr/sbin:/sbin")
	const off = 5 * 4096
	for _, o := range []string{"^uninit_bg", "64bit,metadata_csum", "^64bit,^flex_bg,^metadata_csum"} {
		path := filepath.Join(t.TempDir(), "volume")
		runTool(t, "e2fsprogs", "mke2fs", "-q", "-t", "ext4", "-b", "4096", "-O", o, "-E", fmt.Sprint("offset=", off), "-d", folderForVolumes(t), path, "400M")
		// dumpe2fs of Debian 13 has no option for an offset.
		alone := path + ".alone"
		runTool(t, "coreutils", "dd", "if="+path, "of="+alone, "bs=4096", fmt.Sprint("skip=", off/4096), "conv=sparse", "status=none")
		output := runTool(t, "e2fsprogs", "dumpe2fs", alone)
		var want []Span
		for _, group := range strings.Split(output, "\nGroup ")[1:] {
			first, rest, _ := strings.Cut(group, "\n")
			if strings.Contains(first, "BLOCK_UNINIT") {
				continue
			}
			for _, line := range regexp.MustCompile(`(?m)^  Free blocks: (.*)$`).FindAllStringSubmatch(rest, -1) {
				for _, text := range strings.Split(line[1], ", ") {
					var from, to int64
					if n, _ := fmt.Sscanf(text, "%d-%d", &from, &to); n == 1 {
						to = from
					} else if n == 0 {
						continue
					}
					want = appendSpan(want, Span{off + from*4096, (to - from + 1) * 4096})
				}
			}
		}
		if !strings.Contains(o, "^") && !strings.Contains(output, "BLOCK_UNINIT") {
			t.Logf("%s: this mke2fs leaves no group without a bitmap", o) // Debian 13's
		}
		disk, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		defer disk.Close()
		part := Span{off, 400 * mib}
		got, err := freeOfExt4(disk, part)
		if err != nil || len(want) == 0 || !reflect.DeepEqual(got, want) {
			t.Errorf("%s: got %v, %v\nwant %v\n%s", o, got, err, want, output)
		}
		if _, err := freeOfExt4(disk, Span{off, part.Size - 4096}); err == nil {
			t.Errorf("%s: an ext4 larger than its partition is believed", o)
		}
	}
}

// The test compares with fsck.fat, which counts clusters.
func TestFreeSpaceOfFAT(t *testing.T) {
	t.Setenv("PATH", os.Getenv("PATH")+":/usr/sbin:/sbin")
	dir := folderForVolumes(t)
	path := filepath.Join(t.TempDir(), "volume")
	runTool(t, "dosfstools", "mkfs.fat", "-C", "-F", "32", "-s", "2", path, fmt.Sprint(80<<10))
	runTool(t, "mtools", "mcopy", "-i", path, dir+"/zero", dir+"/noise", dir+"/small", "::")
	output := runTool(t, "dosfstools", "fsck.fat", "-n", path)
	var used, all int64
	if at := strings.Index(output, "files, "); at < 0 {
		t.Fatal(output)
	} else if _, err := fmt.Sscanf(output[at:], "files, %d/%d clusters", &used, &all); err != nil {
		t.Fatalf("%s: %v", output, err)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	part := Span{0, int64(len(data))}
	got, err := freeOfFAT(bytes.NewReader(data), part)
	if err != nil {
		t.Fatal(err)
	}
	var free int64
	for _, s := range got {
		free += s.Size
		if s.End() > part.End() || !bytes.Equal(data[s.Offset:s.End()], make([]byte, s.Size)) {
			t.Errorf("what is at [%d, %d) is not free", s.Offset, s.End())
		}
	}
	// Used noise of 700 KiB would show above. The 3 MiB of zeroes must count as
	// used.
	if free != (all-used)*1024 {
		t.Errorf("%d bytes are free, fsck.fat says %d of %d clusters are used", free, used, all)
	}
}

package ext4gen

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"aesthetic.computer/isofs/integration/testkit"
	backend "github.com/diskfs/go-diskfs/backend/file"
	"github.com/diskfs/go-diskfs/filesystem/ext4"
)

// readable are files with sizes around whole blocks.
func readable() []File {
	files := pieceFiles()
	for _, n := range []int{1, BlockSize - 1, BlockSize, BlockSize + 1} {
		files = append(files, file(fmt.Sprintf("%d-bytes", n), n))
	}
	return append(files, file("ünïcode ✂.html", 99), file(strings.Repeat("long", 63)+"est", 5_000_000))
}

func TestDebugfsReadsTheFiles(t *testing.T) {
	debugfs := testkit.NeedTool(t, "debugfs", "e2fsprogs")
	image := save(t, mustBuild(t, slot(), readable()...))
	for _, f := range readable() {
		if got := run(t, debugfs, "-R", fmt.Sprintf("cat \"/%s\"", f.Name), image); got != string(content(t, f.Source)) {
			t.Errorf("%s: other bytes (%d of them)", f.Name, len(got))
		}
	}
}

func TestGoDiskfsReadsTheFiles(t *testing.T) {
	// go-diskfs 1.9.4 panics at names of more than 247 bytes, which debugfs and
	// the kernel read.
	files := slices.DeleteFunc(readable(), func(f File) bool { return len(f.Name) > 247 })
	storage, err := backend.OpenFromPath(save(t, mustBuild(t, slot(), files...)), true)
	if err != nil {
		t.Fatal(err)
	}
	defer storage.Close()
	fs, err := ext4.Read(storage, slotSize, 0, 512)
	if err != nil {
		t.Fatal(err)
	}
	if label := fs.Label(); strings.TrimRight(label, "\x00") != "FEDAC-PIECE" {
		t.Errorf("label %q", label)
	}
	for _, f := range files {
		got, err := fs.ReadFile(f.Name)
		if err != nil || !bytes.Equal(got, content(t, f.Source)) {
			t.Errorf("%s: other bytes (%d of them), %v", f.Name, len(got), err)
		}
	}
	entries, err := fs.ReadDir(".")
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	for _, f := range append(files, File{Name: lostFound}) {
		if !slices.Contains(names, f.Name) {
			t.Errorf("%s is not listed among %q", f.Name, names)
		}
	}
}

func TestDumpe2fsSeesWhatWasAskedFor(t *testing.T) {
	out := run(t, testkit.NeedTool(t, "dumpe2fs", "e2fsprogs"), "-h", save(t, mustBuild(t, slot(), pieceFiles()...)))
	got := func(key string) string {
		_, rest, _ := strings.Cut(out, "\n"+key+":")
		line, _, _ := strings.Cut(rest, "\n")
		return strings.TrimSpace(line)
	}
	const epoch = "Thu Jan  1 00:00:00 1970"
	for key, want := range map[string]string{
		"Filesystem UUID":        "5a010203-0405-8607-8809-0a0b0c0d0e0f",
		"Filesystem features":    "ext_attr dir_index filetype extent 64bit sparse_super large_file huge_file dir_nlink extra_isize metadata_csum",
		"Filesystem flags":       "signed_directory_hash",
		"Filesystem state":       "clean",
		"Inode count":            "512",
		"Block count":            "5120",
		"Reserved block count":   "0",
		"Free blocks":            "4325", // 5120 - 41 - 733 - 1 - 2 - 0 - 18
		"Free inodes":            "496",
		"Block size":             "4096",
		"Last mount time":        "n/a",
		"Last write time":        epoch,
		"Last checked":           epoch,
		"Mount count":            "0",
		"Maximum mount count":    "-1",
		"Check interval":         "0 (<none>)",
		"Inode size":             "256",
		"Required extra isize":   "32",
		"Desired extra isize":    "32",
		"Directory Hash Seed":    "a50f0e0d-0c0b-8a09-8807-060504030201",
		"Checksum type":          "crc32c",
		"Last mounted on":        "<not available>",
		"Errors behavior":        "Continue",
		"Default directory hash": "half_md4",
		"Group descriptor size":  "64",
		"Default mount options":  "user_xattr acl",
		"Inode blocks per group": "32",
		"Blocks per group":       "32768",
		"First inode":            "11",
	} {
		if got(key) != want {
			t.Errorf("%s: %q, want %q", key, got(key), want)
		}
	}
	if !strings.HasPrefix(out, "Filesystem volume name:   FEDAC-PIECE\n") {
		t.Errorf("it begins %.60q", out)
	}
}

func TestTimesOfInodes(t *testing.T) {
	debugfs := testkit.NeedTool(t, "debugfs", "e2fsprogs")
	for _, unix := range []int64{0, 1, -1, minTime, 1<<31 - 1, 1 << 31, 1<<32 - 1, 1 << 32, 3 << 31, 1<<33 + 5, maxTime} {
		o := slot()
		o.Time = unix
		out := run(t, debugfs, "-R", "stat /piece.html", save(t, mustBuild(t, o, file("piece.html", 10))))
		want := " -- " + time.Unix(unix, 0).UTC().Format(time.ANSIC) + "\n"
		n := strings.Count(out, want)
		if uint32(unix)>>31 == 1 {
			// Since 1.47.1, debugfs takes the lower half for unsigned. The
			// kernel does not.
			n += strings.Count(out, " -- "+time.Unix(unix+1<<32, 0).UTC().Format(time.ANSIC)+"\n")
		}
		if n != 4 { // access, change, modification, creation
			t.Errorf("time %d: %q stands %d times in\n%s", unix, want, n, out)
		}
	}
}

func TestBlkidProbesTheVolume(t *testing.T) {
	out := run(t, testkit.NeedTool(t, "blkid", "util-linux"), "-p", "-o", "export", save(t, mustBuild(t, slot(), pieceFiles()...)))
	for _, want := range []string{"LABEL=FEDAC-PIECE", "UUID=5a010203-0405-8607-8809-0a0b0c0d0e0f", "TYPE=ext4", "BLOCK_SIZE=4096"} {
		if !slices.Contains(strings.Split(out, "\n"), want) {
			t.Errorf("no %s in\n%s", want, out)
		}
	}
}

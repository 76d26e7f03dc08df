package vfs

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"aesthetic.computer/isofs/integration/testkit"
)

const someBytes = 3<<20 + 4321

func TestListing(t *testing.T) {
	a, b := newImage(t, "notepat-os.iso", 1, someBytes, 1<<20), newImage(t, "$39j-os.iso", 2, 12345, 0)
	b.sidecars["bmap"], b.sidecars["zsync"] = "map", "sums"
	m := mountTree(t, newTree(a, b))
	list := func(dir string) string {
		// Mode, links, owner and group, size, time, name; without the total.
		_, lines, _ := strings.Cut(run(t, "ls", "-ln", "--time-style=+%s", dir), "\n")
		var out []string
		for line := range strings.SplitSeq(lines, "\n") {
			out = append(out, strings.Join(strings.Fields(line), " "))
		}
		return strings.Join(out, "\n")
	}
	started := m.server.core.started.Unix()
	for _, test := range []struct{ dir, want string }{
		{m.dir, fmt.Sprintf(`-r--r--r-- 1 0 0 12345 1700000002 $39j-os.iso
-r--r--r-- 1 0 0 3 1700000002 $39j-os.iso.bmap
-r--r--r-- 1 0 0 78 1700000002 $39j-os.iso.sha256
-r--r--r-- 1 0 0 3150049 1700000001 notepat-os.iso
-r--r--r-- 1 0 0 81 1700000001 notepat-os.iso.sha256
dr-xr-xr-x 2 0 0 0 %d s`, started)},
		{m.path("s"), fmt.Sprintf("dr-xr-xr-x 2 0 0 0 1700000001 %s\ndr-xr-xr-x 2 0 0 0 1700000002 %s", a.id, b.id)},
		{m.path("s/" + b.id), `-r--r--r-- 1 0 0 12345 1700000002 $39j-os.iso
-r--r--r-- 1 0 0 3 1700000002 $39j-os.iso.bmap
-r--r--r-- 1 0 0 78 1700000002 $39j-os.iso.sha256
-r--r--r-- 1 0 0 4 1700000002 $39j-os.iso.zsync`},
		{m.path("s/" + a.id), `-r--r--r-- 1 0 0 3150049 1700000001 notepat-os.iso
-r--r--r-- 1 0 0 81 1700000001 notepat-os.iso.sha256`},
	} {
		if got := list(test.dir); got != test.want {
			t.Errorf("ls -l %s:\n%s\nwant:\n%s", test.dir, got, test.want)
		}
	}
	if got, want := run(t, "cat", m.path("s/"+a.id+"/notepat-os.iso.sha256")), strings.TrimSpace(a.sidecars["sha256"]); got != want {
		t.Errorf("sidecar %q, want %q", got, want)
	}
	if got := run(t, "cat", m.path("$39j-os.iso.zsync")); got != "sums" {
		t.Errorf("what is not listed is %q", got)
	}
	if got, want := run(t, "stat", "-c", "%b %B %o %X %Z", m.path("notepat-os.iso")), "6153 512 524288 1700000001 1700000001"; got != want {
		t.Errorf("blocks, their size, preferred read, times: %s, want %s", got, want)
	}
	options := run(t, "sh", "-c", "grep ' "+m.dir+" ' /proc/mounts")
	for _, want := range []string{"isofs ", "fuse.isofs", "ro,nosuid,nodev,noexec", "default_permissions", "allow_other"} {
		if !strings.Contains(options, want) {
			t.Errorf("mounted without %s: %s", want, options)
		}
	}
	// A listing has the same inode numbers as stat.
	if a, b := run(t, "sh", "-c", "ls -1U -i "+m.dir+" | sort"), run(t, "sh", "-c", "cd "+m.dir+" && stat -c '%i %n' * | sort"); strings.Join(strings.Fields(a), " ") != strings.Join(strings.Fields(b), " ") {
		t.Errorf("ls -i:\n%s\nstat:\n%s", a, b)
	}
	m.stop(t, a, b)
}

func TestUnknownNames(t *testing.T) {
	img := newImage(t, "notepat-os.iso", 1, 4096, 0)
	tree := newTree(img)
	m := mountTree(t, tree)
	for _, name := range []string{
		"x-os.iso", "x-os.iso.sha256", "notepat-os.iso.zsync", "autorun.inf", ".Trash", ".hidden", "-os.iso",
		".x-os.iso", "notepat-os.iso.", "notepat-os.iso.SHA", "s/notepat-os.iso", "s/" + strings.Repeat("0", 32),
		"s/" + img.id + "/x-os.iso", "s/" + img.id + "/notepat-os.iso.zsync", "s/" + img.id + "/.hidden",
		"s/" + strings.ToUpper("abcdef"+img.id[6:]),
	} {
		if out, ok := try(t, "stat", m.path(name)); ok || !strings.Contains(out, "No such file or directory") {
			t.Errorf("stat %s: %s", name, out)
		}
	}
	run(t, "stat", m.path("notepat-os.iso"))
	tree.mu.Lock()
	defer tree.mu.Unlock()
	for name := range tree.asked {
		if name != "x-os.iso" && name != "notepat-os.iso" {
			t.Errorf("the tree was asked for %q", name)
		}
	}
	if tree.asked["x-os.iso"] == 0 {
		t.Error("the tree was not asked for x-os.iso")
	}
	if log := m.log.String(); strings.Contains(log, "WARN") {
		t.Errorf("unknown names were logged: %s", log)
	}
}

// An inode belongs to a snapshot, not to a name.
func TestIdentity(t *testing.T) {
	img := newImage(t, "notepat-os.iso", 1, 4096, 0)
	m := mountTree(t, newTree(img))
	stat := func(name string) string { return run(t, "stat", "-c", "%i %Y %s", m.path(name)) }
	if a, b := stat("notepat-os.iso"), stat("s/"+img.id+"/notepat-os.iso"); a != b {
		t.Errorf("one snapshot is two files: %s and %s", a, b)
	}
	if a, b := stat("notepat-os.iso.sha256"), stat("s/"+img.id+"/notepat-os.iso.sha256"); a != b {
		t.Errorf("one sidecar is two files: %s and %s", a, b)
	}
	// nginx must not take a file of an ended mount for one of the next.
	next := mountTree(t, newTree(img))
	if a, b := stat("notepat-os.iso"), run(t, "stat", "-c", "%i %Y %s", next.path("notepat-os.iso")); a == b {
		t.Errorf("the same file in two mounts: %s", a)
	}
	ids := m.server.core.ids
	seen := map[uint64]string{}
	for i := range 10_000 {
		for _, attr := range []struct {
			what string
			ino  uint64
		}{
			{fmt.Sprint("image ", i), ids.of(fmt.Sprint(i), "").Ino},
			{fmt.Sprint("sidecar ", i), ids.of(fmt.Sprint(i), "sha256").Ino},
			{fmt.Sprint("folder ", i), ids.ofFolder(fmt.Sprint(i)).Ino},
		} {
			if other, ok := seen[attr.ino]; ok || attr.ino <= 1 || attr.ino == ^uint64(0) {
				t.Fatalf("inode %d for %s, %s", attr.ino, attr.what, other)
			}
			seen[attr.ino] = attr.what
		}
	}
}

// An open file keeps its snapshot, and the next open gets the next one.
func TestNewSnapshotUnderOpenFile(t *testing.T) {
	eachProfile(t, func(t *testing.T, profile func(*Config)) {
		before := newImage(t, "notepat-os.iso", 1, someBytes, 1<<20)
		after := newImage(t, "notepat-os.iso", 2, someBytes, 1<<20)
		tree := newTree(before)
		m := mountTree(t, tree, profile)
		path := m.path("notepat-os.iso")
		reader := program(t, "sh", "-c", "exec 3<"+path+"; head -c 100000 <&3; echo opened >&2; read go; cat <&3")
		hold, _ := reader.StdinPipe()
		says, _ := reader.StderrPipe()
		content, _ := reader.StdoutPipe()
		if err := reader.Start(); err != nil {
			t.Fatal(err)
		}
		data := make(chan []byte)
		go func() { all, _ := io.ReadAll(content); data <- all }()
		if _, err := says.Read(make([]byte, 1)); err != nil {
			t.Fatal(err)
		}
		old := run(t, "stat", "-c", "%i %Y", path)
		tree.put(after)
		tree.retire(before)
		testkit.Eventually(t, "the name shows the next snapshot", func() bool {
			return run(t, "stat", "-c", "%i %Y", path) != old
		})
		if err := differs([]byte(runOut(t, "cat", path)), 2, 0); err != nil {
			t.Errorf("who opens next: %v", err)
		}
		io.WriteString(hold, "\n")
		all := <-data
		// head may have read more than it printed: what is left is a suffix.
		if err := reader.Wait(); err != nil || len(all) < 100000 {
			t.Fatalf("reader: %v, %d bytes", err, len(all))
		}
		rest := all[100000:]
		if err := differs(rest, 1, someBytes-int64(len(rest))); err != nil {
			t.Errorf("who had it open: %v", err)
		}
		m.stop(t, before, after)
	})
}

// The kernel may remember a name after its snapshot was removed.
func TestSnapshotRetiredAfterLookup(t *testing.T) {
	before, after := newImage(t, "notepat-os.iso", 1, 4096, 0), newImage(t, "notepat-os.iso", 2, 4096, 0)
	tree := newTree(before)
	m := mountTree(t, tree)
	path, byID := m.path("notepat-os.iso"), m.path("s/"+before.id+"/notepat-os.iso")
	run(t, "stat", path, byID)
	tree.put(after)
	tree.retire(before)
	if err := differs([]byte(runOut(t, "cat", path)), 2, 0); err != nil {
		t.Error(err)
	}
	if out, ok := try(t, "cat", byID); ok || !strings.Contains(out, "No such file") {
		t.Errorf("cat of a retired snapshot: %s", out)
	}
}

// A known node stands for its snapshot also when the catalog has made another
// Image of it since.
func TestImageMadeAnew(t *testing.T) {
	old, fresh := newImage(t, "notepat-os.iso", 1, 4096, 0), newImage(t, "notepat-os.iso", 1, 4096, 0)
	tree := newTree(old)
	m := mountTree(t, tree)
	byID := m.path("s/" + old.id + "/notepat-os.iso")
	run(t, "stat", byID)
	tree.retire(old)
	tree.put(fresh)
	if err := differs([]byte(runOut(t, "cat", byID)), 1, 0); err != nil {
		t.Error(err)
	}
	if fresh.opened.Load() != 1 {
		t.Error("the new image was not opened")
	}
	m.stop(t, old, fresh)
}

// A sidecar that was made again is served whole, never half old and half new.
func TestSidecarMadeAnew(t *testing.T) {
	img := newImage(t, "notepat-os.iso", 1, 4096, 0)
	tree := newTree(img)
	m := mountTree(t, tree, withProfile(PageCache))
	path := m.path("s/" + img.id + "/notepat-os.iso.sha256")
	run(t, "cat", path)
	again := newImage(t, "notepat-os.iso", 1, 4096, 0)
	again.sidecars["sha256"] = "longer than it was before, " + img.sidecars["sha256"]
	img.setSidecars(again.sidecars)
	tree.put(again)
	if got := runOut(t, "cat", path); got != again.sidecars["sha256"] {
		t.Errorf("got %q", got)
	}
}

func TestSplitName(t *testing.T) {
	for _, test := range []struct {
		name, file, suffix string
		ok                 bool
	}{
		{"notepat-os.iso", "notepat-os.iso", "", true},
		{"@bash~x-os.iso", "@bash~x-os.iso", "", true},
		{"notepat-os.iso.sha256", "notepat-os.iso", "sha256", true},
		{"notepat-os.iso.bmap.asc", "notepat-os.iso", "bmap.asc", true},
		{"a-os.iso.b-os.iso", "a-os.iso.b-os.iso", "", true},
		{"notepat-piece.img", "notepat-piece.img", "", true},
		{"notepat-piece.img.sha256", "notepat-piece.img", "sha256", true},
		{"a-os.iso.b-piece.img", "", "", false},
		{"a-piece.img.b-os.iso", "a-piece.img.b-os.iso", "", true}, // as everywhere
		{"-piece.img", "", "", false},
		{"a-piece.img.", "", "", false},
		{".a-piece.img", "", "", false},
		{"-os.iso", "", "", false},
		{"-os.iso.sha256", "", "", false},
		{".a-os.iso", "", "", false},
		{"a-os.iso.", "", "", false},
		{"a-os.iso..asc", "", "", false},
		{"a-os.iso.Asc", "", "", false},
		{"a-os.isox", "", "", false},
		{"a.iso", "", "", false},
		{"a\n-os.iso", "", "", false},
		{"", "", "", false},
	} {
		file, suffix, ok := splitName(test.name)
		if file != test.file || suffix != test.suffix || ok != test.ok {
			t.Errorf("splitName(%q) = %q, %q, %v", test.name, file, suffix, ok)
		}
		if ok && sidecarName(file, suffix) != test.name {
			t.Errorf("sidecarName is not the inverse for %q", test.name)
		}
	}
}

// The slot's content is a file of the snapshot's folder, and of the root for a
// client that opens it by name. It is one inode, and not that of the image.
func TestSlotAlone(t *testing.T) {
	img := newImage(t, "notepat-os.iso", 1, 1<<20, 4096)
	slot := newImage(t, "notepat-piece.img", 2, 64<<10, 4096)
	slot.id, slot.at = img.id, img.at
	slot.sidecars = map[string]string{"sha256": "sum of the slot"}
	img.slot = slot
	tree := newTree(img)
	tree.current[slot.name] = slot
	m := mountTree(t, tree)
	folder := "s/" + img.id + "/"
	if got, want := run(t, "ls", m.path(folder)), "notepat-os.iso\nnotepat-os.iso.sha256\nnotepat-piece.img\nnotepat-piece.img.sha256"; got != want {
		t.Errorf("the folder has %q", got)
	}
	want := make([]byte, slot.size)
	fill(want, slot.seed, 0)
	inodes := map[string]string{}
	for _, name := range []string{"notepat-piece.img", folder + "notepat-piece.img"} {
		if got := runOut(t, "cat", m.path(name)); !bytes.Equal([]byte(got), want) {
			t.Errorf("%s: %d other bytes", name, len(got))
		}
		if got := run(t, "cat", m.path(name+".sha256")); got != "sum of the slot" {
			t.Errorf("%s.sha256 is %q", name, got)
		}
		inodes[run(t, "stat", "-c", "%i", m.path(name))] = name
	}
	inodes[run(t, "stat", "-c", "%i", m.path(folder+"notepat-os.iso"))] = "image"
	inodes[run(t, "stat", "-c", "%i", m.path(folder+"notepat-os.iso.sha256"))] = "its sidecar"
	inodes[run(t, "stat", "-c", "%i", m.path(folder+"notepat-piece.img.sha256"))] = "the slot's"
	if len(inodes) != 4 {
		t.Errorf("the inodes are %v", inodes)
	}
	if out, ok := try(t, "stat", m.path(folder+"other-piece.img")); ok || !strings.Contains(out, "No such file") {
		t.Errorf("the slot of another: %s", out)
	}
}

func FuzzSplitName(f *testing.F) {
	for _, seed := range []string{"notepat-os.iso", "a-os.iso.sha256", ".Trash", "-os.iso.-os.iso.x"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, name string) {
		file, suffix, ok := splitName(name)
		if ok && (sidecarName(file, suffix) != name || !strings.HasSuffix(file, imageEnd) && !strings.HasSuffix(file, slotEnd) || file[0] == '.') {
			t.Errorf("splitName(%q) = %q, %q", name, file, suffix)
		}
	})
}

func TestErrnoTable(t *testing.T) {
	for i, row := range errnos {
		err := fmt.Errorf("unclassified")
		if row.kind != nil {
			err = fmt.Errorf("read: %w", row.kind)
		}
		if got := classify(err); got != i {
			t.Errorf("%v is row %d, want %d", err, got, i)
		}
	}
}

// runOut is run that keeps the output as it is, of the standard output alone.
func runOut(t testing.TB, name string, args ...string) string {
	t.Helper()
	out, err := program(t, name, args...).Output()
	if err != nil {
		t.Fatalf("%s %q: %v", name, args, err)
	}
	return string(out)
}

// TestMarkOfWhatIsWhole: the mark is there while an image is whole, is not
// listed, and nothing can be made in it.
func TestMarkOfWhatIsWhole(t *testing.T) {
	img := newImage(t, "notepat-os.iso", 1, 1<<20, 1000)
	m := mountTree(t, newTree(img))
	mark := m.path(snapshotsName + "/" + img.id + "/.whole")
	if fi, err := os.Stat(mark); err != nil || !fi.IsDir() {
		t.Fatal(err)
	}
	if names, err := os.ReadDir(mark); err != nil || len(names) != 0 {
		t.Errorf("in it are %v (%v)", names, err)
	}
	if err := os.Mkdir(filepath.Join(mark, "x"), 0o755); !errors.Is(err, syscall.EROFS) {
		t.Errorf("made a folder in it: %v", err)
	}
	if names, err := os.ReadDir(filepath.Dir(mark)); err != nil || slices.ContainsFunc(names, func(e os.DirEntry) bool { return e.Name() == ".whole" }) {
		t.Errorf("listed are %v (%v)", names, err)
	}
	img.parted.Store(true)
	testkit.Eventually(t, "the mark to go", func() bool { _, err := os.Stat(mark); return errors.Is(err, os.ErrNotExist) })
	img.parted.Store(false)
	testkit.Eventually(t, "the mark to come back", func() bool { _, err := os.Stat(mark); return err == nil })
	if _, err := os.Stat(m.path(snapshotsName + "/" + strings.Repeat("0", 31) + "9/.whole")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("of no snapshot: %v", err)
	}
	m.unmounted(t)
}

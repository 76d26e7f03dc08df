package base

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"flag"
	"hash/crc32"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"aesthetic.computer/isofs/fault"
	"aesthetic.computer/isofs/integration/testkit"
	"aesthetic.computer/isofs/partition"
)

var update = flag.Bool("update", false, "write the golden files again")

func TestIndexAgreesWithHashingFromScratch(t *testing.T) {
	d := newImage(t, standardSize, standard()...)
	fs := addFAT(t, d)
	kernel, initrd := bytes.Repeat([]byte("kernel "), 20000), bytes.Repeat([]byte("initrd!"), 3000)
	addFile(t, fs, "boot/vmlinuz", kernel)
	addFile(t, fs, "loader/initrd", initrd)
	for _, blockSize := range []int64{4 << 10, 256 << 10, 1 << 20} {
		o := testOptions()
		o.BlockSize = blockSize
		var last int64
		o.Progress = func(done, total int64) {
			if done <= last || total != d.size {
				t.Errorf("progress went from %d to %d of %d", last, done, total)
			}
			last = done
		}
		m, err := Index(t.Context(), d, d.size, o)
		if err != nil {
			t.Fatal(err)
		}
		if last != d.size {
			t.Errorf("progress ended at %d of %d", last, d.size)
		}
		if m.PiecePartitionOffset != 4*mib || m.PiecePartitionSize != mib || m.SlotEnd() != 5*mib || m.TotalSize != d.size {
			t.Errorf("slot [%d, +%d) of %d", m.PiecePartitionOffset, m.PiecePartitionSize, m.TotalSize)
		}
		if m.SHA256 != sha256.Sum256(d.data) {
			t.Error("sha256 differs")
		}
		for i, h := range m.Blocks {
			off, n := m.BlockRange(i)
			if h != sha256.Sum256(d.data[off:off+n]) {
				t.Errorf("block %d differs", i)
			}
		}
		if !bytes.Equal(m.Tail, d.data[5*mib:]) {
			t.Error("tail differs")
		}
		for name, want := range map[string][]byte{"kernel": kernel, "initrd": initrd} {
			f, ok := m.BootFile(name)
			if !ok || !bytes.Equal(d.data[f.Offset:f.Offset+f.Length], want) || f.SHA256 != sha256.Sum256(want) {
				t.Errorf("boot file %s: %+v", name, f)
			}
		}
		if err := m.Verify(t.Context(), d, d.size, nil); err != nil {
			t.Error(err)
		}
	}
}

// This test makes the image of the golden manifest, so a change of the
// manifest's form or of any digest shows.
func TestIndexGolden(t *testing.T) {
	got, err := index(t, newImage(t, standardSize, standard()...)).Marshal()
	if err != nil {
		t.Fatal(err)
	}
	golden := filepath.Join("testdata", "manifest.json")
	if *update {
		if err := os.WriteFile(golden, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("manifest differs from %s (-update writes it):\n%s", golden, got)
	}
	if m, err := Parse(want); err != nil || m.Version != "2026-11-01" {
		t.Errorf("parse the golden manifest: %v", err)
	}
}

func TestIndexRefuses(t *testing.T) {
	slot := func(start, size uint64) part { return part{start: start, size: size, label: SlotLabel} }
	live := part{start: 2048, size: 2048, label: "FEDAC-LIVE"}
	image := func(size int64, parts ...part) func(testing.TB) *memDisk {
		return func(t testing.TB) *memDisk { return newImage(t, size, parts...) }
	}
	damaged := func(f func(data []byte)) func(testing.TB) *memDisk {
		return func(t testing.TB) *memDisk {
			d := newImage(t, standardSize, standard()...)
			f(d.data)
			return d
		}
	}
	resized := func(size int64) func(testing.TB) *memDisk {
		return func(t testing.TB) *memDisk {
			d := newImage(t, standardSize, standard()...)
			d.data = append(d.data, make([]byte, mib)...)[:size]
			d.size = size
			return d
		}
	}
	const end = standardSize
	for _, tt := range []struct {
		name  string
		image func(testing.TB) *memDisk
		kind  error
		want  string
	}{
		{"no GPT", damaged(func(p []byte) { clear(p[:mib]); clear(p[end-33*512:]) }), fault.Invalid, "the image has no GPT"},
		{"primary header gone", damaged(func(p []byte) { clear(p[512:1024]) }), fault.Corrupt, "there is a backup at the end"},
		{"primary header CRC", damaged(func(p []byte) { p[512+56]++ }), fault.Corrupt, "primary GPT is damaged"},
		{"primary entries CRC", damaged(func(p []byte) { p[1024+56]++ }), fault.Corrupt, "primary GPT is damaged"},
		{"both headers CRC", damaged(func(p []byte) { p[512+56]++; p[end-512+56]++ }), fault.Corrupt, "backup GPT also invalid"},
		{"backup header gone", damaged(func(p []byte) { clear(p[end-512:]) }), fault.Corrupt, "no backup GPT header"},
		{"backup header CRC", damaged(func(p []byte) { p[end-512+56]++ }), fault.Corrupt, "backup GPT"},
		{"backup entries CRC", damaged(func(p []byte) { p[end-33*512+56]++ }), fault.Corrupt, "backup GPT"},
		{"backup lists others", damaged(renameInBackup), fault.Corrupt, "list different partitions"},
		{"another end of the usable area", damaged(func(p []byte) { changeHeaders(p, 48) }), fault.Corrupt, "is the last for partitions"},
		{"another header's place", damaged(func(p []byte) { changeHeaders(p, 24) }), fault.Corrupt, "primary GPT is damaged"},
		{"absurd entry count", damaged(func(p []byte) { binary.LittleEndian.PutUint32(p[512+80:], 1<<31) }), fault.Corrupt, "claims 2147483648 entries"},
		{"absurd entry size", damaged(func(p []byte) { binary.LittleEndian.PutUint32(p[512+84:], 0) }), fault.Corrupt, "of 0 bytes"},
		{"truncated", resized(end - 4096), fault.Corrupt, "the GPT is made for a disk of 5263360 bytes, the image has 5259264"},
		{"padded", resized(end + 4096), fault.Corrupt, "the GPT is made for a disk of 5263360 bytes, the image has 5267456"},
		{"odd size", resized(end + 1), fault.Invalid, "not a multiple of 512"},
		{"4096-byte sectors", damaged(func(p []byte) { clear(p[:mib]); clear(p[end-512:]); copy(p[4096:], "EFI PART") }), fault.Invalid, "4096-byte sectors"},
		{"no slot", image(end, live), fault.Invalid, "none of the 1 partitions is an ext4 labelled FEDAC-PIECE"},
		{"label but no ext4", damaged(func(p []byte) { p[4*mib+ext4Magic] = 0 }), fault.Invalid, "none of the 3 partitions"},
		{"two slots", image(end, slot(2048, 2048), slot(6144, 2048)), fault.Invalid, "partitions 1 and 2 both have"},
		{"slot not last", image(end, slot(2048, 2048), part{start: 6144, size: 2048}), fault.Invalid, "partition 2 lies behind it"},
		{"slot last in the table only", image(end, part{start: 6144, size: 2048}, slot(2048, 2048)), fault.Invalid, "partition 1 lies behind it"},
		{"slot too small", image(end, live, slot(6144, 2040)), fault.Invalid, "piecePartitionSize 1044480 is not in"},
		{"slot too large", image(131*mib, slot(2048, 128*2048+8)), fault.Invalid, "piecePartitionSize 134221824 is not in"},
		{"slot start unaligned", image(end, live, slot(6145, 2048)), fault.Invalid, "piecePartitionOffset 3146240 is not a positive multiple of 4096"},
		{"slot size unaligned", image(end, live, slot(6144, 2049)), fault.Invalid, "piecePartitionSize 1049088 is not a multiple"},
		{"tail too long", image(8*mib, live, slot(6144, 2048)), fault.Invalid, "bytes lie behind the slot"},
		{"overlap", image(end, part{start: 2048, size: 4097}, slot(6144, 2048)), fault.Corrupt, "partitions 1 and 2 overlap at sector 6144"},
		{"behind the disk", image(end, part{start: 2048, size: 99999}, slot(6144, 2048)), fault.Corrupt, "claims sectors 2048..102046"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			d := tt.image(t)
			_, err := Index(t.Context(), d, d.size, testOptions())
			if !errors.Is(err, tt.kind) || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want kind %v with %q", err, tt.kind, tt.want)
			}
		})
	}
}

// renameInBackup changes a partition's name in the backup and repairs its
// checksums, as a careless tool would.
func renameInBackup(p []byte) {
	entries, header := p[standardSize-33*512:standardSize-512], p[standardSize-512:]
	entries[56] = 'x'
	binary.LittleEndian.PutUint32(header[88:], crc32.ChecksumIEEE(entries))
	clear(header[16:20])
	binary.LittleEndian.PutUint32(header[16:], crc32.ChecksumIEEE(header[:92]))
}

// changeHeaders changes a byte of both headers, and repairs their checksums.
func changeHeaders(p []byte, at int) {
	for _, header := range [][]byte{p[512:1024], p[standardSize-512:]} {
		header[at]--
		clear(header[16:20])
		binary.LittleEndian.PutUint32(header[16:], crc32.ChecksumIEEE(header[:92]))
	}
}

func TestIndexRefusesOptions(t *testing.T) {
	d := newImage(t, standardSize, standard()...)
	for want, change := range map[string]func(*IndexOptions){
		"version":   func(o *IndexOptions) { o.Version = "latest" },
		"flavor":    func(o *IndexOptions) { o.Flavor = "../x" },
		"arch":      func(o *IndexOptions) { o.Arch = "" },
		"createdAt": func(o *IndexOptions) { o.CreatedAt = "2026-11-01T00:00:00+02:00" },
		"blockSize": func(o *IndexOptions) { o.BlockSize = 5000 },
		"mirrors":   func(o *IndexOptions) { o.Mirrors = []string{"/srv/base.iso"} },
	} {
		o := testOptions()
		change(&o)
		if _, err := Index(t.Context(), d, d.size, o); !errors.Is(err, fault.Invalid) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v", want, err)
		}
	}
}

func TestIndexStops(t *testing.T) {
	d := newImage(t, standardSize, standard()...)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Index(ctx, d, d.size, testOptions()); !errors.Is(err, context.Canceled) || !errors.Is(err, fault.Unavailable) {
		t.Errorf("a cancelled index: %v", err)
	}
	for name, tt := range map[string]struct {
		err, kind error
	}{
		"disk error":     {errors.New("input/output error"), fault.Unavailable},
		"early end":      {io.EOF, fault.Corrupt},
		"silent":         {nil, fault.Corrupt},
		"classified err": {fault.NotFound, fault.NotFound},
	} {
		r := &failing{d, 4*mib + 5, tt.err}
		if _, err := Index(t.Context(), r, d.size, testOptions()); fault.Kind(err) != tt.kind {
			t.Errorf("%s: got %v, want kind %v", name, err, tt.kind)
		}
	}
}

// failing ends reads that contain offset at early, with err.
type failing struct {
	io.ReaderAt
	at  int64
	err error
}

func (f *failing) ReadAt(p []byte, off int64) (int, error) {
	if n := f.at - off; 0 <= n && n < int64(len(p)) && len(p) > 4096 {
		n, _ := f.ReaderAt.ReadAt(p[:n], off)
		return n, f.err
	}
	return f.ReaderAt.ReadAt(p, off)
}

func TestBootFilesOmitted(t *testing.T) {
	fill := func(n int) []byte { return bytes.Repeat([]byte{'x'}, n) }
	for _, tt := range []struct {
		name   string
		change func(t *testing.T, d *memDisk)
		path   string
		reason string
		found  string
	}{
		{"fragmented initrd", func(t *testing.T, d *memDisk) {
			fs := addFAT(t, d)
			addFile(t, fs, "boot/initrd.img", fill(512))
			addFile(t, fs, "boot/vmlinuz", fill(700))
			addFile(t, fs, "boot/initrd.img", fill(512))
		}, "/boot/initrd.img", "not contiguous: in 2 fragments", "kernel"},
		{"directory", func(t *testing.T, d *memDisk) {
			if err := addFAT(t, d).Mkdir("loader/linux"); err != nil {
				t.Fatal(err)
			}
		}, "/loader/linux", "no regular file", ""},
		{"empty ESP", func(t *testing.T, d *memDisk) { addFAT(t, d) }, "", "", ""},
		{"ESP is no FAT", func(*testing.T, *memDisk) {}, "EFI system partition 1", "no FAT32", ""},
		{"FAT in a circle", func(t *testing.T, d *memDisk) {
			addFile(t, addFAT(t, d), "boot/vmlinuz", fill(4096))
			fat := d.data[mib+int(binary.LittleEndian.Uint16(d.data[mib+14:]))*512:]
			binary.LittleEndian.PutUint32(fat[4*8:], 5)
			binary.LittleEndian.PutUint32(fat[4*5:], 8)
		}, "EFI system partition 1", "is a circle", ""},
		{"FATs differ", func(t *testing.T, d *memDisk) {
			addFile(t, addFAT(t, d), "boot/vmlinuz", fill(4096))
			fat := d.data[mib+int(binary.LittleEndian.Uint16(d.data[mib+14:]))*512:]
			fat[4*9]++
		}, "EFI system partition 1", "did not match", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			d := newImage(t, standardSize, standard()...)
			tt.change(t, d)
			o := testOptions()
			var omitted []string
			o.Omitted = func(path, reason string) { omitted = append(omitted, path+": "+reason) }
			m, err := Index(t.Context(), d, d.size, o)
			if err != nil {
				t.Fatal(err)
			}
			if tt.path == "" && len(omitted) > 0 || tt.path != "" &&
				(len(omitted) != 1 || !strings.HasPrefix(omitted[0], tt.path) || !strings.Contains(omitted[0], tt.reason)) {
				t.Errorf("omitted %q", omitted)
			}
			if (tt.found == "") != (len(m.BootFiles) == 0) || tt.found != "" && m.BootFiles[0].Name != tt.found {
				t.Errorf("found %+v", m.BootFiles)
			}
		})
	}
}

// Damage in the directories of a FAT must neither panic nor hang.
func FuzzBootFiles(f *testing.F) {
	d := newImage(f, standardSize, standard()...)
	addFile(f, addFAT(f, d), "boot/vmlinuz", bytes.Repeat([]byte{'k'}, 3000))
	f.Add(uint32(36), byte(1))
	f.Add(uint32(40000), byte(255))
	f.Fuzz(func(t *testing.T, at uint32, x byte) {
		i := mib + int(at%(2*mib))
		d.data[i] ^= x
		defer func() { d.data[i] ^= x }()
		for _, b := range partition.BootFiles(d, d.size, []partition.Span{{Offset: mib, Size: 2 * mib}}, func(string, string) {}) {
			if b.Offset < mib || b.End() > 3*mib || b.Size <= 0 {
				t.Errorf("%+v lies outside the ESP", b)
			}
		}
	})
}

// The real tools make this image. They confirm that the other tests use tables
// that sgdisk accepts as a GPT.
func TestIndexRealTools(t *testing.T) {
	mke2fs, sgdisk := testkit.NeedTool(t, "mke2fs", "e2fsprogs"), testkit.NeedTool(t, "sgdisk", "gdisk")
	dir := t.TempDir()
	img, vol := filepath.Join(dir, "base.iso"), filepath.Join(dir, "slot.img")
	run := func(name string, args ...string) string {
		out, err := exec.Command(name, args...).CombinedOutput()
		if err != nil {
			t.Fatalf("%s %v: %v\n%s", name, args, err, out)
		}
		return string(out)
	}
	d := newImage(t, standardSize, standard()[:2]...)
	if err := os.WriteFile(img, d.data, 0o644); err != nil {
		t.Fatal(err)
	}
	if out := run(sgdisk, "--verify", img); !strings.Contains(out, "No problems found") {
		t.Errorf("sgdisk says of our table: %s", out)
	}
	run(sgdisk, "-n", "5:8192:10239", "-t", "5:8300", img)
	run(mke2fs, "-q", "-t", "ext4", "-L", SlotLabel, vol, "1024k")
	slot, err := os.ReadFile(vol)
	if err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(img)
	if err != nil {
		t.Fatal(err)
	}
	copy(data[4*mib:], slot)
	m, err := Index(t.Context(), bytes.NewReader(data), int64(len(data)), testOptions())
	if err != nil {
		t.Fatal(err)
	}
	if m.PiecePartitionOffset != 4*mib || m.PiecePartitionSize != mib {
		t.Errorf("slot at %d, %d bytes", m.PiecePartitionOffset, m.PiecePartitionSize)
	}
}

// Index returns for any table; it never panics or hangs.
func FuzzIndexTable(f *testing.F) {
	d := newImage(f, standardSize, standard()...)
	f.Add([]byte("EFI PART"), uint16(512))
	f.Add([]byte{0xff, 0xff, 0xff, 0xff}, uint16(1024+40))
	f.Fuzz(func(t *testing.T, patch []byte, at uint16) {
		saved := bytes.Clone(d.data[:mib])
		defer copy(d.data, saved)
		copy(d.data[int(at)%(34*512):34*512], patch)
		// Right checksums, so that Index looks at the patch.
		binary.LittleEndian.PutUint32(d.data[512+88:], crc32.ChecksumIEEE(d.data[1024:34*512]))
		clear(d.data[512+16 : 512+20])
		binary.LittleEndian.PutUint32(d.data[512+16:], crc32.ChecksumIEEE(d.data[512:512+92]))
		if _, err := readLayout(d, d.size); err != nil && fault.Kind(err) == nil {
			t.Errorf("without a kind: %v", err)
		}
	})
}

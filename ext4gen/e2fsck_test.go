package ext4gen

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"testing"

	"aesthetic.computer/isofs/integration/testkit"
)

// hollow is a file of zeroes, which costs nothing; e2fsck does not look at
// data.
func hollow(name string, size int64) File { return File{name, testkit.Zeroes(size)} }

func TestUsualVolumeIsClean(t *testing.T) {
	wantClean(t, "usual", mustBuild(t, slot(), pieceFiles()...))
}

func TestEverySizeOfFileIsClean(t *testing.T) {
	largest := Capacity(slotSize)
	sizes := []int64{0, 1, BlockSize - 1, BlockSize, BlockSize + 1, 3e6, 5e6, 16e6, 16 << 20, largest - BlockSize, largest - 1, largest}
	r := rand.New(rand.NewPCG(4, 4))
	for range 100 {
		sizes = append(sizes, r.Int64N(largest+1))
	}
	for _, n := range sizes {
		wantClean(t, fmt.Sprintf("a file of %d bytes", n), mustBuild(t, slot(), hollow("piece.html", n)))
	}
}

func TestEverySizeOfVolumeIsClean(t *testing.T) {
	for _, size := range []int64{MinSize, MinSize + BlockSize, 4 << 20, 8<<20 - BlockSize, slotSize, 64<<20 + 7*BlockSize, MaxSize - BlockSize, MaxSize} {
		o := slot()
		o.Size = size
		full := Capacity(size)
		for _, n := range []int64{0, full - BlockSize, full} {
			m := mustBuild(t, o, hollow("a", n), hollow("b", full-n))
			if m.Size() != size {
				t.Errorf("the map of a volume of %d bytes has %d", size, m.Size())
			}
			wantClean(t, fmt.Sprintf("%d and %d bytes in a volume of %d", n, full-n, size), m)
		}
		_, err := Build(o, hollow("a", 1), hollow("b", full-BlockSize+1))
		if big := (*TooBigError)(nil); !errors.As(err, &big) || *big != (TooBigError{Need: full + BlockSize, Have: full}) {
			t.Errorf("one byte too much in a volume of %d: %v", size, err)
		}
	}
}

// named returns n empty files with names of this many bytes.
func named(n, length int) []File {
	files := make([]File, n)
	for i := range files {
		files[i] = hollow(fmt.Sprintf("%0*d", length, i), 0)
	}
	return files
}

func TestEveryNumberOfFilesIsClean(t *testing.T) {
	// A block of the table has 16 inodes, and 11 are taken: 5, 21, ... files
	// fill one. 112 names of 28 bytes fill the directory, and so do 335 of 3
	// with one of 12.
	for _, files := range [][]File{
		nil, named(1, 1), named(4, 255), named(5, 60), named(6, 60), named(15, 255), named(21, 28), named(22, 28), named(112, 28),
		append(named(335, 3), hollow("twelve bytes", 5000)),
	} {
		wantClean(t, fmt.Sprintf("%d files", len(files)), mustBuild(t, slot(), files...))
	}
}

func TestEveryOptionIsClean(t *testing.T) {
	for name, change := range map[string]func(o *Options){
		"no label":           func(o *Options) { o.Label = "" },
		"a label of 16":      func(o *Options) { o.Label = "sixteen-bytes-16" },
		"a label in Unicode": func(o *Options) { o.Label = "héllo ✂" },
		"no hash seed":       func(o *Options) { o.HashSeed = [16]byte{} },
		"another UUID":       func(o *Options) { o.UUID = [16]byte{15: 1} },
		"the time 0":         func(o *Options) { o.Time = 0 },
		"the least time":     func(o *Options) { o.Time = minTime },
		"the greatest time":  func(o *Options) { o.Time = maxTime },
	} {
		o := slot()
		change(&o)
		wantClean(t, name, mustBuild(t, o, file("piece.html", 5000)))
	}
}

// TestTheJudgeComplains shows that the tests see a complaint with exit status
// 0, and that E2FSCK_TIME sets the clock.
func TestTheJudgeComplains(t *testing.T) {
	debugfs := testkit.NeedTool(t, "debugfs", "e2fsprogs")
	image := save(t, mustBuild(t, slot(), pieceFiles()...))
	run(t, debugfs, "-w", "-R", "set_super_value wtime 20200101", image)
	if complaint := e2fsck(t, image); complaint != "" {
		t.Errorf("a last write in the past: %s", complaint)
	}
	if complaint := e2fsck(t, image, "E2FSCK_TIME=1"); !strings.Contains(complaint, "in the future") {
		t.Errorf("a last write in the future: %q", complaint)
	}
	run(t, debugfs, "-w", "-R", "set_super_value free_blocks_count 17", image)
	if complaint := e2fsck(t, image); !strings.Contains(complaint, "Free blocks count wrong") {
		t.Errorf("a wrong free count: %q", complaint)
	}
}

// TestEveryFlippedBitIsReported flips a sample of the bits in each part of the
// metadata. It leaves out the words of the features, since one of them turns
// the checksums off.
func TestEveryFlippedBitIsReported(t *testing.T) {
	files := pieceFiles()
	f, err := os.OpenFile(save(t, mustBuild(t, slot(), files...)), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	inodeAt := func(n int64) int64 { return inodeTableBlock*BlockSize + (n-1)*inodeSize }
	r := rand.New(rand.NewPCG(9, 9))
	for _, part := range []struct {
		name    string
		off, n  int64
		samples int
	}{
		{"superblock before the features", superblockOffset, 0x5C, 10},
		{"superblock after the features", superblockOffset + 0x68, 1024 - 0x68, 20},
		{"group descriptor", descriptorBlock * BlockSize, descSize, 15},
		{"block bitmap", blockBitmapBlock * BlockSize, BlockSize, 15},
		{"inode bitmap in use", inodeBitmapBlock * BlockSize, inodeCount / 8, 5},
		{"inode bitmap padding", inodeBitmapBlock*BlockSize + inodeCount/8, BlockSize - inodeCount/8, 10},
		{"inode of the root", inodeAt(rootInode), inodeSize, 10},
		{"inodes of lost+found and files", inodeAt(lostFoundInode), inodeSize * int64(1+len(files)), 25},
		{"root directory", rootBlock * BlockSize, BlockSize, 15},
		{"checksum of the root directory", rootBlock*BlockSize + dirSpace, dirTailLen, 5},
		{"lost+found", lostFoundBlock * BlockSize, lostFoundBlocks * BlockSize, 15},
	} {
		for range part.samples {
			at, bit := part.off+r.Int64N(part.n), byte(1)<<r.IntN(8)
			flip(t, f, at, bit)
			if e2fsck(t, f.Name()) == "" {
				t.Errorf("%s: nothing is said about byte %#x with bit %#x flipped", part.name, at, bit)
			}
			flip(t, f, at, bit)
		}
	}
	if complaint := e2fsck(t, f.Name()); complaint != "" {
		t.Errorf("with all bits flipped back: %s", complaint)
	}
}

func flip(t *testing.T, f *os.File, at int64, bit byte) {
	t.Helper()
	var p [1]byte
	if _, err := f.ReadAt(p[:], at); err != nil {
		t.Fatal(err)
	}
	p[0] ^= bit
	if _, err := f.WriteAt(p[:], at); err != nil {
		t.Fatal(err)
	}
}

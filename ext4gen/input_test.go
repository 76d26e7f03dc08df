package ext4gen

import (
	"errors"
	"math"
	"os"
	"strings"
	"testing"

	"aesthetic.computer/isofs/fault"
	"aesthetic.computer/isofs/integration/testkit"
)

// sized is a source of any size, which must not be read.
type sized int64

func (s sized) Size() int64 { return int64(s) }

func (s sized) ReadAt([]byte, int64) (int, error) { panic("Build reads a file") }

func TestBuildRefuses(t *testing.T) {
	one := []File{hollow("piece.html", 1)}
	for name, c := range map[string]struct {
		change func(o *Options)
		files  []File
		say    string
	}{
		"no size":              {func(o *Options) { o.Size = 0 }, one, "0 bytes"},
		"a negative size":      {func(o *Options) { o.Size = -slotSize }, one, "-20971520 bytes"},
		"less than 1 MiB":      {func(o *Options) { o.Size = MinSize - BlockSize }, one, "not 1048576 to 134217728"},
		"more than 128 MiB":    {func(o *Options) { o.Size = MaxSize + BlockSize }, one, "not 1048576 to 134217728"},
		"the largest size":     {func(o *Options) { o.Size = math.MaxInt64 }, one, "not 1048576"},
		"20 MB":                {func(o *Options) { o.Size = 20e6 }, one, "not a multiple of 4096"},
		"a label of 17":        {func(o *Options) { o.Label = "seventeen-bytes-!" }, one, "17 bytes"},
		"a label with NUL":     {func(o *Options) { o.Label = "a\x00b" }, one, `"a\x00b"`},
		"a label not in UTF-8": {func(o *Options) { o.Label = "\xff" }, one, `"\xff"`},
		"no UUID":              {func(o *Options) { o.UUID = [16]byte{} }, one, "UUID"},
		"too early a time":     {func(o *Options) { o.Time = minTime - 1 }, one, "time"},
		"too late a time":      {func(o *Options) { o.Time = maxTime + 1 }, one, "time"},
		"an empty name":        {nil, []File{hollow("", 1)}, "file 1: the name is empty"},
		"the name .":           {nil, []File{hollow("a", 1), hollow(".", 1)}, `file 2: the name "."`},
		"the name ..":          {nil, []File{hollow("..", 1)}, `".."`},
		"the name lost+found":  {nil, []File{hollow("lost+found", 1)}, `"lost+found"`},
		"a slash":              {nil, []File{hollow("a/b", 1)}, "slash"},
		"a NUL":                {nil, []File{hollow("a\x00", 1)}, "NUL"},
		"256 bytes":            {nil, []File{hollow(strings.Repeat("n", 256), 1)}, "256 bytes"},
		"not UTF-8":            {nil, []File{hollow("a\xc3", 1)}, "UTF-8"},
		"two of a name":        {nil, []File{hollow("b", 1), hollow("a", 1), hollow("b", 2)}, `two files are named "b"`},
		"no source":            {nil, []File{{Name: "a"}}, "no source"},
		"a negative source":    {nil, []File{{"a", sized(-1)}}, "-1 bytes"},
		"one file too many":    {nil, named(113, 28), "113 files"},
		"one byte too many":    {nil, append(named(335, 3), hollow("thirteen byte", 1)), "4088 of 4084"},
		"a million files":      {nil, named(1_000_000, 7), "1000000 files"},
	} {
		o := slot()
		if c.change != nil {
			c.change(&o)
		}
		m, err := Build(o, c.files...)
		if m != nil || fault.Kind(err) != fault.Invalid {
			t.Errorf("%s: %v, %v", name, m, err)
			continue
		}
		if !strings.Contains(err.Error(), c.say) || len(err.Error()) > 300 {
			t.Errorf("%s: it says %q", name, err)
		}
	}
}

func TestTooBig(t *testing.T) {
	have := Capacity(slotSize)
	for _, c := range []struct {
		sizes []int64
		need  int64
	}{
		{[]int64{have + 1}, have + BlockSize},
		{[]int64{have, 1}, have + BlockSize},
		{[]int64{1, have}, have + BlockSize},
		{[]int64{have - BlockSize, 1, 0, 1}, have + BlockSize},
		{[]int64{5 << 40}, 5 << 40},
		{[]int64{math.MaxInt64}, math.MaxInt64 / BlockSize * BlockSize},
		{[]int64{math.MaxInt64, math.MaxInt64, math.MaxInt64}, math.MaxInt64},
		{[]int64{math.MaxInt64 - 1, 2, 1 << 40}, math.MaxInt64},
	} {
		files := named(len(c.sizes), 3)
		for i, n := range c.sizes {
			files[i].Source = sized(n)
		}
		m, err := Build(slot(), files...)
		var big *TooBigError
		if m != nil || !errors.As(err, &big) || !errors.Is(err, fault.Invalid) || *big != (TooBigError{c.need, have}) {
			t.Errorf("files of %v bytes: %v, %v", c.sizes, m, err)
		}
	}
	err := (&TooBigError{Need: 20807680, Have: 20803584}).Error()
	if !strings.Contains(err, "20807680") || !strings.Contains(err, "20803584") {
		t.Errorf("it says %q", err)
	}
}

func TestCapacity(t *testing.T) {
	for size, want := range map[int64]int64{
		slotSize: 20_803_584, // 5120 blocks less 41
		MinSize:  (256 - 41) * BlockSize,
		MaxSize:  (32768 - 41) * BlockSize,
		0:        0, -1: 0, MinSize - 1: 0, slotSize + 1: 0, MaxSize + BlockSize: 0, math.MinInt64: 0,
	} {
		if got := Capacity(size); got != want {
			t.Errorf("Capacity(%d) = %d, want %d", size, got, want)
		}
	}
}

// FuzzBuild lets the fuzzer choose all inputs, and e2fsck decide.
func FuzzBuild(f *testing.F) {
	f.Add(int64(slotSize), "FEDAC-PIECE", byte(1), int64(0), "piece.html\npiece.json", []byte{200, 3, 0, 0})
	f.Add(int64(MinSize), "", byte(9), int64(1<<33), "a\nb\nc\nd\ne\nf\ng", []byte{0, 1, 0, 0, 255, 15})
	f.Add(int64(MaxSize), "sixteen-bytes-16", byte(1), int64(-1), "", []byte{})
	f.Add(int64(20e6), "\xff", byte(0), int64(math.MaxInt64), "..\n\n..", []byte{255, 255, 255})
	f.Fuzz(func(t *testing.T, size int64, label string, id byte, unix int64, names string, sizes []byte) {
		if size > 0 && size < 1<<16 {
			size *= BlockSize // so that the fuzzer need not find the multiples
		}
		var files []File
		for name := range strings.SplitSeq(names, "\n") {
			var n int64
			if len(sizes) >= 2 { // 0 to 16 MiB, near a multiple of 64 KiB or not
				n = int64(sizes[0])<<16 + int64(int8(sizes[1]))
				sizes = sizes[2:]
			}
			files = append(files, File{name, sized(n)})
		}
		o := Options{Size: size, Label: label, UUID: [16]byte{3: id}, Time: unix}
		m, err := Build(o, files...)
		if err != nil {
			if m != nil || fault.Kind(err) != fault.Invalid {
				t.Fatalf("%v, %v", m, err)
			}
			return
		}
		for i := range files {
			files[i].Source = testkit.Zeroes(files[i].Source.Size())
		}
		wantSound(t, o, files, m)
		if strings.ContainsAny(label, "\n\r") {
			return // e2fsck's summary line begins with it
		}
		image := save(t, mustBuild(t, o, files...))
		if complaint := e2fsck(t, image, "E2FSCK_TIME=1"); complaint != "" {
			t.Fatalf("%+v: %s", o, complaint)
		}
		os.Remove(image)
	})
}

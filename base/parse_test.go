package base

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"

	"aesthetic.computer/isofs/fault"
)

func golden(t testing.TB) []byte {
	t.Helper()
	data, err := os.ReadFile("testdata/manifest.json")
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func TestParseRoundTrip(t *testing.T) {
	m, err := Parse(golden(t))
	if err != nil {
		t.Fatal(err)
	}
	m.Fedora = "43-1.6"
	m.BootFiles = []BootFile{{Name: "kernel", Path: "/boot/vmlinuz", Offset: 4096, Length: 5, SHA256: Hash{1}}}
	data, err := m.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	again, err := Parse(data)
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(again, m) {
		t.Errorf("got %+v, want %+v", again, m)
	}
}

// Each case changes one thing of a good manifest in the JSON.
func TestParseRefuses(t *testing.T) {
	set := func(key string, value any) func(map[string]any) {
		return func(m map[string]any) { m[key] = value }
	}
	in := func(key, field string, value any) func(map[string]any) {
		return func(m map[string]any) { m[key].(map[string]any)[field] = value }
	}
	block := func(i int, v any) func(map[string]any) {
		return func(m map[string]any) { m["blocks"].([]any)[i] = v }
	}
	boot := func(files ...map[string]any) func(map[string]any) { return set("bootFiles", files) }
	file := func(change ...any) map[string]any {
		f := map[string]any{"name": "kernel", "path": "/boot/vmlinuz", "offset": 4096, "length": 4096, "sha256": strings.Repeat("ab", 32)}
		for i := 0; i < len(change); i += 2 {
			f[change[i].(string)] = change[i+1]
		}
		return f
	}
	mirrors := func(addresses ...string) func(map[string]any) { return set("mirrors", addresses) }
	empty := func(runs ...[2]int) func(map[string]any) {
		list := []any{}
		for _, r := range runs {
			list = append(list, map[string]any{"first": r[0], "count": r[1]})
		}
		return set("empty", list)
	}
	zeroes := func(m map[string]any, blocks ...int) {
		for _, i := range blocks {
			m["blocks"].([]any)[i] = (&Manifest{BlockSize: 262144}).zeroBlock().String()
		}
	}
	hash := strings.Repeat("ab", 32)
	for _, tt := range []struct {
		name   string
		change func(map[string]any)
		kind   error
		want   string
	}{
		{"no version", set("version", ""), fault.Invalid, `version ""`},
		{"path as version", set("version", "../../2026-11-01"), fault.Invalid, "version"},
		{"version .0", set("version", "2026-11-01.0"), fault.Invalid, "version"},
		{"no such day", set("version", "2026-02-30"), fault.Invalid, "calendar"},
		{"flavor", set("flavor", "Tiny"), fault.Invalid, "flavor"},
		{"long arch", set("arch", strings.Repeat("a", 65)), fault.Invalid, "arch"},
		{"createdAt", set("createdAt", "yesterday"), fault.Invalid, "createdAt"},
		{"createdAt not UTC", set("createdAt", "2026-11-01T00:00:00+00:00"), fault.Invalid, "createdAt"},
		{"totalSize 0", set("totalSize", 0), fault.Invalid, "totalSize 0"},
		{"totalSize negative", set("totalSize", -512), fault.Invalid, "totalSize -512"},
		{"totalSize odd", set("totalSize", 5263361), fault.Invalid, "totalSize 5263361"},
		{"totalSize absurd", set("totalSize", int64(1)<<60), fault.Invalid, "totalSize"},
		{"totalSize larger", set("totalSize", 5263360+512), fault.Corrupt, "tail has 20480 bytes, but 20992"},
		{"totalSize a string", set("totalSize", "6291456"), fault.Corrupt, "totalSize"},
		{"totalSize a fraction", set("totalSize", 1.5), fault.Corrupt, "totalSize"},
		{"blockSize 0", set("blockSize", 0), fault.Invalid, "blockSize 0"},
		{"blockSize no power of two", set("blockSize", 262144+4096), fault.Invalid, "blockSize"},
		{"blockSize small", set("blockSize", 2048), fault.Invalid, "blockSize"},
		{"blockSize large", set("blockSize", 32<<20), fault.Invalid, "blockSize"},
		{"blockSize another", set("blockSize", 524288), fault.Corrupt, "blocks has 21 hashes, but totalSize 5263360 makes 11"},
		{"too many blocks", func(m map[string]any) { m["blockSize"], m["totalSize"] = 4096, int64(MaxImageSize) }, fault.Invalid, "use larger blocks"},
		{"a block less", func(m map[string]any) { m["blocks"] = m["blocks"].([]any)[1:] }, fault.Corrupt, "blocks has 20 hashes"},
		{"block null", block(3, nil), fault.Invalid, "block 3 is missing"},
		{"block short", block(3, "abcd"), fault.Invalid, "64 hex digits wanted, got 4"},
		{"block upper case", block(3, strings.ToUpper(hash)), fault.Invalid, `got 'A'`},
		{"block a number", block(3, 5), fault.Corrupt, "blocks"},
		{"sha256 zero", set("sha256", strings.Repeat("0", 64)), fault.Invalid, "sha256 is missing"},
		{"sha256 not hex", set("sha256", strings.Repeat("xy", 32)), fault.Invalid, `got 'x'`},
		{"midstate short", in("midstates", "sha256", "ab"), fault.Invalid, "midstates.sha256"},
		{"midstate gone", in("midstates", "sha1", ""), fault.Invalid, "midstates.sha1"},
		{"tail short", set("tail", "AAAA"), fault.Corrupt, "tail has 3 bytes, but 20480"},
		{"tail no base64", set("tail", "*"), fault.Corrupt, "base64"},
		{"slot unaligned", set("piecePartitionOffset", 4194304+512), fault.Invalid, "piecePartitionOffset 4194816"},
		{"slot at 0", set("piecePartitionOffset", 0), fault.Invalid, "piecePartitionOffset 0"},
		{"slot negative", set("piecePartitionOffset", -4096), fault.Invalid, "piecePartitionOffset -4096"},
		{"slot behind the end", set("piecePartitionOffset", 5<<20), fault.Corrupt, "ends behind totalSize"},
		{"slot overflows", set("piecePartitionOffset", int64(1<<63-4096)), fault.Corrupt, "ends behind totalSize"},
		{"slot small", set("piecePartitionSize", 4096), fault.Invalid, "piecePartitionSize 4096"},
		{"slot moved", set("piecePartitionOffset", 3<<20), fault.Invalid, "1069056 bytes lie behind the slot"},
		{"boot file twice", boot(file(), file()), fault.Corrupt, `name "kernel" is there twice`},
		{"boot file in the slot", boot(file("offset", 4194304-4095)), fault.Corrupt, "does not lie before the slot"},
		{"boot file overflows", boot(file("offset", int64(1<<63-1))), fault.Corrupt, "does not lie before the slot"},
		{"boot file too long", boot(file("length", int64(1<<63-1))), fault.Corrupt, "does not lie before the slot"},
		{"boot file empty", boot(file("length", 0)), fault.Corrupt, "length 0"},
		{"boot file name", boot(file("name", "a/b")), fault.Invalid, "name"},
		{"boot file path", boot(file("path", "vmlinuz")), fault.Invalid, "path"},
		{"boot file unhashed", boot(file("sha256", nil)), fault.Invalid, "sha256 of kernel is missing"},
		{"mirror a path", mirrors("/srv/base.iso"), fault.Invalid, "mirrors: entry 0: not an absolute address"},
		{"mirror a file URL", mirrors("https://h/base.iso", "file:///srv/base.iso"), fault.Invalid, "mirrors: entry 1"},
		{"mirror with a password", mirrors("https://u:secret@h/base.iso"), fault.Invalid, "must not contain a user or password"},
		{"mirror with a user", mirrors("s3://u@bucket/base.iso"), fault.Invalid, "must not contain a user or password"},
		{"mirror without a host", mirrors("https:///base.iso"), fault.Invalid, "no host"},
		{"mirror without a path", mirrors("https://h/"), fault.Invalid, "no path"},
		{"mirror with a fragment", mirrors("https://h/base.iso#x"), fault.Invalid, "fragment"},
		{"mirror that is none", mirrors("https://h/\x7f"), fault.Invalid, "not a URL"},
		{"mirror too long", mirrors("https://h/" + strings.Repeat("x", 2048)), fault.Invalid, "2058 bytes"},
		{"mirror twice", mirrors("https://h/base.iso", "https://h/base.iso"), fault.Corrupt, "there twice"},
		{"mirror a number", set("mirrors", []any{5}), fault.Corrupt, "mirrors"},
		{"zsync's block size", in("zsync", "blockSize", 4096), fault.Corrupt, "zsync has blockSize 4096, rsumBytes 2, checksumBytes 4, but zsyncmake takes 2048, 2, 4"},
		{"zsync's rsum", in("zsync", "rsumBytes", 4), fault.Corrupt, "rsumBytes 4"},
		{"zsync's checksum", in("zsync", "checksumBytes", -4), fault.Corrupt, "checksumBytes -4"},
		{"zsync's sums gone", in("zsync", "sums", nil), fault.Corrupt, "zsync.sums has 0 bytes"},
		{"zsync's sums short", in("zsync", "sums", "AAAA"), fault.Corrupt, "zsync.sums has 3 bytes, but piecePartitionOffset 4194304 makes 12288"},
		{"zsync's sums no base64", in("zsync", "sums", "*"), fault.Corrupt, "base64"},
		{"zsync a list", set("zsync", []any{}), fault.Corrupt, "zsync"},
		{"empty behind the slot", empty([2]int{16, 1}), fault.Corrupt, "does not lie before the slot, which has 16"},
		{"empty too long", empty([2]int{14, 3}), fault.Corrupt, "does not lie before the slot"},
		{"empty overflows", empty([2]int{1, 1<<63 - 1}), fault.Corrupt, "does not lie before the slot"},
		{"empty negative", empty([2]int{-1, 1}), fault.Invalid, "from block -1 on"},
		{"empty of none", empty([2]int{1, 0}), fault.Invalid, "of 0 blocks"},
		{"empty of noise", empty([2]int{5, 1}), fault.Corrupt, "block 5 is in run 0, but is not of zeroes"},
		{"empty out of order", func(m map[string]any) {
			zeroes(m, 3, 9)
			empty([2]int{9, 1}, [2]int{3, 1})(m)
		}, fault.Corrupt, "run 1 begins at block 3"},
		{"empty not joined", func(m map[string]any) {
			zeroes(m, 3, 4)
			empty([2]int{3, 1}, [2]int{4, 1})(m)
		}, fault.Corrupt, "run 1 begins at block 4"},
		{"many mirrors", mirrors(make([]string, 17)...), fault.Invalid, "mirrors has 17 entries"},
		{"other letters", func(m map[string]any) { m["Fedora"] = "43" }, fault.Invalid, `field "Fedora" must be written "fedora"`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var m map[string]any
			dec := json.NewDecoder(bytes.NewReader(golden(t)))
			dec.UseNumber()
			if err := dec.Decode(&m); err != nil {
				t.Fatal(err)
			}
			tt.change(m)
			data, err := json.Marshal(m)
			if err != nil {
				t.Fatal(err)
			}
			_, err = Parse(data)
			if err != nil && strings.Contains(err.Error(), "secret") {
				t.Errorf("the error tells the password: %v", err)
			}
			if !errors.Is(err, tt.kind) || fault.Kind(err) != tt.kind || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want kind %v with %q", err, tt.kind, tt.want)
			}
		})
	}
}

// Mirrors survive writing and reading. A manifest without mirrors does not have
// the field.
func TestMirrors(t *testing.T) {
	m, err := Parse(golden(t))
	if err != nil {
		t.Fatal(err)
	}
	without, err := m.Marshal()
	if err != nil || bytes.Contains(without, []byte("mirrors")) {
		t.Errorf("a manifest without mirrors: %v", err)
	}
	m.Mirrors = []string{"https://h/base.iso?versionId=1", "http://127.0.0.1:8080/x/base.iso", "s3://bucket/bases/base.iso"}
	data, err := m.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	again, err := Parse(data)
	if err != nil || !slices.Equal(again.Mirrors, m.Mirrors) {
		t.Errorf("got %v, %v", again, err)
	}
}

func TestParseRefusesText(t *testing.T) {
	good := strings.TrimSpace(string(golden(t)))
	deep := strings.Repeat(`{"x":`, 40) + "1" + strings.Repeat("}", 40)
	deepList := strings.Repeat(`[`, 5000) + strings.Repeat("]", 5000)
	extra := func(field string) string { return strings.TrimSuffix(good, "}") + "," + field + "}" }
	for name, tt := range map[string]struct {
		text string
		kind error
		want string
	}{
		"empty":             {"", fault.Corrupt, "cut off"},
		"cut off":           {good[:len(good)/2], fault.Corrupt, "at byte"},
		"a list":            {"[" + good + "]", fault.Corrupt, "a JSON object wanted"},
		"null":              {"null", fault.Corrupt, "a JSON object wanted"},
		"HTML":              {"<html>404</html>", fault.Corrupt, "at byte"},
		"garbage behind":    {good + "x", fault.Corrupt, "behind the end"},
		"a second manifest": {good + good, fault.Corrupt, "behind the end"},
		"field twice":       {extra(`"version":"2026-11-02"`), fault.Corrupt, `"version" is there twice`},
		"other letters":     {extra(`"VERSION":"2026-11-02"`), fault.Corrupt, `"VERSION" is there twice`},
		"nested twice":      {extra(`"new":{"a":1,"a":2}`), fault.Corrupt, `"new.a" is there twice`},
		"deep":              {extra(`"new":` + deep), fault.Invalid, "nested more than 32 deep"},
		"deep list":         {extra(`"new":` + deepList), fault.Invalid, "nested more than 32 deep"},
	} {
		_, err := Parse([]byte(tt.text))
		if !errors.Is(err, tt.kind) || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: got %v, want kind %v with %q", name, err, tt.kind, tt.want)
		}
	}
	if _, err := Parse([]byte(extra(`"parts":{"name":"x","Name":[1,{"y":null}]}`))); err == nil {
		t.Error("one key in two spellings: accepted")
	}
	if _, err := Parse([]byte(extra(`"parts":{"name":[1,{"y":null}]},"parity":"none"`))); err != nil {
		t.Errorf("unknown fields: %v", err)
	}
}

func FuzzParse(f *testing.F) {
	// The smallest valid manifest: short, so that the fuzzer is fast.
	least := Manifest{
		Version: "2026-11-01", Flavor: "f", Arch: "a", CreatedAt: "2026-11-01T00:00:00Z",
		PiecePartitionOffset: 4096, PiecePartitionSize: mib, TotalSize: mib + 4096,
		SHA256: Hash{1}, BlockSize: maxBlockSize, Blocks: []Hash{{1}, {2}},
		Midstates: Midstates{SHA256: strings.Repeat("ab", 32), SHA1: strings.Repeat("ab", 20)},
		BootFiles: []BootFile{{Name: "kernel", Path: "/k", Offset: 1, Length: 1, SHA256: Hash{1}}},
	}
	seed, err := least.Marshal()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(seed)
	least.addZsync()
	least.Zsync.Sums = make([]byte, 2*ZsyncFormOf(least.TotalSize).SumBytes())
	if seed, err = least.Marshal(); err != nil {
		f.Fatal(err)
	}
	f.Add(seed)
	least.PiecePartitionOffset, least.TotalSize, least.Blocks = mib, 2*mib, []Hash{least.zeroBlock(), {2}}
	least.Zsync, least.Empty = nil, []BlockRun{{0, 1}}
	if seed, err = least.Marshal(); err != nil {
		f.Fatal(err)
	}
	f.Add(seed)
	f.Add([]byte(`{"version":"2026-11-01","blocks":[]}`))
	f.Add([]byte(`{"tail":"","midstates":{},"bootFiles":[{}]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := Parse(data)
		if err != nil {
			if fault.Kind(err) == nil {
				t.Fatalf("without a kind: %v", err)
			}
			return
		}
		// An accepted manifest can be used.
		out, err := m.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := Parse(out); err != nil {
			t.Fatal(err)
		}
		if off, n := m.BlockRange(len(m.Blocks) - 1); n <= 0 || off+n != m.TotalSize {
			t.Fatalf("the last block is [%d, +%d) of %d", off, n, m.TotalSize)
		}
		for i, empty := range m.EmptyBlocks() {
			if off, n := m.BlockRange(i); empty && (off+n > m.PiecePartitionOffset || m.Blocks[i] != m.zeroBlock()) {
				t.Fatalf("block %d is said to be empty", i)
			}
		}
		if form, ok := m.ZsyncForm(); ok && int64(len(m.Zsync.Sums)) != m.PiecePartitionOffset/form.BlockSize*int64(form.SumBytes()) {
			t.Fatalf("%d bytes of sums", len(m.Zsync.Sums))
		}
	})
}

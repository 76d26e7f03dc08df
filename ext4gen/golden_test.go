package ext4gen

import (
	"crypto/sha256"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"aesthetic.computer/isofs/extent"
)

func sum(t testing.TB, m *extent.Map) string {
	t.Helper()
	h := sha256.New()
	if _, err := io.Copy(h, io.NewSectionReader(m, 0, m.Size())); err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("%x", h.Sum(nil))
}

// A fixedInput is the input of a golden digest.
type fixedInput struct {
	name  string
	o     Options
	files []File
}

func fixedInputs() []fixedInput {
	large := slot()
	large.Size, large.Label, large.Time = MaxSize, "sixteen-bytes-16", 1<<32+1
	return []fixedInput{
		{"a piece", slot(), pieceFiles()},
		{"nothing", Options{Size: MinSize, UUID: [16]byte{1}}, nil},
		{"a lot", large, append(named(100, 20), file("ünïcode ✂.html", 1_234_567), hollow("hollow", 9_000_000))},
	}
}

// golden are the SHA-256 of the volumes of the fixed inputs, by LayoutVersion.
// Ids of published images contain this version: never change a line here, but
// raise LayoutVersion and add one.
func golden() map[int]map[string]string {
	return map[int]map[string]string{
		1: {
			"a piece": "88fe6253b086fd795cacf9969c91bb1fc5c0835152b2c0d85f1aec4d3ff38657",
			"nothing": "c9841ad779c353b13a4abd5fe3130f326d9aad192fadd9ccc7e318181eb259b4",
			"a lot":   "2dfbeafc514f0e64e96a173561d77bef36f5ed6e41521fc5eab8b22bfd3b6b46",
		},
	}
}

func TestGoldenDigests(t *testing.T) {
	for _, in := range fixedInputs() {
		if got, want := sum(t, mustBuild(t, in.o, in.files...)), golden()[LayoutVersion][in.name]; got != want {
			t.Errorf("a volume of %s has SHA-256 %s, and at LayoutVersion %d it was %q: if the layout was meant to change, raise LayoutVersion", in.name, got, LayoutVersion, want)
		}
	}
}

func TestSameInputSameBytes(t *testing.T) {
	for _, in := range fixedInputs() {
		want := mustBuild(t, in.o, in.files...)
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() {
				for range 250 {
					got, err := Build(in.o, in.files...)
					if err != nil || !sameExtents(got, want) {
						t.Errorf("%s: another build is another volume (%v)", in.name, err)
						return
					}
				}
			})
		}
		wg.Wait()
	}
}

// sameExtents compares two volumes of the same files without reading those.
func sameExtents(a, b *extent.Map) bool {
	return slices.EqualFunc(a.Extents(0, a.Size()), b.Extents(0, b.Size()), func(x, y extent.Extent) bool {
		if x.Off != y.Off || x.Len != y.Len || x.SourceOff != y.SourceOff {
			return false
		}
		if x.Source == y.Source {
			return true
		}
		p, q := make([]byte, x.Len), make([]byte, y.Len)
		x.Source.ReadAt(p, x.SourceOff)
		y.Source.ReadAt(q, y.SourceOff)
		return string(p) == string(q)
	})
}

// TestNothingButTheInputs reads the package's source. The source has no map,
// whose order could change the bytes. It imports no package through which a
// clock, chance or the machine could.
func TestNothingButTheInputs(t *testing.T) {
	pure := []string{"encoding/binary", "fmt", "hash/crc32", "math", "slices", "strings", "unicode/utf8",
		"aesthetic.computer/isofs/extent", "aesthetic.computer/isofs/fault"}
	entries, err := os.ReadDir(".")
	if err != nil {
		t.Fatal(err)
	}
	parsed := 0
	for _, e := range entries {
		if !strings.HasSuffix(e.Name(), ".go") || strings.HasSuffix(e.Name(), "_test.go") {
			continue
		}
		parsed++
		fset := token.NewFileSet()
		tree, err := parser.ParseFile(fset, e.Name(), nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		for _, i := range tree.Imports {
			if path, _ := strconv.Unquote(i.Path.Value); !slices.Contains(pure, path) {
				t.Errorf("%s imports %s", fset.Position(i.Pos()), path)
			}
		}
		ast.Inspect(tree, func(n ast.Node) bool {
			switch n.(type) {
			case *ast.MapType, *ast.GoStmt, *ast.SelectStmt:
				t.Errorf("%s: a %T", fset.Position(n.Pos()), n)
			}
			return true
		})
	}
	if parsed == 0 {
		t.Error("found no source")
	}
}

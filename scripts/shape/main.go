// Command shape shows how tightly the files of a package hang together: it
// counts the pairs of files of which one uses a name that the other declares.
// Names are package-level identifiers, fields and methods; tests are left out.
//
//	go run ./scripts/shape [-pairs] ./origin ./cache
package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"go/ast"
	"go/importer"
	"go/parser"
	"go/token"
	"go/types"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

func main() {
	list := flag.Bool("pairs", false, "print each pair, and the names that make it one")
	flag.Parse()
	listed, err := goList(flag.Args())
	if err == nil {
		for _, p := range listed {
			if !p.DepOnly {
				err = errors.Join(err, show(p, listed, *list))
			}
		}
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "shape:", err)
		os.Exit(1)
	}
}

// listedPackage is what go list prints of a package.
type listedPackage struct {
	ImportPath, Dir, Export string
	GoFiles                 []string
	DepOnly                 bool // it is not one of the arguments
}

// goList returns the packages that the patterns name and all that these import,
// with files that hold the types they export.
func goList(patterns []string) (all []listedPackage, err error) {
	cmd := exec.Command("go", append([]string{"list", "-export", "-deps", "-json=ImportPath,Dir,Export,GoFiles,DepOnly", "--"}, patterns...)...)
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("go list: %w", err)
	}
	for in := json.NewDecoder(bytes.NewReader(out)); ; {
		var p listedPackage
		if err := in.Decode(&p); errors.Is(err, io.EOF) {
			return all, nil
		} else if err != nil {
			return nil, err
		}
		all = append(all, p)
	}
}

// A use is a pair of files: the first uses names of the second.
type use struct{ from, to string }

// show prints the numbers of one package.
func show(p listedPackage, all []listedPackage, list bool) error {
	uses, err := usesOf(p, all)
	if err != nil {
		return fmt.Errorf("%s: %w", p.ImportPath, err)
	}
	pairs := map[use]bool{} // without a direction
	for u := range uses {
		pairs[use{min(u.from, u.to), max(u.from, u.to)}] = true
	}
	n := len(p.GoFiles)
	fmt.Printf("%s: %d files, %d pairs of %d\n", p.ImportPath, n, len(pairs), n*(n-1)/2)
	if !list {
		return nil
	}
	var lines []string
	for u, names := range uses {
		lines = append(lines, fmt.Sprintf("\t%s -> %s: %s\n", u.from, u.to, strings.Join(slices.Sorted(maps.Keys(names)), " ")))
	}
	slices.Sort(lines)
	fmt.Print(strings.Join(lines, ""))
	return nil
}

// usesOf returns which names each file uses of each other one.
func usesOf(p listedPackage, all []listedPackage) (map[use]map[string]bool, error) {
	set := token.NewFileSet()
	var files []*ast.File
	for _, name := range p.GoFiles {
		f, err := parser.ParseFile(set, filepath.Join(p.Dir, name), nil, parser.SkipObjectResolution)
		if err != nil {
			return nil, err
		}
		files = append(files, f)
	}
	exports := importer.ForCompiler(set, "gc", func(path string) (io.ReadCloser, error) {
		i := slices.IndexFunc(all, func(p listedPackage) bool { return p.ImportPath == path })
		if i < 0 {
			return nil, fmt.Errorf("go list does not know %s", path)
		}
		return os.Open(all[i].Export)
	})
	info := types.Info{Uses: map[*ast.Ident]types.Object{}}
	pkg, err := (&types.Config{Importer: exports}).Check(p.ImportPath, set, files, &info)
	if err != nil {
		return nil, err
	}
	uses := map[use]map[string]bool{}
	for id, to := range info.Uses {
		u := use{filepath.Base(set.Position(id.Pos()).Filename), filepath.Base(set.Position(to.Pos()).Filename)}
		if to.Pkg() != pkg || !shared(to, pkg) || u.from == u.to {
			continue
		}
		if uses[u] == nil {
			uses[u] = map[string]bool{}
		}
		uses[u][to.Name()] = true
	}
	return uses, nil
}

// shared reports whether other files can use the object: it is declared at the
// level of the package, or a field or method.
func shared(o types.Object, pkg *types.Package) bool {
	switch o := o.(type) {
	case *types.Var:
		return o.IsField() || o.Parent() == pkg.Scope()
	case *types.Func:
		return true
	default:
		return o.Parent() == pkg.Scope()
	}
}

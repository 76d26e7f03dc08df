// Command texts writes the program's texts, for a checker of prose to read.
//
//	go run ./scripts/texts DIR
//
// For each Go file of the module, tests aside, DIR gets a Markdown file of the same path. Each
// string of at least three words is an item of a list there, on its line of the source. The
// command fails if an identifier is a word that says nothing of what it names.
package main

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// vague are words that name neither a thing nor an action.
var vague = regexp.MustCompile(`^(told|said|begun|had|gone)$`)

var (
	verb = regexp.MustCompile(`%[-+# 0]*[0-9.*]*[a-zA-Z]`)
	// words matches three in a row, as in prose and not in code.
	words = regexp.MustCompile(`(?i)[a-z]{2,},? [a-z]+,? [a-z]+`)
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: go run ./scripts/texts DIR")
		os.Exit(2)
	}
	found := 0
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && slices.Contains([]string{"build", "node_modules", ".git"}, d.Name()):
			return filepath.SkipDir
		case filepath.Ext(path) != ".go":
			return nil
		}
		n, err := collect(path, filepath.Join(os.Args[1], path+".md"))
		found += n
		return err
	})
	if err != nil {
		fmt.Fprintln(os.Stderr, "texts:", err)
		os.Exit(1)
	}
	if found > 0 {
		os.Exit(1)
	}
}

// collect writes the texts of a file, and returns how many vague identifiers it has.
func collect(path, to string) (found int, err error) {
	set := token.NewFileSet()
	file, err := parser.ParseFile(set, path, nil, 0)
	if err != nil {
		return 0, err
	}
	var lines []string
	ast.Inspect(file, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.Ident:
			if vague.MatchString(n.Name) {
				fmt.Fprintf(os.Stderr, "%s: the name %s says nothing of what it names\n", set.Position(n.Pos()), n.Name)
				found++
			}
		case *ast.BasicLit:
			if text, err := strconv.Unquote(n.Value); err == nil && n.Kind == token.STRING && words.MatchString(text) {
				lines = place(lines, set.Position(n.Pos()).Line, text)
			}
		}
		return true
	})
	if len(lines) == 0 || strings.HasSuffix(path, "_test.go") {
		return found, nil
	}
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		return found, err
	}
	return found, os.WriteFile(to, []byte(strings.Join(lines, "\n")+"\n"), 0o644)
}

// place puts a text on its line, or the first free one after it.
func place(lines []string, line int, text string) []string {
	for len(lines) < line-1 {
		lines = append(lines, "")
	}
	first := true
	for part := range strings.Lines(verb.ReplaceAllString(text, "X")) {
		part = strings.TrimSpace(part)
		if first && part != "" {
			part, first = "- "+part, false
		}
		lines = append(lines, part)
	}
	return lines
}

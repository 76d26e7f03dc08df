package integration

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
)

// A block is the text between two fences of a page.
type block struct {
	page string // from the root of the source
	line int    // of its first line
	lang string // what follows the fence
	text string
	mark mark
}

// A mark is a comment just before a block. It says what readers of the page need not see:
//
//	<!-- not run: hardware: a stick -->
//	<!-- release: make base-debian -->
//	<!-- by: user -->
//	<!-- after: ctrl-C -->
type mark struct{ kind, reason string }

var markLine = regexp.MustCompile(`^<!-- (not run|release|by|after): (.+) -->$`)

// A typed is what a page says to type at one prompt.
type typed struct {
	line int // in the page
	text string
}

// These words may follow a fence. With another word, a test cannot tell whether a reader types the
// block.
const (
	shells   = " sh console "
	files    = " toml ini " // their first line is "# /path/of/the/file"
	pictures = " text json html "
)

// readPage returns the blocks of a page. The error says what is wrong with the page.
func readPage(page string) ([]block, error) {
	data, err := os.ReadFile(filepath.Join(tree, page))
	if err != nil {
		return nil, err
	}
	var blocks []block
	var before string // the last line that is not empty
	open, empty := false, true
	for n, line := range strings.Split(string(data), "\n") {
		at := fmt.Sprintf("%s:%d", page, n+1)
		switch {
		case open && line == "```":
			open = false
		case open:
			blocks[len(blocks)-1].text += line + "\n"
			continue
		case strings.HasPrefix(line, "```"):
			b := block{page: page, line: n + 2, lang: line[3:]}
			if m := markLine.FindStringSubmatch(before); m != nil {
				b.mark = mark{m[1], m[2]}
			}
			if !strings.Contains(shells+files+pictures, " "+b.lang+" ") {
				return nil, fmt.Errorf("%s: a block of %q: write %s if it is typed, %s if it is a file, %s if it is shown", at, b.lang, shells, files, pictures)
			}
			open, blocks = true, append(blocks, b)
		case strings.HasPrefix(line, "    ") && empty && !inList(before):
			return nil, fmt.Errorf("%s: indented code: put it between fences that say whether it is typed: %s", at, line)
		case strings.HasPrefix(line, "<!--") && !markLine.MatchString(line):
			return nil, fmt.Errorf("%s: not a mark: %s", at, line)
		}
		if empty = line == ""; !empty {
			before = line
		}
	}
	if open {
		return nil, fmt.Errorf("%s: the last block has no end", page)
	}
	return blocks, nil
}

var listItem = regexp.MustCompile(`^ *([-*]|\d+\.) `)

func inList(line string) bool { return listItem.MatchString(line) || strings.HasPrefix(line, "  ") }

func (b block) isShell() bool { return strings.Contains(shells, " "+b.lang+" ") }
func (b block) isFile() bool  { return strings.Contains(files, " "+b.lang+" ") }

func (b block) at(line int) string { return fmt.Sprintf("%s:%d", b.page, line) }

// path is the path of the file that a block of settings belongs in; "" if the block does not say.
func (b block) path() string {
	first, _, _ := strings.Cut(b.text, "\n")
	if path, ok := strings.CutPrefix(first, "# "); ok && filepath.IsAbs(path) {
		return path
	}
	return ""
}

var hereDocument = regexp.MustCompile(`<<-?'?([A-Za-z]+)'?`)

// commands returns the commands of a block, one by one. In a console they follow "$ ".
func (b block) commands() []typed {
	var all []typed
	more, end := false, "" // whether the command continues, after a backslash; and the line that ends it
	for n, line := range strings.Split(strings.TrimSuffix(b.text, "\n"), "\n") {
		if b.lang == "console" && !more && end == "" {
			var ok bool
			if line, ok = strings.CutPrefix(line, "$ "); !ok {
				continue
			}
		}
		if more || end != "" {
			all[len(all)-1].text += "\n" + line
		} else if text := strings.TrimSpace(line); text != "" && !strings.HasPrefix(text, "#") {
			all = append(all, typed{b.line + n, line})
		} else {
			continue
		}
		if end != "" {
			if line == end {
				end = ""
			}
			continue
		}
		more = strings.HasSuffix(line, `\`)
		if m := hereDocument.FindStringSubmatch(line); m != nil {
			end = m[1]
		}
	}
	return all
}

var comment = regexp.MustCompile(`\s+#.*`)

// plain is the command on one line, without a comment.
func (c typed) plain() string {
	return strings.TrimSpace(comment.ReplaceAllString(strings.ReplaceAll(c.text, "\\\n", " "), ""))
}

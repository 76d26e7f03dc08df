package integration

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
)

// A block is what a page has between two fences.
type block struct {
	page string // from the root of the source
	line int    // of its first line
	lang string // what follows the fence
	text string
	mark mark
}

// A mark is a comment just before a block. It says what a reader need not know:
//
//	<!-- not run: hardware: a stick -->
//	<!-- release: make base-debian -->
//	<!-- by: user -->
//	<!-- after: ctrl-C -->
type mark struct{ kind, reason string }

var markLine = regexp.MustCompile(`^<!-- (not run|release|by|after): (.+) -->$`)

// A typed is what a page tells to type at one prompt.
type typed struct {
	line int // in the page
	text string
}

// What may follow a fence. Of others nobody would know whether they are typed.
const (
	shells   = " sh console "
	files    = " toml ini " // their first line is "# /path/of/the/file"
	pictures = " text json html "
)

// readPage returns the blocks of a page, or what is wrong with it.
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
				return nil, fmt.Errorf("%s: a block of %q: neither %s, which are run, nor %s, which are written, nor %s, which are looked at", at, b.lang, shells, files, pictures)
			}
			open, blocks = true, append(blocks, b)
		case strings.HasPrefix(line, "    ") && empty && !inList(before):
			return nil, fmt.Errorf("%s: what is typed or shown stands between fences, so that it is known which of them it is: %s", at, line)
		case strings.HasPrefix(line, "<!--") && !markLine.MatchString(line):
			return nil, fmt.Errorf("%s: this is no mark: %s", at, line)
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

// path is where a block of settings belongs; "" if it does not say so.
func (b block) path() string {
	first, _, _ := strings.Cut(b.text, "\n")
	if path, ok := strings.CutPrefix(first, "# "); ok && filepath.IsAbs(path) {
		return path
	}
	return ""
}

var hereDocument = regexp.MustCompile(`<<-?'?([A-Za-z]+)'?`)

// commands are what is typed, one by one: of a console what is behind "$ ".
func (b block) commands() []typed {
	var all []typed
	more, end := false, "" // the last command goes on: by a backslash, or up to a line
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

// plain is the command without a comment, on one line.
func (c typed) plain() string {
	return strings.TrimSpace(comment.ReplaceAllString(strings.ReplaceAll(c.text, "\\\n", " "), ""))
}

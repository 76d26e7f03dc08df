package isofs_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestInvariantsHaveTheirTests compares the table in docs/invariants.md with
// the invariants of DESIGN.md and with the tests that exist.
func TestInvariantsHaveTheirTests(t *testing.T) {
	design, err := os.ReadFile("DESIGN.md")
	if err != nil {
		t.Fatal(err)
	}
	_, invariants, _ := strings.Cut(string(design), "\n## 5. Invariants\n")
	want := len(regexp.MustCompile(`(?m)^\d+\. \*\*`).FindAllString(invariants, -1))
	page, err := os.ReadFile(filepath.Join("docs", "invariants.md"))
	if err != nil {
		t.Fatal(err)
	}
	rows := regexp.MustCompile(`(?m)^\| (\d+) .*\|$`).FindAllStringSubmatch(string(page), -1)
	if len(rows) != 11 || want != 11 {
		t.Errorf("docs/invariants.md has %d invariants and DESIGN.md has %d; both must have 11", len(rows), want)
	}
	for _, row := range rows {
		tests := regexp.MustCompile("`([a-z0-9]+)\\.(Test[A-Za-z0-9]+)`").FindAllStringSubmatch(row[0], -1)
		if len(tests) == 0 {
			t.Errorf("invariant %s has no test", row[1])
		}
		for _, test := range tests {
			if !hasTest(t, test[1], test[2]) {
				t.Errorf("invariant %s: there is no %s in %s", row[1], test[2], test[1])
			}
		}
	}
}

func hasTest(t *testing.T, pkg, name string) bool {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(pkg, "*_test.go"))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(text), "\nfunc "+name+"(t *testing.T)") {
			return true
		}
	}
	return false
}

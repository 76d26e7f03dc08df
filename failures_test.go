package isofs_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestFailuresHaveTheirTests compares the table in docs/failures.md with the
// tests that there are, both ways.
func TestFailuresHaveTheirTests(t *testing.T) {
	doc, err := os.ReadFile(filepath.Join("docs", "failures.md"))
	if err != nil {
		t.Fatal(err)
	}
	rows := regexp.MustCompile(`(?m)^\| (\d+) \|.*\|$`).FindAllStringSubmatch(string(doc), -1)
	if len(rows) != 25 {
		t.Errorf("the table has %d failures, and there are 25", len(rows))
	}
	for _, row := range rows {
		tests := regexp.MustCompile("`([a-z0-9]+)\\.(Test[A-Za-z0-9]+)`").FindAllStringSubmatch(row[0], -1)
		if len(tests) == 0 && !strings.Contains(row[0], "no test:") {
			t.Errorf("failure %s has no test, and does not say why", row[1])
		}
		for _, test := range tests {
			if !hasTest(t, test[1], test[2]) {
				t.Errorf("failure %s: there is no %s in %s", row[1], test[2], test[1])
			}
		}
	}
	files, err := filepath.Glob(filepath.Join("integration", "matrix_*_test.go"))
	if err != nil || len(files) == 0 {
		t.Fatalf("the matrix's files: %v, %v", files, err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range regexp.MustCompile(`(?m)^func (TestRow\d\d\w+)\(`).FindAllStringSubmatch(string(text), -1) {
			if !strings.Contains(string(doc), "`integration."+m[1]+"`") {
				t.Errorf("%s in %s is in no row of docs/failures.md", m[1], file)
			}
		}
	}
}

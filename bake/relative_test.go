package bake

import (
	"context"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestRelativeDirectories: a bake's programs have other current directories
// than the bake, so none may get a relative path. What `make base-debian` gives
// are relative ones. The program that installs the packages only notes here
// what it is given, and fails.
func TestRelativeDirectories(t *testing.T) {
	if os.Geteuid() != 0 {
		if os.Getenv("CI") != "" {
			t.Fatal("needs root")
		}
		t.Skip("needs root")
	}
	if _, err := findDebianTools(); err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	tools := t.TempDir()
	noted := filepath.Join(tools, "noted")
	stub := "#!/bin/sh\nprintf '%s\\n' \"$PWD\" \"$@\" >>" + noted + "\nexit 1\n"
	if err := os.WriteFile(filepath.Join(tools, "unshare"), []byte(stub), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", tools+":"+os.Getenv("PATH"))
	t.Chdir(t.TempDir())
	_, err := Debian(context.Background(), DebianOptions{
		WorkDir: "work", OutDir: "out", Version: "2026-11-01", SourceDateEpoch: 1_761_955_200,
		Mirror: "file:///nowhere",
	})
	if err == nil {
		t.Fatal("the stub installed something")
	}
	text, readErr := os.ReadFile(noted)
	if readErr != nil {
		t.Fatalf("the packages were not begun to be installed: %v", err)
	}
	if !strings.Contains(string(text), "/work/") {
		t.Errorf("no path of the work directory in:\n%s", text)
	}
	if relative := regexp.MustCompile(`(?m)(^|[ ="])(work|out)/.*`).FindAll(text, -1); len(relative) > 0 {
		t.Errorf("relative paths: %q", relative)
	}
}

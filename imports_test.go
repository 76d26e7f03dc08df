// Package isofs_test keeps the layers of DESIGN.md, section 3.
package isofs_test

import (
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// allowed is the DAG of imports between the module's packages. Every package
// may also import fault, which imports nothing.
var allowed = map[string]string{
	"fault":       "",
	"border":      "",
	"output":      "",
	"extent":      "",
	"origin":      "",
	"cache":       "",
	"quota":       "",
	"piece":       "",
	"bundle":      "piece",
	"nginx":       "",
	"signature":   "",
	"ext4gen":     "extent",
	"partition":   "",
	"base":        "partition",
	"store":       "base origin",
	"upstream":    "base cache image origin signature",
	"image":       "extent ext4gen base",
	"sidecar":     "extent base image",
	"bake":        "base border ext4gen extent image",
	"catalog":     "image bundle base extent piece quota",
	"vfs":         "border extent",
	"api":         "catalog bundle piece quota",
	"server":      "api base border bundle cache catalog image nginx origin piece sidecar signature upstream vfs",
	"settings":    "",
	"doctor":      "border nginx server settings upstream vfs",
	"boottest":    "output",
	"stick":       "base partition piece",
	"cmd/isofs":   "bake base boottest bundle cache catalog doctor extent nginx origin output partition piece quota server settings signature stick store upstream vfs",
	"integration": "",
	// Packages of the tests, which no part of the program imports.
	"integration/s3test":  "",
	"integration/testkit": "extent",
	"bench":               "",
	"scripts/shape":       "",
	"scripts/texts":       "",
}

func TestImportsFollowTheLayers(t *testing.T) {
	const module = "aesthetic.computer/isofs"
	out, err := exec.Command("go", "list", "-f", "{{.ImportPath}} {{join .Imports \" \"}}", "./...").CombinedOutput()
	if err != nil {
		t.Fatalf("go list: %v\n%s", err, out)
	}
	for line := range strings.Lines(string(out)) {
		fields := strings.Fields(line)
		pkg, inModule := strings.CutPrefix(fields[0], module+"/")
		if !inModule {
			continue // this test
		}
		may, known := allowed[pkg]
		if !known {
			t.Errorf("package %s is in no layer: add it here and to DESIGN.md, section 3", pkg)
		}
		for _, i := range fields[1:] {
			name, ours := strings.CutPrefix(i, module+"/")
			if ours && name != "fault" && !slices.Contains(strings.Fields(may), name) {
				t.Errorf("package %s must not import %s", pkg, name)
			}
		}
	}
}

package bake

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"aesthetic.computer/isofs/fault"
	"aesthetic.computer/isofs/integration/testkit"
)

// modulesOf makes a tree of files under one kernel release.
func modulesOf(t *testing.T, files map[string]string) string {
	t.Helper()
	root := t.TempDir()
	for name, content := range files {
		path := filepath.Join(root, "lib/modules/6.1.0-1", name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

func TestModules(t *testing.T) {
	root := modulesOf(t, map[string]string{
		"modules.builtin":          "kernel/fs/ext4/ext4.ko\nkernel/crypto/crc32c-generic.ko\n",
		"kernel/crypto/damaged.ko": "no ELF",
	})
	tree, err := openModules(root)
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name           string
		needed, wanted []string
		kind           error
		want           string
	}{
		{name: "built in, under either name", needed: []string{"ext4", "crc32c_generic"}},
		{name: "wanted and not there", wanted: []string{"usb_storage"}},
		{"needed and not there", []string{"erofs"}, nil, fault.NotFound, "the kernel has no module erofs"},
		{"damaged", []string{"damaged"}, nil, fault.Corrupt, "kernel module damaged"},
	} {
		list, err := tree.load(t.Context(), &runner{}, tt.needed, tt.wanted)
		if fault.Kind(err) != tt.kind || tt.kind != nil && !strings.Contains(err.Error(), tt.want) || len(list) > 0 {
			t.Errorf("%s: %v, %v", tt.name, list, err)
		}
	}
	if err := os.Mkdir(filepath.Join(root, "lib/modules/6.1.0-2"), 0o755); err != nil {
		t.Fatal(err)
	}
	if _, err := openModules(root); fault.Kind(err) != fault.Invalid || !strings.Contains(err.Error(), "2 folders") {
		t.Errorf("two kernels: %v", err)
	}
}

// checkOrder checks the modules of the real kernel: none before one that it
// needs, none twice, and no missing one that the initramfs needs.
func checkOrder(t *testing.T, list []module, builtin map[string]bool) {
	t.Helper()
	loaded := map[string]bool{}
	for _, m := range list {
		deps, err := dependencies(m.data)
		if err != nil {
			t.Fatal(err)
		}
		for _, dep := range deps {
			if !loaded[dep] && !builtin[dep] {
				t.Errorf("%s comes before %s, which it needs", m.name, dep)
			}
		}
		if loaded[m.name] {
			t.Errorf("%s is there twice", m.name)
		}
		loaded[m.name] = true
	}
	for _, name := range neededModules {
		if !loaded[name] && !builtin[name] {
			t.Errorf("%s is missing", name)
		}
	}
	if len(list) < 10 {
		t.Errorf("only %d modules: is this Debian's kernel?", len(list))
	}
}

// The kernel that the bake downloaded, and the same with its modules packed as
// in newer releases of Debian.
func TestModulesOfTheRealKernel(t *testing.T) {
	kernels, err := filepath.Glob(filepath.Join(debs, "debs", "linux-image-*_amd64.deb"))
	if err != nil || len(kernels) == 0 {
		bakeTiny(t, TinyOptions{OutDir: t.TempDir()})
		kernels, _ = filepath.Glob(filepath.Join(debs, "debs", "linux-image-*_amd64.deb"))
	}
	root := t.TempDir()
	run(t, testkit.NeedTool(t, "dpkg-deb", "dpkg"), "-x", kernels[0], root)
	tree, err := openModules(root)
	if err != nil {
		t.Fatal(err)
	}
	r := &runner{tools: map[string]string{}, log: discard}
	plain, err := tree.load(t.Context(), r, neededModules, wantedModules)
	if err != nil {
		t.Fatal(err)
	}
	checkOrder(t, plain, tree.builtin)
	xz := testkit.NeedTool(t, "xz", "xz-utils")
	for _, m := range plain {
		if path := tree.files[m.name]; !strings.HasSuffix(path, ".xz") {
			run(t, xz, "-0", path)
		}
	}
	if tree, err = openModules(root); err != nil {
		t.Fatal(err)
	}
	packed, err := tree.load(t.Context(), r, neededModules, wantedModules)
	if err != nil {
		t.Fatal(err)
	}
	if len(packed) != len(plain) {
		t.Fatalf("%d modules of %d when packed", len(packed), len(plain))
	}
	for i := range plain {
		if packed[i].name != plain[i].name || string(packed[i].data) != string(plain[i].data) {
			t.Errorf("module %d, %s: differs when packed", i, plain[i].name)
		}
	}
}

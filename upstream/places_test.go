package upstream

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	"aesthetic.computer/isofs/base"
)

func TestWhereTheMirrorsAre(t *testing.T) {
	yes := func(string) bool { return true }
	for _, c := range []struct {
		where    places
		manifest []string
		want     []string // nil: an error
	}{
		{places{"bases/x"}, nil, []string{"bases/x/base.iso"}},
		{places{"https://h/x", "https://m/x/", "s3://bucket/x", "/srv/x"}, nil,
			[]string{"https://h/x/base.iso", "https://m/x/base.iso", "s3://bucket/x/base.iso", "/srv/x/base.iso"}},
		{places{"https://h/x", "https://m/other.iso", "/srv/other.iso"}, []string{"https://n/base.iso", "https://h/x/base.iso"},
			[]string{"https://h/x/base.iso", "https://m/other.iso", "/srv/other.iso", "https://n/base.iso"}},
		{places{"https://h/manifest.json?signed=1", "https://h/base.iso?signed=2"}, nil, []string{"https://h/base.iso?signed=2"}},
		{places{"https://h/manifest.json?signed=1"}, []string{"https://n/base.iso"}, []string{"https://n/base.iso"}},
		{places{"https://h/manifest.json?signed=1"}, nil, nil},
	} {
		got, err := c.where.images(&base.Manifest{Mirrors: c.manifest}, yes)
		if !slices.Equal(got, c.want) || (err == nil) != (c.want != nil) {
			t.Errorf("%v and %v: %v, %v", c.where, c.manifest, got, err)
		}
		if again := readPlaces(c.where.text()); !slices.Equal(again, c.where) {
			t.Errorf("%v is read back as %v", c.where, again)
		}
	}
	where := places{"https://h/x", "https://m/x.iso", "https://m/x", "https://m/y?signed=1"}
	if got := where.folders(); !slices.Equal(got, places{"https://h/x", "https://m/x"}) {
		t.Errorf("the manifest is read from %v", got)
	}
	no := func(string) bool { return false }
	if got, err := (places{"x"}).images(&base.Manifest{Mirrors: []string{"s3://b/base.iso"}}, no); err != nil || len(got) != 1 {
		t.Errorf("a mirror of the manifest that cannot be opened: %v, %v", got, err)
	}
}

// TestMirrorsAreKept: the record of one base has --base and the mirrors.
// Records of an isofs without mirrors can still be read.
func TestMirrorsAreKept(t *testing.T) {
	b := newRegistry(Config{Dir: t.TempDir()})
	m := &base.Manifest{SHA256: base.Hash{1}}
	where := places{"https://h/x", "https://m/x"}
	if err := b.keep(&signedManifest{Manifest: m, data: []byte("{}")}, where); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(b.dir, m.SHA256.String(), "address"))
	if err != nil || !slices.Equal(readPlaces(text), where) {
		t.Errorf("%q, %v", text, err)
	}
	if got := readPlaces([]byte("https://h/x\n")); !slices.Equal(got, places{"https://h/x"}) {
		t.Errorf("got %v", got)
	}
}

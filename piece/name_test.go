package piece

import (
	"errors"
	"mime"
	"net/url"
	"regexp"
	"strings"
	"testing"

	"aesthetic.computer/isofs/fault"
)

func TestNames(t *testing.T) {
	long := strings.Repeat("a", maxSlug)
	tests := []struct{ input, canonical, file, key, value string }{
		{"notepat", "notepat", "notepat-os.iso", "piece", "notepat"},
		{"Note_Pat-2", "Note_Pat-2", "Note_Pat-2-os.iso", "piece", "Note_Pat-2"},
		{"x-os", "x-os", "x-os-os.iso", "piece", "x-os"},
		{"_", "_", "_-os.iso", "piece", "_"},
		{"-rf", "-rf", "piece.-rf-os.iso", "piece", "-rf"},
		{long, long, long + "-os.iso", "piece", long},
		{"@jeffrey/tone", "@jeffrey/tone", "at.jeffrey.tone-os.iso", "piece", "@jeffrey/tone"},
		{"@Jeff.B_2/Tone", "@jeff.b_2/Tone", "at.jeff.b_2.Tone-os.iso", "piece", "@jeff.b_2/Tone"},
		{"@lisp.at/-x", "@lisp.at/-x", "at.lisp.at.-x-os.iso", "piece", "@lisp.at/-x"},
		{"@abcdefghijklmnop/x", "@abcdefghijklmnop/x", "at.abcdefghijklmnop.x-os.iso", "piece", "@abcdefghijklmnop/x"},
		{"$39j", "$39j", "kidlisp.39j-os.iso", "code", "39j"},
		{"$39J", "$39J", "kidlisp.39J-os.iso", "code", "39J"},
		{"$abcd2345", "$abcd2345", "kidlisp.abcd2345-os.iso", "code", "abcd2345"},
	}
	for _, tt := range tests {
		n, err := ParseName(tt.input)
		if err != nil {
			t.Errorf("ParseName(%q): %v", tt.input, err)
			continue
		}
		key, value := n.Query()
		if n.String() != tt.canonical || n.FileName() != tt.file || key != tt.key || value != tt.value {
			t.Errorf("%q is %q in %q, with the parameter %s=%s", tt.input, n, n.FileName(), key, value)
		}
		if back, err := ParseFileName(tt.file); err != nil || back != n {
			t.Errorf("ParseFileName(%q) = %q, %v; want %q", tt.file, back, err, n)
		}
		if back, err := ParseStem(n.Stem()); err != nil || back != n || n.Stem()+"-os.iso" != tt.file {
			t.Errorf("ParseStem(%q) = %q, %v; want %q", n.Stem(), back, err, n)
		}
		slot := strings.TrimSuffix(tt.file, "-os.iso") + "-piece.img"
		if back, err := ParseFileName(slot); err != nil || back != n || n.SlotFileName() != slot || !IsSlotFileName(slot) || IsSlotFileName(tt.file) {
			t.Errorf("ParseFileName(%q) = %q, %v; want %q, whose is %q", slot, back, err, n, n.SlotFileName())
		}
	}
	if zero := (Name{}); !zero.IsZero() || zero.FileName() != "" || zero.String() != "" {
		t.Error("the zero Name is something")
	}
}

func TestNamesRefused(t *testing.T) {
	tests := []struct{ input, because string }{
		{"", "empty"},
		{" notepat", `' ' cannot`},
		{"notepat\n", `'\n' cannot`},
		{"note\x00pat", `'\x00' cannot`},
		{"note\r\nSet-Cookie: x", `'\r' cannot`},
		{"caf\u00e9", "'é' cannot"},
		{"\u212aidlisp", "cannot"}, // KELVIN SIGN, which folds to k
		{"\xff", "cannot"},
		{"..", "'.' cannot"},
		{"../etc/passwd", "'.' cannot"},
		{"a/b", "'/' cannot"},
		{"%2e%2e", "'%' cannot"},
		{"notepat-os.iso", "'.' cannot"},
		{strings.Repeat("a", maxSlug+1), "at most 64"},
		{strings.Repeat("a", 1<<20), "at most 64"},
		{"@", "slash"},
		{"@jeffrey", "slash"},
		{"@jeffrey/", "missing"},
		{"@/tone", "handle is missing"},
		{"@jeffrey/a/b", "'/' cannot"},
		{"@jeffrey/../x", "'.' cannot"},
		{"@.jeffrey/x", "only between"},
		{"@jeffrey./x", "ends with"},
		{"@jeff..b/x", "only between"},
		{"@jeff-b/x", "'-' cannot"},
		{"@\u212aen/x", "cannot"},
		{"@abcdefghijklmnopq/x", "at most 16"},
		{"@jeffrey/" + strings.Repeat("a", maxSlug+1), "at most 64"},
		{"$", "KidLisp code is"},
		{"$ab", "KidLisp code is"},
		{"$abcdefghi", "KidLisp code is"},
		{"$a-b", "'-' cannot"},
		{"$$39j", "'$' cannot"},
	}
	for _, tt := range tests {
		n, err := ParseName(tt.input)
		if !errors.Is(err, fault.Invalid) || !n.IsZero() || !strings.Contains(err.Error(), tt.because) {
			t.Errorf("ParseName(%.80q) = %q, %v; want it refused with %q", tt.input, n, err, tt.because)
		}
		if err != nil && len(err.Error()) > 600 {
			t.Errorf("ParseName(%.20q...) says %d bytes", tt.input, len(err.Error()))
		}
	}
}

func TestFileNamesRefused(t *testing.T) {
	for _, s := range []string{
		"", "-os.iso", "notepat", "notepat.iso", "notepat-os.iso.sha256", "notepat-os.ISO", "-rf-os.iso",
		"piece.notepat-os.iso", "piece.-os.iso", "kidlisp.-os.iso", "kidlisp.39j.x-os.iso", "$39j-os.iso",
		"at.jeffrey-os.iso", "at.Jeffrey.tone-os.iso", "at..tone-os.iso", "at.jeffrey.-os.iso", "@jeffrey/tone-os.iso",
		"at.jeffrey/tone-os.iso", "../notepat-os.iso", "AT.jeffrey.tone-os.iso",
	} {
		if n, err := ParseFileName(s); !errors.Is(err, fault.Invalid) || !n.IsZero() {
			t.Errorf("ParseFileName(%q) = %q, %v; want it refused", s, n, err)
		}
		slot := strings.Replace(s, "-os.iso", "-piece.img", 1)
		if n, err := ParseFileName(slot); !errors.Is(err, fault.Invalid) || !n.IsZero() {
			t.Errorf("ParseFileName(%q) = %q, %v; want it refused", slot, n, err)
		}
	}
	for _, s := range []string{"notepat-piece.img.sha256", "notepat.img", "notepat-piece.IMG", "notepat-piece.img-os.iso.x", "notepat-os.iso-piece.img"} {
		if n, err := ParseFileName(s); !errors.Is(err, fault.Invalid) || !n.IsZero() {
			t.Errorf("ParseFileName(%q) = %q, %v; want it refused", s, n, err)
		}
	}
}

// plain matches text that no shell, URL, header or file system gives a meaning.
func plain() *regexp.Regexp { return regexp.MustCompile(`^[a-zA-Z0-9_][a-zA-Z0-9._-]{0,93}$`) }

// spec matches the names of aesthetic.computer, by its own patterns.
func spec() *regexp.Regexp {
	return regexp.MustCompile(`^((@[a-zA-Z0-9]+([._][a-zA-Z0-9]+)*/)?[a-zA-Z0-9_-]{1,64}|\$[a-zA-Z0-9]{3,8})$`)
}

func FuzzParseName(f *testing.F) {
	for _, s := range []string{"notepat", "@jeff.b/tone", "@at/at", "$39j", "-x", "", "@a", "../x", "caf\u00e9"} {
		f.Add(s)
	}
	plain, spec := plain(), spec()
	f.Fuzz(func(t *testing.T, s string) {
		n, err := ParseName(s)
		handle, _, _ := strings.Cut(s, "/")
		want := spec.MatchString(s) && (s[0] != '@' || len(handle) <= 1+maxHandle)
		if (err == nil) != want {
			t.Fatalf("ParseName(%q) = %q, %v; want a name: %v", s, n, err, want)
		}
		if err != nil {
			return
		}
		if !strings.EqualFold(n.String(), s) {
			t.Fatalf("%q became %q", s, n)
		}
		if again, err := ParseName(n.String()); err != nil || again != n {
			t.Fatalf("the canonical %q is %q, %v", n, again, err)
		}
		file := n.FileName()
		if !plain.MatchString(file) || url.PathEscape(file) != file {
			t.Fatalf("%q has an unsafe file name %q", s, file)
		}
		if header := mime.FormatMediaType("attachment", map[string]string{"filename": file}); header != "attachment; filename="+file {
			t.Fatalf("%q needs care in a header: %s", file, header)
		}
		if back, err := ParseFileName(file); err != nil || back != n {
			t.Fatalf("%q in %q is %q, %v", n, file, back, err)
		}
	})
}

// FileName gives back the parsed name, so no two file names have one name.
// FuzzParseName proves the opposite direction.
func FuzzParseFileName(f *testing.F) {
	for _, s := range []string{"notepat", "at.jeff.b.tone", "kidlisp.39j", "piece.-x", "at.at.at", "at.kidlisp.39j", "kidlisp.at.x", "piece.x", "a..b"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, stem string) {
		for _, s := range []string{stem, stem + imageSuffix} {
			n, err := ParseFileName(s)
			if err != nil {
				if !errors.Is(err, fault.Invalid) || !n.IsZero() {
					t.Fatalf("ParseFileName(%q) = %q, %v", s, n, err)
				}
				continue
			}
			if n.FileName() != s {
				t.Fatalf("%q was taken as %q, which is in %q", s, n, n.FileName())
			}
			slot := strings.TrimSuffix(s, imageSuffix) + slotSuffix
			if again, err := ParseFileName(slot); err != nil || again != n || n.SlotFileName() != slot {
				t.Fatalf("ParseFileName(%q) = %q, %v, want %q", slot, again, err, n)
			}
			if again, err := ParseName(n.String()); err != nil || again != n {
				t.Fatalf("%q gives %q, which is no name: %v", s, n, err)
			}
		}
	})
}

func TestDensityIsPartOfTheName(t *testing.T) {
	plain, err := ParseName("@jeffrey/tone")
	if err != nil {
		t.Fatal(err)
	}
	four := plain.WithDensity(4)
	if four == plain || four.WithDensity(0) != plain || four.Density() != 4 || plain.Density() != 0 {
		t.Errorf("%v and %v", plain, four)
	}
	if four.String() != plain.String() || four.FileName() != plain.FileName() {
		t.Errorf("the density is in %s or %s", four, four.FileName())
	}
}

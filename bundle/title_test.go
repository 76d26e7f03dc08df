package bundle

import (
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"
)

func TestTitle(t *testing.T) {
	far := strings.Repeat(" ", titleRegion-len("<title>x</title>"))
	tests := []struct{ html, want string }{
		{"<!doctype html><title>notepat</title>", "notepat"},
		{"<HTML><HEAD><TiTlE data-x='1'\n>Note\t\n  Pat </tItLe>", "Note Pat"},
		{"<title>a &amp; b &lt;c&gt; &#x41;&hearts;</title>", "a & b <c> A♥"},
		{"<!-- <title>no</title> --><title>yes</title>", "yes"},
		{"<script>s='<title>no</title>'</script><style>/*<title>no</title>*/</style><title>yes</title>", "yes"},
		{"<titlex>no</titlex><title>yes</title>", "yes"},
		{"<title></title><title>second</title>", ""},
		{"<title>not closed", ""},
		{"<title", ""},
		{"<", ""},
		{"", ""},
		{"<!-- <title>no</title>", ""},
		{"<script><title>no</title>", ""},
		{"<title>a\x00b\x1b[31mc\u202ed\u2028e\u0085f</title>", "ab[31mcd e f"},
		{"<title>\xff\xfe</title>", "\uFFFD"},
		{"<title>&#0;&#10;&#x202e;x</title>", "\uFFFD x"},
		{"\u212a\u0130<title>after letters that change length in lower case</title>", "after letters that change length in lower case"},
		{"<title>" + strings.Repeat("ä", 200) + "</title>", strings.Repeat("ä", 100)},
		{"<title>" + strings.Repeat("a", 99) + " b</title>", strings.Repeat("a", 99)},
		{far + "<title>x</title>", "x"},
		{far + "  <title>x</title>", ""},
	}
	for _, tt := range tests {
		head := []byte(tt.html)
		if got := title(head[:min(len(head), titleRegion)]); got != tt.want {
			t.Errorf("title(%.80q) = %q, want %q", tt.html, got, tt.want)
		}
	}
}

func FuzzTitle(f *testing.F) {
	for _, s := range []string{"<title>a</title>", "<!-- --><script></script><TITLE x>&amp;</TITLE>", "<title/>", "<script", "\u0130<"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, head []byte) {
		got := title(head)
		if !utf8.ValidString(got) || utf8.RuneCountInString(got) > titleLength || strings.TrimSpace(got) != got {
			t.Fatalf("title %q", got)
		}
		if strings.ContainsFunc(got, unicode.IsControl) {
			t.Fatalf("title %q has a control character", got)
		}
	})
}

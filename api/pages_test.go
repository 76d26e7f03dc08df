package api

import (
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"

	"aesthetic.computer/isofs/catalog"
)

// The page's own style is the only thing that its policy allows.
func TestThePolicyFitsThePages(t *testing.T) {
	r := newRig(t, catalog.Limits{})
	for path, want := range map[string]int{"/": 200, "/nothing": 404} {
		got := r.ask("GET", path, "Accept: text/html")
		body, policy := got.Body.String(), got.Header().Get("Content-Security-Policy")
		styles := regexp.MustCompile(`(?s)<style>(.*?)</style>`).FindAllStringSubmatch(body, -1)
		if got.Code != want || len(styles) != 1 {
			t.Fatalf("%s: %d with %d styles", path, got.Code, len(styles))
		}
		sum := sha256.Sum256([]byte(styles[0][1]))
		if hash := "style-src 'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'"; !strings.Contains(policy, hash) {
			t.Errorf("%s: the policy %q has not %q", path, policy, hash)
		}
		if strings.Contains(body, " style=") || strings.Contains(body, "<script") || strings.Contains(body, "ZgotmplZ") ||
			!strings.HasPrefix(policy, "default-src 'none'; ") {
			t.Errorf("%s has what its policy %q forbids", path, policy)
		}
	}
}

func TestTheIndexListsPieces(t *testing.T) {
	r := newRig(t, catalog.Limits{})
	r.shop.pieces = map[string]int{"notepat": 0, "@jeffrey/tone": 0, "$39j": 0}
	got := r.ask("GET", "/", "X-Forwarded-Proto: https")
	body := got.Body.String()
	for _, want := range []string{
		`href="/notepat-os.iso" download>`, `href="/at.jeffrey.tone-os.iso" download>`, `href="/kidlisp.39j-os.iso" download>`,
		"<strong>@jeffrey/tone</strong>", `href="/notepat-os.iso.sha256"`,
		"wget -c https://isofs.example/kidlisp.39j-os.iso", "base tiny 2026-11-01 for amd64, 1 MiB",
	} {
		if !strings.Contains(body, want) {
			t.Errorf("the page has not %q", want)
		}
	}
	if h := got.Header(); h.Get("Content-Type") != "text/html; charset=utf-8" || h.Get("Cache-Control") != "no-cache" || h.Get("Content-Length") != fmt.Sprint(len(body)) {
		t.Errorf("headers: %v", h)
	}
	if strings.Contains(body, "more.") {
		t.Error("it tells of more pieces, and there are none")
	}
}

func TestTheIndexIsBounded(t *testing.T) {
	r := newRig(t, catalog.Limits{})
	for i := range maxListed + 7 {
		r.shop.pieces[fmt.Sprint("piece", i)] = 0
	}
	body := r.ask("GET", "/").Body.String()
	if n := strings.Count(body, "<li><a class=\"image\""); n != maxListed || !strings.Contains(body, "And 8 more.") {
		t.Errorf("%d pieces are listed", n)
	}
}

func TestAnEmptyIndex(t *testing.T) {
	r := newRig(t, catalog.Limits{})
	r.shop.pieces = nil
	if got := r.ask("GET", "/"); got.Code != 200 || strings.Contains(got.Body.String(), "wget") || !strings.Contains(got.Body.String(), "<form") {
		t.Errorf("%d, %s", got.Code, got.Body)
	}
}

// What a stranger says comes back as text, and into a shell not at all.
func TestPagesEscape(t *testing.T) {
	r := newRig(t, catalog.Limits{})
	for _, host := range []string{`"><script>alert(1)</script>`, "evil;rm -rf ~", "a'b", "a b", "$(reboot)", "a\nb"} {
		req := r.ask("GET", "/", "X-Forwarded-Proto: javascript")
		if strings.Contains(req.Body.String(), "javascript") {
			t.Error("a scheme of the client's is on the page")
		}
		if got := r.askHost(host); !strings.Contains(got, "wget -c http://localhost/") || strings.Contains(got, "alert(") || strings.Contains(got, "reboot") {
			t.Errorf("host %q is on the page", host)
		}
	}
	for _, path := range []string{"/%3Cscript%3E-os.iso", "/?piece=%3Cscript%3Ealert(1)%3C/script%3E"} {
		got := r.ask("GET", path, "Accept: text/html")
		if body := got.Body.String(); got.Code != 400 || strings.Contains(body, "<script>") || !strings.Contains(body, "&lt;") {
			t.Errorf("%s: %d, %s", path, got.Code, body)
		}
	}
}

func TestTheFormFindsAPiece(t *testing.T) {
	r := newRig(t, catalog.Limits{})
	for said, want := range map[string]string{
		"notepat": "/notepat-os.iso", "%40Jeffrey%2Ftone": "/at.jeffrey.tone-os.iso", "+%2439j+": "/kidlisp.39j-os.iso",
	} {
		if got := r.ask("GET", "/?piece="+said); got.Code != 303 || got.Header().Get("Location") != want {
			t.Errorf("%s: %d to %q, want %q", said, got.Code, got.Header().Get("Location"), want)
		}
	}
	for said, want := range map[string]int{"": 200, "+": 200, "%2F%2Fevil.example": 400, "a%0d%0ab": 400, "..": 400} {
		if got := r.ask("GET", "/?piece="+said); got.Code != want || got.Header().Get("Location") != "" {
			t.Errorf("%q: %d to %q, want %d", said, got.Code, got.Header().Get("Location"), want)
		}
	}
}

// TestSavePages writes the pages to the directory in ISOFS_PAGES, for a look by
// hand; without it to one that is thrown away. Each has to be a page.
func TestSavePages(t *testing.T) {
	dir := os.Getenv("ISOFS_PAGES")
	if dir == "" {
		dir = t.TempDir()
	}
	r := newRig(t, catalog.Limits{})
	for _, piece := range strings.Fields("@jeffrey/tone @a-very-long/no $39j wave line painting-with-a-rather-long-name-of-its-own @whistlegraph/butterfly-cosplayer baktok $ceo") {
		r.shop.pieces[piece] = 0
	}
	delete(r.shop.pieces, "@a-very-long/no")
	save := func(name string, path string, headers ...string) {
		page := r.ask("GET", path, append(headers, "Accept: text/html")...).Body.Bytes()
		if !strings.HasPrefix(string(page), "<!doctype html>") {
			t.Errorf("%s is no page: %.80q", path, page)
		}
		if err := os.WriteFile(dir+"/"+name+".html", page, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	save("index", "/")
	save("missing", "/none-os.iso")
	save("stale", "/notepat-os.iso", fmt.Sprintf("Range: bytes=%d-", slotStart))
}

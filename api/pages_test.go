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

// A page's policy allows exactly its own style and script.
func TestThePolicyFitsThePages(t *testing.T) {
	r := newRig(t, catalog.Limits{})
	r.current("$39j", 0)
	for path, want := range map[string]int{"/": 200, "/?piece=..": 400, "/os:notepat": 200, "/os:$39j": 200, "/os:..": 400, "/nothing": 404} {
		got := r.ask("GET", path, "Accept: text/html")
		body, policy := got.Body.String(), got.Header().Get("Content-Security-Policy")
		if got.Code != want || !strings.HasPrefix(policy, "default-src 'none'; ") || strings.Contains(policy, "unsafe") {
			t.Errorf("%s: %d with the policy %q", path, got.Code, policy)
		}
		for tag, most := range map[string]int{"style": 1, "script": 1} {
			found := regexp.MustCompile(`(?s)<`+tag+`>(.*?)</`+tag+`>`).FindAllStringSubmatch(body, -1)
			if len(found) != most && (tag == "style" || len(found) != 0) {
				t.Fatalf("%s: has %d of %s", path, len(found), tag)
			}
			for _, f := range found {
				sum := sha256.Sum256([]byte(f[1]))
				if hash := tag + "-src 'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'"; !strings.Contains(policy, hash) {
					t.Errorf("%s: the policy %q has not %q", path, policy, hash)
				}
			}
		}
		if inline := regexp.MustCompile(`(?s)<(style|script)>.*?</(style|script)>`).ReplaceAllString(body, ""); regexp.MustCompile(`<script|<style| style=| on[a-z]+=|javascript:|ZgotmplZ`).MatchString(inline) {
			t.Errorf("%s has what its policy %q forbids", path, policy)
		}
		if len(body) > 60_000 {
			t.Errorf("%s weighs %d bytes", path, len(body))
		}
	}
}

func TestTheIndexListsPieces(t *testing.T) {
	r := newRig(t, catalog.Limits{})
	r.shop.pieces = map[string]int{"notepat": 0, "@jeffrey/tone": 0, "$39j": 0}
	got := r.ask("GET", "/", "X-Forwarded-Proto: https")
	body := got.Body.String()
	for _, want := range []string{
		`href="/notepat-os.iso" download `, `href="/at.jeffrey.tone-os.iso" download `, `href="/kidlisp.39j-os.iso" download `,
		`href="/os:notepat"`, `href="/os:@jeffrey/tone"`, `href="/os:$39j"`, `<option value="@jeffrey/tone">`, `href="/notepat-os.iso.sha256"`,
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
	if n := strings.Count(body, "<li data-piece="); n != maxListed || !strings.Contains(body, "And 8 more.") {
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

// A page shows a stranger's input as text, and leaves it out of shell commands.
func TestPagesEscape(t *testing.T) {
	r := newRig(t, catalog.Limits{})
	for _, host := range []string{`"><script>alert(1)</script>`, "evil;rm -rf ~", "a'b", "a b", "$(reboot)", "a\nb"} {
		req := r.ask("GET", "/", "X-Forwarded-Proto: javascript")
		if strings.Contains(req.Body.String(), "javascript") {
			t.Error("a scheme of the client's is on the page")
		}
		if got := r.askHost(host); !strings.Contains(got, "wget -c http://localhost/") || strings.Contains(got, "alert(1)") || strings.Contains(got, "reboot") {
			t.Errorf("host %q is on the page", host)
		}
	}
	for _, path := range []string{"/%3Cscript%3E-os.iso", "/?piece=%3Cscript%3Ealert(1)%3C/script%3E"} {
		got := r.ask("GET", path, "Accept: text/html")
		if body := got.Body.String(); got.Code != 400 || strings.Contains(body, "<script>alert") || !strings.Contains(body, "&lt;script&gt;") {
			t.Errorf("%s: %d, %s", path, got.Code, body)
		}
	}
}

func TestTheFormFindsAPiece(t *testing.T) {
	r := newRig(t, catalog.Limits{})
	for query, want := range map[string]string{
		"notepat": "/os:notepat", "%40Jeffrey%2Ftone": "/os:@jeffrey/tone", "+%2439j+": "/os:$39j", "os:notepat": "/os:notepat",
	} {
		if got := r.ask("GET", "/?piece="+query); got.Code != 303 || got.Header().Get("Location") != want {
			t.Errorf("%s: %d to %q, want %q", query, got.Code, got.Header().Get("Location"), want)
		}
	}
	for query, want := range map[string]int{"": 200, "+": 200, "%2F%2Fevil.example": 400, "a%0d%0ab": 400, "..": 400} {
		if got := r.ask("GET", "/?piece="+query); got.Code != want || got.Header().Get("Location") != "" {
			t.Errorf("%q: %d to %q, want %d", query, got.Code, got.Header().Get("Location"), want)
		}
	}
}

// TestSavePages writes the pages to the directory in ISOFS_PAGES, for a look by
// hand, or else to a temporary one. Each has to be a page.
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
	save("unknown", "/os:notepat")
	r.current("@jeffrey/tone", 0)
	save("known", "/os:@jeffrey/tone")
	save("misspelt", "/?piece=a+b")
	save("missing", "/none-os.iso")
	save("stale", "/notepat-os.iso", fmt.Sprintf("Range: bytes=%d-", slotStart))
}

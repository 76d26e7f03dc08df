package api

import (
	"fmt"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"aesthetic.computer/isofs/catalog"
)

func TestOSPageAddresses(t *testing.T) {
	r := newRig(t, catalog.Limits{})
	for path, piece := range map[string]string{
		"/os:notepat": "notepat", "/os:notepat?x": "notepat", "/os%3Anotepat": "notepat", "/os:-x": "-x",
		"/os:@Jeffrey/tone": "@jeffrey/tone", "/os:%40jeffrey%2Ftone": "@jeffrey/tone", "/os:$39j": "$39j", "/os:%2439j": "$39j",
	} {
		for _, method := range []string{"GET", "HEAD"} {
			got := r.ask(method, path)
			if got.Code != 200 || got.Header().Get("Cache-Control") != "no-cache" || method == "GET" && !strings.Contains(got.Body.String(), "<title>os:"+piece+"</title>") {
				t.Errorf("%s %s: %d, %v", method, path, got.Code, got.Header())
			}
		}
	}
	for path, want := range map[string]int{
		"/os:..": 400, "/os:a%00b": 400, "/os:a%0d%0aLocation:%20x": 400, "/os:@jeffrey": 400, "/os:@jeffrey/": 400, "/os:@jeffrey//tone": 400,
		"/os:$": 400, "/os:notepat/": 400, "/os:notepat-os.iso": 400, "/os:%3Cscript%3E": 400, "/os:%ff": 400, "/os:" + strings.Repeat("a", 5000): 400,
		"/os:": 302, "/os:?x": 302, "/osnotepat": 404, "/OS:notepat": 404,
	} {
		got := r.ask("GET", path, "Accept: text/html")
		if got.Code != want || strings.Contains(got.Body.String(), "<script>alert") {
			t.Errorf("%.60s: %d, want %d", path, got.Code, want)
		}
		if want == 400 && !strings.Contains(got.Body.String(), "Names look like this") {
			t.Errorf("%.60s: the page does not help: %s", path, got.Body)
		}
		if want == 302 && got.Header().Get("Location") != "/" {
			t.Errorf("%s: to %q", path, got.Header().Get("Location"))
		}
	}
	if got := r.ask("POST", "/os:notepat"); got.Code != 405 {
		t.Errorf("POST: %d", got.Code)
	}
	if got := r.ask("OPTIONS", "/os:notepat"); got.Code != 204 {
		t.Errorf("OPTIONS: %d", got.Code)
	}
}

// The page comes at once, without a request to the source. For a known piece it
// has all the data without its script.
func TestOSPageAsksNoSource(t *testing.T) {
	r := newRig(t, catalog.Limits{})
	r.shop.fetching = make(chan string) // a fetch would wait for ever
	body := r.ask("GET", "/os:notepat").Body.String()
	if !strings.Contains(body, `href="/notepat-os.iso" download`) || strings.Contains(body, "<iframe") {
		t.Errorf("of an unknown piece: %s", body)
	}
	r.shop.fetching = nil
	s := r.current("notepat", 5)
	r.shop.set(func() { r.shop.pieces["notepat"], r.shop.fetching = 6, make(chan string) })
	body = r.ask("GET", "/os:notepat", "X-Forwarded-Proto: https").Body.String()
	path := "/s/" + s.ID() + "/notepat-os.iso"
	for _, want := range []string{
		`href="` + path + `" download`, s.SHA256().String(), fmt.Sprint(s.Size(), " bytes"), ">a piece<",
		`src="/s/` + s.ID() + `/preview"`, `sandbox="allow-scripts"`, "wget -c 'https://isofs.example" + path, "curl -fL -C - -O 'https://isofs.example" + path,
		`href="etcher://` + url.QueryEscape(`{"url":"https://isofs.example`+path+`"}`) + `"`, `aria-label="QR code of https://isofs.example/os:notepat"`,
	} {
		if !strings.Contains(body, want) {
			t.Errorf("of a known piece it has not %q", want)
		}
	}
	if strings.Contains(body, ".asc") {
		t.Error("it tells of a signature, and there is none")
	}
	// The source has lost the piece: the page promises nothing.
	r.shop.set(func() { delete(r.shop.pieces, "notepat"); r.shop.fetching = nil })
	r.ask("GET", "/notepat-os.iso")
	if body := r.ask("GET", "/os:notepat").Body.String(); strings.Contains(body, s.ID()) {
		t.Error("of a piece that its source lost it has the last image")
	}
}

func TestOSPageEscapes(t *testing.T) {
	r := newRig(t, catalog.Limits{})
	r.shop.title = `</title><script>alert(1)</script><img src=x onerror="alert(2)"> 'x' {{.}} {{template "x"}}`
	r.current("notepat", 0)
	body := r.ask("GET", "/os:notepat").Body.String()
	if strings.Contains(body, "<script>alert") || strings.Contains(body, "<img") || !strings.Contains(body, "&lt;script&gt;alert(1)") || !strings.Contains(body, "{{.}}") {
		t.Errorf("the title is on the page as it is: %s", body)
	}
}

func TestPreview(t *testing.T) {
	r := newRig(t, catalog.Limits{})
	s := r.current("notepat", 7)
	path := "/s/" + s.ID() + "/preview"
	for _, headers := range [][]string{nil, {"Sec-Fetch-Dest: iframe"}} {
		got := r.ask("GET", path, headers...)
		h := got.Header()
		if got.Code != 200 || got.Body.String() != "<p>7" || h.Get("Content-Type") != "text/html; charset=utf-8" || h.Get("X-Content-Type-Options") != "nosniff" ||
			h.Get("ETag") != `"`+s.Bundle().String()+`"` || h.Get("Content-Length") != "4" || h.Get("Connection-Allowlist") != "()" {
			t.Errorf("%q: %d, %v, %q", headers, got.Code, h, got.Body)
		}
		// The policies that keep a stranger's page from our origin, and from
		// the network.
		policy := map[string]string{}
		for _, directive := range strings.Split(h.Get("Content-Security-Policy"), "; ") {
			name, value, _ := strings.Cut(directive, " ")
			policy[name] = value
		}
		for name, want := range map[string]string{"sandbox": "allow-scripts", "default-src": "'none'", "connect-src": "data: blob:", "img-src": "data: blob:", "form-action": "'none'", "frame-ancestors": "'self'"} {
			if policy[name] != want {
				t.Errorf("%s is %q, want %q", name, policy[name], want)
			}
		}
	}
	if got := r.ask("GET", path, `If-None-Match: "`+s.Bundle().String()+`"`); got.Code != 304 || got.Header().Get("Content-Security-Policy") == "" {
		t.Errorf("again: %d", got.Code)
	}
	if got := r.ask("GET", path, "Sec-Fetch-Dest: document"); got.Code != 303 || got.Header().Get("Location") != "/os:notepat" || got.Header().Get("Vary") != "Sec-Fetch-Dest" {
		t.Errorf("in a window of its own: %d to %q", got.Code, got.Header().Get("Location"))
	}
	for _, path := range []string{"/s/" + strings.Repeat("0", 32) + "/preview", "/s/x/preview"} {
		if got := r.ask("GET", path, "Accept: text/html"); got.Code != 404 || got.Header().Get("Content-Type") != "text/plain; charset=utf-8" || !strings.HasPrefix(got.Header().Get("Content-Security-Policy"), "sandbox") {
			t.Errorf("%s: %d, %v", path, got.Code, got.Header())
		}
	}
}

// A bundle that was damaged on disk is not shown: never a wrong byte.
func TestPreviewOfADamagedBundle(t *testing.T) {
	r := newRig(t, catalog.Limits{})
	s := r.current("notepat", 7)
	file := filepath.Join(r.dir, "bundles", s.Bundle().String()+".html")
	if err := os.Chmod(file, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte("<p>8"), 0o644); err != nil {
		t.Fatal(err)
	}
	r.reopen()
	got := r.ask("GET", "/s/"+s.ID()+"/preview")
	if got.Code != 502 || strings.Contains(got.Body.String(), "<p>") || strings.Contains(got.Body.String(), r.dir) {
		t.Errorf("%d, %s", got.Code, got.Body)
	}
	if _, err := r.catalog.ByID(s.ID()); err == nil {
		t.Error("the snapshot is kept")
	}
	if b, err := r.current("notepat", 7).OpenBundle(); err != nil {
		t.Error(err)
	} else if text, err := io.ReadAll(b); string(text) != "<p>7" || err != nil || b.Close() != nil {
		t.Errorf("fetched again it is %q (%v)", text, err)
	}
}

func TestQR(t *testing.T) {
	svg, err := drawQR("https://isofs.example/os:notepat")
	if err != nil || strings.Contains(string(svg), "%!") || strings.Count(string(svg), "<path") != 2 {
		t.Errorf("%v, %.200s", err, svg)
	}
	// The finder pattern in the corner: seven modules, behind the quiet border.
	if !strings.Contains(string(svg), `d="M4 4h7v1h-7z`) {
		t.Errorf("%.300s", svg)
	}
	if _, err := drawQR(strings.Repeat("x", 5000)); err == nil {
		t.Error("a text that no QR code can hold was drawn")
	}
}

func TestDrawings(t *testing.T) {
	for name, rows := range drawings {
		for i, row := range rows {
			if len(row) != len(rows[0]) || strings.Trim(row, "#o.") != "" {
				t.Errorf("row %d of %s is %q", i, name, row)
			}
		}
	}
	if _, err := draw("none"); err == nil {
		t.Error("it draws what there is not")
	}
}

package integration

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

// say sends a request unchanged, and returns the answer with its header unparsed.
func (s *server) say(request string) (status int, header, body string) {
	s.t.Helper()
	conn, err := net.Dial("tcp", s.addr)
	if err != nil {
		s.t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(patience))
	go io.WriteString(conn, request)
	all, err := io.ReadAll(io.LimitReader(conn, 1<<20))
	if len(all) == 0 {
		s.t.Fatalf("%.80q: %v", request, err)
	}
	header, body, _ = strings.Cut(string(all), "\r\n\r\n")
	resp, err := http.ReadResponse(bufio.NewReader(strings.NewReader(string(all))), nil)
	if err != nil {
		s.t.Fatalf("%.80q: %v", request, err)
	}
	resp.Body.Close()
	return resp.StatusCode, header, body
}

// TestHostileRequests: strangers' queries and headers reach an answer as text at most. They reach
// no other server, and open nothing.
func TestHostileRequests(t *testing.T) {
	t.Parallel()
	o := newOven(t, nil)
	s := serve(t, "--oven", o.URL)
	id := s.snapshot("notepat")
	get := func(target string, headers ...string) string {
		return "GET " + target + " HTTP/1.1\r\nHost: isofs.test\r\nConnection: close\r\n" + strings.Join(append(headers, "\r\n"), "\r\n")
	}
	for _, row := range []struct {
		proves, request string
		status          []int
		never           string // absent from header and body, besides what every row forbids
	}{
		{"a line break in a query adds no header", get("/os?piece=x%0d%0aX-Evil:%20yes"), []int{400}, ""},
		{"nor in a code", get("/os?code=x%0d%0aX-Evil:%20yes"), []int{400}, ""},
		{"nor in a format", get("/os?piece=notepat&format=%0d%0aX-Evil:%20yes"), []int{400}, ""},
		{"nor on the page's form", get("/?piece=x%0d%0aX-Evil:%20yes"), []int{400}, ""},
		{"the form leads nowhere else", get("/?piece=//evil.test/x"), []int{400}, "Location: //evil"},
		{"nor with a handle", get("/?piece=@evil.test/x"), []int{303}, "Location: //"},
		{"isofs refuses a URL for a piece, and does not fetch it", get("/os?piece=http://127.0.0.1:1/x"), []int{400}, ""},
		{"nor is it a base", get("/os?piece=notepat&flavor=http://127.0.0.1:1/x"), []int{400}, ""},
		{"NUL is in no name", get("/os?piece=a%00b"), []int{400}, ""},
		{"overlong UTF-8 is not a dot", get("/os?piece=%c0%ae%c0%ae%c0%afetc"), []int{400}, ""},
		{"a name has no direction", get("/os?piece=%e2%80%aegnp"), []int{400}, ""},
		{"nor another alphabet's letters", get("/os?piece=n%d0%betepat"), []int{400}, ""},
		{"nor a way out", get("/os?piece=../../etc/passwd"), []int{400}, ""},
		{"nor one that is encoded twice", get("/os?piece=%252e%252e%252fetc"), []int{400}, ""},
		{"an address that is encoded twice is not decoded twice", get("/s/" + id + "/%252e%252e/%252e%252e/etc/passwd"), []int{404}, ""},
		{"isofs refuses a huge density", get("/os?piece=notepat&density=99999999999999999999"), []int{400}, ""},
		{"and a negative one", get("/os?piece=notepat&density=-1"), []int{400}, ""},
		{"a broken query is the client's mistake", get("/os?piece=%zz"), []int{400}, ""},
		{"a semicolon is not a separator", get("/os?piece=notepat;piece=x"), []int{400}, ""},
		{"markup in an error is text", get("/os?piece=%3Cscript%3Ealert(1)%3C/script%3E", "Accept: text/html"), []int{400}, "<script>alert"},
		{"and in a name", get("/%3Cscript%3Ealert(1)-os.iso", "Accept: text/html"), []int{400, 404}, "<script>alert"},
		{"a host with markup is not repeated", strings.Replace(get("/"), "isofs.test", `x"><script>alert(1)</script>`, 1), []int{200, 400}, "<script>alert"},
		{"nor one that a shell would run", strings.Replace(get("/"), "isofs.test", "$(reboot)", 1), []int{200, 400}, "$(reboot)"},
		{"nor hosts in other headers", get("/", "X-Forwarded-Host: evil.test", "X-Host: evil.test", "Forwarded: host=evil.test"), []int{200}, "evil.test"},
		{"nor is the scheme", get("/os?piece=notepat", "X-Forwarded-Proto: javascript"), []int{302}, "javascript"},
		{"a redirect leads to this server", get("/os?piece=notepat", "X-Forwarded-Host: evil.test"), []int{302}, "evil.test"},
		{"another method's name opens nothing", get("/admin/drop", "X-HTTP-Method-Override: POST", "X-Method-Override: POST"), []int{405}, ""},
		{"a key in the address opens nothing", "POST /admin/drop?key=x&piece=notepat HTTP/1.1\r\nHost: isofs.test\r\nConnection: close\r\nContent-Length: 0\r\n\r\n", []int{503}, ""},
		{"the way into the mount is closed", get("/_mount/"+id+"/notepat-os.iso", "Range: bytes=0-9"), []int{404}, ""},
		{"also with a header that only isofs may send", get("/nothing", "X-Accel-Redirect: /_mount/"+id+"/notepat-os.iso"), []int{404}, ""},
		{"a client cannot set a header for the API", get("/notepat-os.iso", "X-Isofs-Piece: evil", "Range: bytes=0-9"), []int{206}, "evil"},
		{"a start beyond all numbers is refused", get("/notepat-os.iso", "Range: bytes=99999999999999999999-"), []int{416}, ""},
		{"a validator beyond all numbers is ignored", get("/notepat-os.iso", "Range: bytes=5-9", `If-Range: "ffffffffffffffffffff-1"`, "If-None-Match: \"x\""), []int{200, 206}, ""},
	} {
		status, header, body := s.say(row.request)
		ok := false
		for _, want := range row.status {
			ok = ok || status == want
		}
		if !ok {
			t.Errorf("%s: %d, want %v\n%s\n%.300s", row.proves, status, row.status, header, body)
		}
		for _, never := range []string{"\nX-Evil", "root:x:", "goroutine ", "/state/", row.never} {
			if never != "" && strings.Contains(header+body[:min(len(body), 64<<10)], never) {
				t.Errorf("%s: the answer has %q\n%s\n%.300s", row.proves, never, header, body)
			}
		}
	}
	if asked := o.requests(); len(asked) > 0 && fmt.Sprint(asked) != "[/pack-html?piece=@evil.test/x]" {
		t.Errorf("the oven got the requests %q", asked)
	}
	if strings.Contains(s.log.String(), "panic") {
		t.Error("something panicked")
	}
	if resp, _ := s.get("/notepat-os.iso.sha256"); resp.StatusCode != http.StatusOK {
		t.Errorf("then: %s", resp.Status)
	}
}

// TestOvenCannotSendUsElsewhere: isofs does not follow an oven's redirect to a service of this
// machine.
func TestOvenCannotSendUsElsewhere(t *testing.T) {
	t.Parallel()
	inside := newOven(t, map[string]http.HandlerFunc{"piece=": baked("a secret of the machine")})
	o := newOven(t, map[string]http.HandlerFunc{
		"piece=port": func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, inside.URL+"/secret", http.StatusFound)
		},
		"piece=metadata": func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "http://169.254.169.254/latest/meta-data/", http.StatusTemporaryRedirect)
		},
	})
	s := serve(t, "--oven", o.URL)
	for _, piece := range []string{"port", "metadata"} {
		resp, body := s.get("/" + piece + "-os.iso")
		if resp.StatusCode != http.StatusBadGateway || resp.Header.Get("Retry-After") == "" || strings.Contains(string(body), "169.254") || strings.Contains(string(body), inside.URL) {
			t.Errorf("%s: %s %q", piece, resp.Status, body)
		}
	}
	if asked := inside.requests(); len(asked) > 0 {
		t.Errorf("the inside got the requests %q", asked)
	}
	if !strings.Contains(s.log.String(), "configure it as the oven") {
		t.Error("the log does not say what to do")
	}
}

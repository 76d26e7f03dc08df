package bundle

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"aesthetic.computer/isofs/fault"
)

func TestOvenAnswers(t *testing.T) {
	reply := func(status int, contentType, body string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", contentType)
			w.WriteHeader(status)
			io.WriteString(w, body)
		}
	}
	const js, html = "application/json", "text/html"
	tests := []struct {
		says    string
		handler http.HandlerFunc
		kind    error
		because string
	}{
		{"a real oven's not found", reply(500, js, `{"error":"Piece 'x' not found at disks/x.mjs"}`), fault.NotFound, "disks/x.mjs"},
		{"the same of KidLisp", reply(500, js, `{"error":"Piece '$39j' not found"}`), fault.NotFound, "39j"},
		{"a bare not found", reply(500, js, `{"error":"Not found"}`), fault.NotFound, ""},
		{"not found with 503", reply(503, js, `{"error":"Piece 'x' not found"}`), fault.NotFound, ""},
		{"404", reply(404, "text/plain", "nope"), fault.NotFound, "404"},
		{"410", reply(410, html, ""), fault.NotFound, "410"},
		{"its own module not found", reply(500, js, `{"error":"Module esbuild not found"}`), fault.Unavailable, "esbuild"},
		{"500", reply(500, js, `{"error":"out of\nmemory"}`), fault.Unavailable, "500 Internal Server Error: out of memory"},
		{"500 with not found in HTML", reply(500, html, "Piece 'x' not found"), fault.Unavailable, "500"},
		{"400", reply(400, js, `{"error":"Missing 'code' or 'piece' parameter."}`), fault.Unavailable, "Missing"},
		{"400 with not found", reply(400, js, `{"error":"Piece 'x' not found"}`), fault.Unavailable, ""},
		{"204", reply(204, html, ""), fault.Unavailable, "204"},
		{"206", reply(206, html, page), fault.Unavailable, "206"},
		{"304", reply(304, html, ""), fault.Unavailable, "304"},
		{"an error of a gigabyte", reply(500, js, `{"error":"`+strings.Repeat("x", 1<<20)), fault.Unavailable, "500"},
		{"JSON with 200", reply(200, js, `{"filename":"x.html"}`), fault.Unavailable, "application/json"},
		{"no type", reply(200, "", page), fault.Unavailable, "in place of text/html"},
		{"text", reply(200, "text/plain", page), fault.Unavailable, "text/plain"},
		{"nothing", reply(200, html, ""), fault.Unavailable, "empty"},
		{"too much", reply(200, html, page+strings.Repeat(" ", 100)), fault.Invalid, "larger than"},
		{"gzip", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Encoding", "gzip")
			writePage(w, page)
		}, fault.Unavailable, "did not request"},
		{"less than its length", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", fmt.Sprint(len(page)))
			writePage(w, page[1:])
		}, fault.Unavailable, "EOF"},
		{"half of its chunks", func(w http.ResponseWriter, _ *http.Request) {
			writePage(w, page)
			w.(http.Flusher).Flush()
			panic(http.ErrAbortHandler)
		}, fault.Unavailable, "EOF"},
		{"an unknown end", raw("HTTP/1.0 200 OK\r\nContent-Type: text/html\r\n\r\n" + page), fault.Unavailable, "Content-Length"},
		{"no HTTP", raw("SSH-2.0-OpenSSH\r\n\r\n"), fault.Unavailable, "malformed"},
		{"nothing and hangs up", raw(""), fault.Unavailable, "EOF"},
	}
	for _, tt := range tests {
		v := oven(t, tt.handler, OvenOptions{})
		var body bytes.Buffer
		limit := int64(len(page))
		info, err := v.Fetch(t.Context(), mustName(t, "x"), &body, limit)
		if fault.Kind(err) != tt.kind || !strings.Contains(fmt.Sprint(err), tt.because) || info != (Info{}) {
			t.Errorf("an oven that says %s: %v; want %v with %q", tt.says, err, tt.kind, tt.because)
		}
		if int64(body.Len()) > limit || len(fmt.Sprint(err)) > 1000 {
			t.Errorf("an oven that says %s: %d bytes of body, %d of error", tt.says, body.Len(), len(err.Error()))
		}
	}
}

// raw answers with these bytes and closes the connection.
func raw(answer string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		conn, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			panic(err)
		}
		io.WriteString(conn, answer)
		conn.Close()
	}
}

func TestOvenBusy(t *testing.T) {
	tests := []struct {
		status     int
		retryAfter string
		want       time.Duration
	}{
		{429, "7", 7 * time.Second},
		{503, "Sun, 01 Mar 2026 12:01:30 GMT", 90 * time.Second},
		{503, "Sun, 01 Mar 2026 11:00:00 GMT", 0},
		{429, "", 0},
		{429, "-5", 0},
		{429, "soon", 0},
		{429, "999999999", time.Hour},
		{429, "99999999999999999999", 0},
	}
	for _, tt := range tests {
		v := oven(t, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Retry-After", tt.retryAfter)
			w.WriteHeader(tt.status)
		}, OvenOptions{})
		_, err := v.Fetch(t.Context(), mustName(t, "x"), io.Discard, 1)
		var busy *BusyError
		if !errors.As(err, &busy) || busy.After != tt.want || fault.Kind(err) != fault.Unavailable {
			t.Errorf("%d with Retry-After %q: %v; want %s", tt.status, tt.retryAfter, err, tt.want)
		}
	}
}

func TestOvenModTime(t *testing.T) {
	const late, past, date = "Sun, 01 Mar 2026 13:00:00 GMT", "Sun, 01 Mar 2026 10:00:00 GMT", "Sun, 01 Mar 2026 11:59:58 GMT"
	at := func(h, m, s int) time.Time { return time.Date(2026, 3, 1, h, m, s, 0, time.UTC) }
	tests := []struct {
		lastModified, date string
		want               time.Time
	}{
		{past, date, at(10, 0, 0)},
		{"", date, at(11, 59, 58)},
		{late, date, at(11, 59, 58)},
		{"Thu, 01 Jan 1970 00:00:00 GMT", date, at(11, 59, 58)},
		{"yesterday", date, at(11, 59, 58)},
		{late, late, at(12, 0, 0)},
		{"", "", at(12, 0, 0)},
	}
	for _, tt := range tests {
		v := oven(t, func(w http.ResponseWriter, _ *http.Request) {
			w.Header()["Last-Modified"] = []string{tt.lastModified}
			w.Header()["Date"] = []string{tt.date}
			writePage(w, page)
		}, OvenOptions{})
		info, err := v.Fetch(t.Context(), mustName(t, "x"), io.Discard, 1000)
		if err != nil || !info.ModTime.Equal(tt.want) || info.ModTime.Location() != time.UTC || info.ModTime.Nanosecond() != 0 {
			t.Errorf("Last-Modified %q, Date %q: %s, %v; want %s", tt.lastModified, tt.date, info.ModTime, err, tt.want)
		}
	}
}

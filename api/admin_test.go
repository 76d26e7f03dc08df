package api

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"aesthetic.computer/isofs/catalog"
	"aesthetic.computer/isofs/fault"
	"aesthetic.computer/isofs/quota"
)

const (
	testKey = "a key of the tests, long enough"
	urlForm = "application/x-www-form-urlencoded"
)

// An adminRig is a rig with a key and a clock.
type adminRig struct {
	*rig
	key  string
	now  time.Time
	base string // the latest address of SetBase

	followed  int // calls of Follow
	followErr error
}

func newAdminRig(t *testing.T) *adminRig {
	r := &adminRig{rig: newRig(t, catalog.Limits{}), key: testKey, now: made}
	r.handler = New(Config{Catalog: r.catalog, Log: r.logger(), Admin: Admin{
		Key: func() string { return r.key }, Now: func() time.Time { return r.now },
		SetBase: func(_ context.Context, address string) error {
			if address == "gone" {
				return fmt.Errorf("read the manifest of %s: %w", address, fault.NotFound)
			}
			r.base = address
			return r.catalog.SetBase(emptyBase())
		},
		Follow: func(context.Context) error {
			r.followed++
			return r.followErr
		},
	}})
	return r
}

// post sends a form to an action, with the key.
func (r *adminRig) post(action, body string, headers ...string) *httptest.ResponseRecorder {
	return r.send("POST", action, urlForm, body, append([]string{"X-Oven-Os-Key: " + r.key}, headers...)...)
}

func (r *adminRig) send(method, action, media, body string, headers ...string) *httptest.ResponseRecorder {
	req := httptest.NewRequest(method, "/admin/"+action, strings.NewReader(body))
	req.Header.Set("Content-Type", media)
	req.Header.Set("X-Real-IP", "192.0.2.1")
	for _, line := range headers {
		name, value, _ := strings.Cut(line, ": ")
		req.Header.Set(name, value)
	}
	w := httptest.NewRecorder()
	r.handler.ServeHTTP(w, req)
	return w
}

// wantJSON wants a status and returns the answer.
func wantJSON(t *testing.T, w *httptest.ResponseRecorder, status int) (answer map[string]any) {
	t.Helper()
	if err := json.Unmarshal(w.Body.Bytes(), &answer); err != nil || w.Code != status || w.Header().Get("Content-Type") != "application/json" {
		t.Fatalf("%d %v %q (%v), want %d", w.Code, w.Header(), w.Body, err, status)
	}
	if text, _ := answer["error"].(string); (text != "") != (status >= 400) {
		t.Errorf("%d: %v", w.Code, answer)
	}
	if w.Header().Get("Access-Control-Allow-Origin") != "" || w.Header().Get("Cache-Control") != "no-store" {
		t.Errorf("headers %v", w.Header())
	}
	return answer
}

func TestAdminKey(t *testing.T) {
	for name, c := range map[string]struct {
		header string
		status int
	}{
		"the oven's header":   {"X-Oven-Os-Key: " + testKey, 200},
		"bearer":              {"Authorization: Bearer " + testKey, 200},
		"bearer, as it likes": {"Authorization: bearer   " + testKey, 200},
		"none":                {"X-None: 1", 401},
		"empty":               {"X-Oven-Os-Key: ", 401},
		"wrong":               {"X-Oven-Os-Key: " + testKey + "x", 401},
		"a beginning":         {"X-Oven-Os-Key: " + testKey[:16], 401},
		"another case":        {"X-Oven-Os-Key: " + strings.ToUpper(testKey), 401},
		"basic":               {"Authorization: Basic " + testKey, 401},
		"bearer of nothing":   {"Authorization: Bearer", 401},
		"very long":           {"X-Oven-Os-Key: " + strings.Repeat("x", 30_000), 401},
	} {
		r := newAdminRig(t)
		w := r.send("POST", "snapshots", urlForm, "", c.header)
		answer := wantJSON(t, w, c.status)
		if challenge := w.Header().Get("WWW-Authenticate"); (challenge == `Bearer realm="isofs"`) != (c.status == 401) || c.status == 401 && answer["error"] != "Unauthorized" {
			t.Errorf("%s: %q, %v", name, challenge, answer)
		}
		if strings.Contains(r.log.String(), testKey[:16]) {
			t.Errorf("%s: the log has the key: %s", name, r.log)
		}
	}
	// Without a configured key all is closed, even to an empty key.
	r := newAdminRig(t)
	for _, header := range []string{"X-Oven-Os-Key: ", "X-Oven-Os-Key: " + testKey, "X-None: 1"} {
		r.key = ""
		wantJSON(t, r.send("POST", "drop", urlForm, "piece=notepat", header), 503)
	}
	// A new key counts at once, and the old one no longer.
	r.key = "another key, also long enough"
	wantJSON(t, r.send("POST", "snapshots", urlForm, "", "X-Oven-Os-Key: "+testKey), 401)
	wantJSON(t, r.post("snapshots", ""), 200)
}

// After a few wrong keys an address must wait. Other addresses need not.
func TestWrongKeysAreRationed(t *testing.T) {
	r := newAdminRig(t)
	wrong := func(address string) int {
		return r.send("POST", "snapshots", urlForm, "", "X-Oven-Os-Key: guess", "X-Real-IP: "+address).Code
	}
	for i := range 100 {
		want := 401
		if i >= wrongTries.Burst {
			want = 429
		}
		if got := wrong("192.0.2.66"); got != want {
			t.Fatalf("try %d: %d, want %d", i, got, want)
		}
	}
	w := r.send("POST", "snapshots", urlForm, "", "X-Oven-Os-Key: "+testKey, "X-Real-IP: 192.0.2.66")
	if wantJSON(t, w, 429); w.Header().Get("Retry-After") != "10" {
		t.Errorf("the right key after wrong ones: %v", w.Header())
	}
	if n := strings.Count(r.log.String(), "wrong key"); n != wrongTries.Burst {
		t.Errorf("the log has %d lines of it", n)
	}
	wantJSON(t, r.post("snapshots", ""), 200) // another address
	r.now = r.now.Add(10 * time.Second)
	wantJSON(t, r.post("snapshots", "", "X-Real-IP: 192.0.2.66"), 200)
	// Right keys cost nothing.
	for range 20 {
		wantJSON(t, r.post("snapshots", ""), 200)
	}
}

func TestAdminRefuses(t *testing.T) {
	for name, c := range map[string]struct {
		method, action, media, body string
		status                      int
		says                        string
	}{
		"GET":                 {"GET", "refresh", "", "", 405, "POST"},
		"HEAD":                {"HEAD", "refresh", "", "", 405, "POST"},
		"OPTIONS":             {"OPTIONS", "refresh", "", "", 405, "POST"},
		"PUT":                 {"PUT", "refresh", urlForm, "piece=notepat", 405, "POST"},
		"no such action":      {"POST", "nothing", urlForm, "", 404, "nothing at this address"},
		"below an action":     {"POST", "refresh/x", urlForm, "", 404, "nothing at this address"},
		"in the address":      {"POST", "refresh?piece=notepat", urlForm, "", 400, "in the body"},
		"unknown field":       {"POST", "refresh", urlForm, "piece=notepat&color=red", 400, `unknown field "color"; use: piece`},
		"another's field":     {"POST", "refresh", urlForm, "snapshot=1", 400, "unknown field"},
		"given twice":         {"POST", "refresh", urlForm, "piece=a&piece=b", 400, "2 times"},
		"broken form":         {"POST", "refresh", urlForm, "piece=%zz", 400, "cannot be read"},
		"broken JSON":         {"POST", "refresh", "application/json", "{", 400, "cannot be read"},
		"more than JSON":      {"POST", "refresh", "application/json", `{"piece":"notepat"}{}`, 400, "cannot be read"},
		"a list":              {"POST", "refresh", "application/json", `["piece"]`, 400, "cannot be read"},
		"a nested object":     {"POST", "refresh", "application/json", `{"piece":{}}`, 400, "neither a text"},
		"unknown in JSON":     {"POST", "refresh", "application/json", `{"Piece":"notepat"}`, 400, "unknown field"},
		"no type":             {"POST", "refresh", "", "piece=notepat", 415, "neither"},
		"another type":        {"POST", "refresh", "text/plain", "piece=notepat", 415, "neither"},
		"too long":            {"POST", "refresh", urlForm, "piece=" + strings.Repeat("a", maxAdminBody), 413, "65536"},
		"refresh nothing":     {"POST", "refresh", urlForm, "", 400, "piece is missing"},
		"refresh no name":     {"POST", "refresh", urlForm, "piece=../x", 400, "piece name"},
		"refresh the unknown": {"POST", "refresh", urlForm, "piece=unknown", 404, "not found"},
		"drop nothing":        {"POST", "drop", urlForm, "", 400, "either"},
		"drop both":           {"POST", "drop", urlForm, "piece=notepat&snapshot=1", 400, "either"},
		"drop the unknown":    {"POST", "drop", urlForm, "piece=unknown", 404, "no snapshot of unknown"},
		"drop an unknown id":  {"POST", "drop", urlForm, "snapshot=../x", 404, "not kept"},
		"prune what":          {"POST", "prune", urlForm, "all=maybe", 400, "maybe"},
		"no base":             {"POST", "base", urlForm, "", 400, "address is missing"},
		"a base that is not":  {"POST", "base", urlForm, "address=gone", 404, "read the manifest of gone"},
	} {
		r := newAdminRig(t)
		s := r.current("notepat", 0)
		w := r.send(c.method, c.action, c.media, c.body, "Authorization: Bearer "+testKey, "X-HTTP-Method-Override: POST")
		answer := wantJSON(t, w, c.status)
		if text, _ := answer["error"].(string); !strings.Contains(text, c.says) {
			t.Errorf("%s: %q", name, text)
		}
		if allow := w.Header().Get("Allow"); (allow == "POST") != (c.status == 405) {
			t.Errorf("%s: Allow is %q", name, allow)
		}
		if _, err := r.catalog.ByID(s.ID()); err != nil {
			t.Errorf("%s: it did something", name)
		}
	}
}

func TestAdminActions(t *testing.T) {
	r := newAdminRig(t)
	old := r.current("notepat", 0)
	r.shop.set(func() { r.shop.pieces["notepat"] = 1; r.shop.pieces["other"] = 0 })

	answer := wantJSON(t, r.post("refresh", "piece=notepat"), 200)
	id, _ := answer["id"].(string)
	s, err := r.catalog.ByID(id)
	if err != nil || s == old || answer["piece"] != "notepat" || answer["current"] != true || answer["sha256"] != s.SHA256().String() {
		t.Errorf("refresh: %v, %v", answer, err)
	}
	wantJSON(t, r.send("POST", "refresh", "application/json; charset=utf-8", `{"piece":"other"}`, "Authorization: Bearer "+testKey), 200)

	h, err := old.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	list, _ := wantJSON(t, r.post("snapshots", "piece=notepat"), 200)["snapshots"].([]any)
	if len(list) != 2 {
		t.Fatalf("snapshots: %v", list)
	}
	second, _ := list[1].(map[string]any)
	want := map[string]any{
		"piece": "notepat", "id": old.ID(), "sha256": old.SHA256().String(), "bundle": old.Bundle().String(), "base": old.Base().SHA256.String(),
		"time": "2026-11-02T00:00:00Z", "size": float64(baseSize), "current": false, "inUse": true,
	}
	if fmt.Sprint(second) != fmt.Sprint(want) {
		t.Errorf("listed as %v, want %v", second, want)
	}
	if all, _ := wantJSON(t, r.post("snapshots", ""), 200)["snapshots"].([]any); len(all) != 3 {
		t.Errorf("all snapshots: %v", all)
	}

	// While a client reads the old snapshot it stays, and afterwards it goes.
	// The catalog's clock stands still.
	if got := wantJSON(t, r.post("prune", ""), 200); got["forgotten"] != 0.0 || got["kept"] != 3.0 {
		t.Errorf("prune: %v", got)
	}
	if got := wantJSON(t, r.send("POST", "prune", "application/json", `{"all":true}`, "X-Oven-Os-Key: "+testKey), 200); got["forgotten"] != 0.0 {
		t.Errorf("prune of all while one is read: %v", got)
	}
	if got := wantJSON(t, r.post("drop", "snapshot="+old.ID()), 200); fmt.Sprint(got["dropped"]) != "["+old.ID()+"]" {
		t.Errorf("drop: %v", got)
	}
	var one [1]byte
	if _, err := h.ReadAt(one[:], 0); err != nil {
		t.Errorf("an open download after drop: %v", err)
	}
	if got := wantJSON(t, r.post("drop", "piece=notepat"), 200); fmt.Sprint(got["dropped"]) != "["+s.ID()+"]" {
		t.Errorf("drop of a piece: %v", got)
	}
	if got := r.ask("GET", "/s/"+s.ID()+"/notepat-os.iso"); got.Code != 404 {
		t.Errorf("a dropped snapshot: %d", got.Code)
	}

	got := wantJSON(t, r.post("base", "address=https%3A%2F%2Fme:secret@cdn.example/base"), 200)
	if r.base != "https://me:secret@cdn.example/base" || got["sha256"] != emptyBase().Manifest.SHA256.String() || got["changed"] != false || !strings.Contains(fmt.Sprint(got["note"]), "restart") {
		t.Errorf("base: %q, %v", r.base, got)
	}
	log := r.log.String()
	for _, want := range []string{"do=refresh", "do=drop", "do=snapshots", "do=prune", "do=base", "cdn.example", "from=192.0.2.1"} {
		if !strings.Contains(log, want) {
			t.Errorf("the log lacks %q: %s", want, log)
		}
	}
	if strings.Contains(log, testKey) || strings.Contains(log, "secret") {
		t.Errorf("the log has a secret: %s", log)
	}
}

// At each address that leads to the oven, a client with too many new names gets
// a Retry-After.
func TestNewNamesAreRationed(t *testing.T) {
	r := newRig(t, catalog.Limits{NewNames: quota.Quota{Burst: 2, Every: 7 * time.Second}})
	for i := range 2 {
		if got := r.ask("GET", fmt.Sprintf("/random%d-os.iso", i)); got.Code != 404 {
			t.Fatalf("name %d: %d", i, got.Code)
		}
	}
	for i, path := range []string{"/a-os.iso", "/b-os.iso.sha256", "/os?piece=c", "/api/os?piece=d"} {
		got := r.ask("GET", path)
		if got.Code != http.StatusTooManyRequests || got.Header().Get("Retry-After") != "7" || !strings.Contains(got.Body.String(), "try again in 7 seconds") {
			t.Errorf("%s: %d %v %q", path, got.Code, got.Header(), got.Body)
		}
		if got := r.ask("GET", path, fmt.Sprint("X-Real-IP: 192.0.2.1", i)); got.Code == http.StatusTooManyRequests {
			t.Errorf("%s for another client: %d", path, got.Code)
		}
	}
	if got := r.ask("GET", "/os?format=stream&piece=new2").Body.String(); !strings.Contains(got, `"status":429`) {
		t.Errorf("a stream: %q", got)
	}
	if got := r.ask("GET", "/notepat-os.iso", "X-Real-IP: 192.0.2.3"); got.Code != 200 {
		t.Errorf("a piece of a third client: %d", got.Code)
	}
}

// Observe gets the route and not the address, as there would be too many
// addresses.
func TestObserve(t *testing.T) {
	r := newAdminRig(t)
	r.current("notepat", 0)
	var seen []string
	handler := New(Config{Catalog: r.catalog, Log: r.logger(), Observe: func(route string, status int) {
		seen = append(seen, fmt.Sprint(route, " ", status))
	}})
	r.handler = handler
	for _, c := range []struct{ method, path, want string }{
		{"GET", "/notepat-os.iso", "GET /{file} 200"},
		{"GET", "/no-such-thing", "GET /{file} 404"},
		{"HEAD", "/s/" + strings.Repeat("0", 32) + "/x-os.iso", "GET /s/{id}/{file} 404"},
		{"POST", "/admin/drop", "/admin/drop 503"},
		{"POST", "/admin/what", "/admin/ 404"},
		{"GET", "/a/b/c", "/ 404"},
		{"BREW", "/a/b/c", "/ 405"},
		{"GET", "/os?format=stream&piece=notepat", "GET /os 200"},
	} {
		r.ask(c.method, c.path)
		if got := seen[len(seen)-1]; got != c.want {
			t.Errorf("%s %s is %q, want %q", c.method, c.path, got, c.want)
		}
	}
}

// TestAdminChannel: the action reads the channel, and its answer says why that
// failed.
func TestAdminChannel(t *testing.T) {
	r := newAdminRig(t)
	if got := wantJSON(t, r.post("channel", ""), 200); got["changed"] != false || got["sha256"] != emptyBase().Manifest.SHA256.String() || r.followed != 1 {
		t.Errorf("%v, %d looks", got, r.followed)
	}
	r.followErr = fmt.Errorf("channel x is damaged: %w", fault.Corrupt)
	if got := wantJSON(t, r.post("channel", ""), 502); !strings.Contains(fmt.Sprint(got["error"]), "damaged") {
		t.Error(got)
	}
	wantJSON(t, r.post("channel", "address=x"), 400)
	if r.followed != 2 {
		t.Errorf("%d looks", r.followed)
	}
}

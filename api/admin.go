package api

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"aesthetic.computer/isofs/bundle"
	"aesthetic.computer/isofs/catalog"
	"aesthetic.computer/isofs/fault"
	"aesthetic.computer/isofs/piece"
	"aesthetic.computer/isofs/quota"
)

// Admin has the operator's actions for the addresses below /admin/.
type Admin struct {
	// Key returns the key that opens them. With "", or a nil Key, they are
	// closed.
	Key func() string
	// SetBase opens the base published at an address and makes it the
	// catalog's.
	SetBase func(ctx context.Context, address string) error
	// Follow reads the channel and makes its base the catalog's.
	Follow func(ctx context.Context) error
	// Now is the clock, time.Now if nil.
	Now func() time.Time
}

const (
	// maxAdminBody bounds the body of a request, in bytes.
	maxAdminBody = 64 << 10
	// wrongKept is the number of addresses with wrong keys that are remembered.
	wrongKept = 4096
)

// wrongTries bounds the wrong keys from one address.
var wrongTries = quota.Quota{Burst: 5, Every: 10 * time.Second}

// An admin answers the operator.
type admin struct {
	*server
	Admin
	mu    sync.Mutex // held between the look into wrong and the entry in it
	wrong *quota.Buckets
}

func newAdmin(s *server, c Admin) *admin {
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Key == nil {
		c.Key = func() string { return "" }
	}
	return &admin{server: s, Admin: c, wrong: quota.New(wrongTries, wrongKept, c.Now)}
}

// fields are those of a request.
type fields map[string]string

// An action is one action of the operator. Its result is the answer's JSON.
type action struct {
	name  string
	knows []string // names of its fields
	do    func(context.Context, fields) (any, error)
}

// handler answers below /admin/.
func (a *admin) handler() http.Handler {
	mux := http.NewServeMux()
	for _, action := range []action{
		{"refresh", []string{"piece"}, a.refresh},
		{"drop", []string{"piece", "snapshot"}, a.drop},
		{"snapshots", []string{"piece"}, a.snapshots},
		{"prune", []string{"all"}, a.prune},
		{"base", []string{"address"}, a.base},
		{"channel", nil, a.channel},
	} {
		mux.Handle("/admin/"+action.name, a.answering(action))
	}
	mux.HandleFunc("/admin/", func(w http.ResponseWriter, _ *http.Request) { a.refuse(w, errNothingHere) })
	return mux
}

// answering sends no CORS headers: pages of other sites have no use for the
// answers.
func (a *admin) answering(do action) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		from := clientOf(r).Address
		if r.Method != http.MethodPost {
			w.Header().Set("Allow", http.MethodPost)
			a.refuse(w, &statusError{http.StatusMethodNotAllowed, "use POST"})
			return
		}
		if err := a.admit(w, r, from); err != nil {
			a.refuse(w, err)
			return
		}
		given, err := readFields(w, r, do.knows)
		var answer any
		if err == nil {
			answer, err = do.do(r.Context(), given)
		}
		if err != nil {
			a.Log.Warn("admin", "do", do.name, "with", given.words(), "from", from, "err", err)
			a.refuse(w, err)
			return
		}
		a.Log.Info("admin", "do", do.name, "with", given.words(), "from", from)
		writeAdmin(w, http.StatusOK, answer)
	})
}

// admit returns the reason to refuse a request, or nil.
func (a *admin) admit(w http.ResponseWriter, r *http.Request, from string) error {
	key := a.Key()
	if key == "" {
		return &statusError{http.StatusServiceUnavailable, "no admin key is set here; isofs serve takes one from --admin-key-file"}
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if wait := a.wrong.Wait(from); wait > 0 {
		seconds := strconv.Itoa(int(math.Ceil(wait.Seconds())))
		w.Header().Set("Retry-After", seconds)
		return &statusError{http.StatusTooManyRequests, "too many wrong keys from this address; try again in " + seconds + " seconds"}
	}
	if sameKey(keyOf(r), key) {
		return nil
	}
	a.wrong.Take(from)
	a.Log.Warn("admin: wrong key, or none", "path", r.URL.Path, "from", from)
	w.Header().Set("WWW-Authenticate", `Bearer realm="isofs"`)
	return &statusError{http.StatusUnauthorized, "Unauthorized"}
}

// keyOf is the key in a request, or "".
func keyOf(r *http.Request) string {
	if key := r.Header.Get("X-Oven-Os-Key"); key != "" {
		return key
	}
	scheme, key, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if !strings.EqualFold(scheme, "Bearer") {
		return ""
	}
	return strings.TrimSpace(key)
}

// sameKey takes the same time wherever a and b differ, and however long they
// are.
func sameKey(a, b string) bool {
	x, y := sha256.Sum256([]byte(a)), sha256.Sum256([]byte(b))
	return subtle.ConstantTimeCompare(x[:], y[:]) == 1
}

// refuse answers with an error. The operator gets its full text.
func (a *admin) refuse(w http.ResponseWriter, err error) {
	reply := replyTo(err)
	if reply.status == http.StatusBadGateway || is[*catalog.BusyError](err) || is[*bundle.BusyError](err) {
		w.Header().Set("Retry-After", strconv.Itoa(reply.retry))
	}
	writeAdmin(w, reply.status, map[string]string{"error": err.Error()})
}

func writeAdmin(w http.ResponseWriter, status int, body any) {
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body) // the client may have left
}

func badRequest(format string, args ...any) error {
	return &statusError{http.StatusBadRequest, fmt.Sprintf(format, args...)}
}

// readFields reads a form or a JSON object. It accepts only the known fields,
// and each once.
func readFields(w http.ResponseWriter, r *http.Request, known []string) (fields, error) {
	if r.URL.RawQuery != "" {
		return nil, badRequest("send the fields in the body; logs keep the address")
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxAdminBody))
	if _, tooLarge := errors.AsType[*http.MaxBytesError](err); tooLarge {
		return nil, &statusError{http.StatusRequestEntityTooLarge, fmt.Sprintf("the body has more than %d bytes", maxAdminBody)}
	}
	if err != nil {
		return nil, badRequest("the body ended too early")
	}
	if len(body) == 0 {
		return fields{}, nil
	}
	var given fields
	switch media, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type")); media {
	case "application/x-www-form-urlencoded":
		given, err = parseForm(string(body))
	case "application/json":
		given, err = parseObject(body)
	default:
		return nil, &statusError{http.StatusUnsupportedMediaType, "the body is neither application/x-www-form-urlencoded nor application/json"}
	}
	if err != nil {
		return nil, err
	}
	for name := range given {
		if !slices.Contains(known, name) {
			return nil, badRequest("unknown field %.40q; use: %s", name, strings.Join(known, ", "))
		}
	}
	return given, nil
}

func parseForm(body string) (fields, error) {
	form, err := url.ParseQuery(body)
	if err != nil {
		return nil, badRequest("the form cannot be read: %v", err)
	}
	given := fields{}
	for name, values := range form {
		if len(values) > 1 {
			return nil, badRequest("%.40q is given %d times", name, len(values))
		}
		given[name] = values[0]
	}
	return given, nil
}

func parseObject(body []byte) (fields, error) {
	var object map[string]any
	if err := json.Unmarshal(body, &object); err != nil {
		return nil, badRequest("the JSON cannot be read: %v", err)
	}
	given := fields{}
	for name, value := range object {
		switch v := value.(type) {
		case string:
			given[name] = v
		case bool, float64:
			given[name] = fmt.Sprint(v)
		default:
			return nil, badRequest("%.40q is neither a text nor a number nor true or false", name)
		}
	}
	return given, nil
}

// words are the fields for the log. An address loses its password.
func (f fields) words() string {
	var words []string
	for name, value := range f {
		if u, err := url.Parse(value); err == nil {
			value = u.Redacted()
		}
		words = append(words, fmt.Sprintf("%s=%.200q", name, value))
	}
	slices.Sort(words)
	return strings.Join(words, " ")
}

// piece is the name in the field piece.
func (f fields) piece() (piece.Name, error) {
	if f["piece"] == "" {
		return piece.Name{}, badRequest("piece is missing")
	}
	return piece.ParseName(f["piece"])
}

// snapshotData is a snapshot as the operator sees it.
type snapshotData struct {
	Piece   string `json:"piece"`
	Density int    `json:"density,omitempty"`
	ID      string `json:"id"`
	SHA256  string `json:"sha256"`
	Bundle  string `json:"bundle"`
	Base    string `json:"base"`
	Time    string `json:"time"`
	Size    int64  `json:"size"`
	Current bool   `json:"current"`
	InUse   bool   `json:"inUse"`
}

func newSnapshotData(s catalog.Listed) snapshotData {
	return snapshotData{
		Piece: s.Piece().String(), Density: s.Piece().Density(), ID: s.ID(), SHA256: s.SHA256().String(), Bundle: s.Bundle().String(),
		Base: s.Base().SHA256.String(), Time: s.Time().UTC().Format(time.RFC3339), Size: s.Size(), Current: s.Current, InUse: s.InUse,
	}
}

// refresh fetches a piece's bundle now.
func (a *admin) refresh(ctx context.Context, given fields) (any, error) {
	name, err := given.piece()
	if err != nil {
		return nil, err
	}
	s, err := a.Catalog.Refresh(ctx, name)
	if err != nil {
		return nil, err
	}
	listed := catalog.Listed{Snapshot: s, Current: true}
	for _, l := range a.Catalog.List() {
		if l.Snapshot == s {
			listed = l
		}
	}
	return newSnapshotData(listed), nil
}

// drop forgets a snapshot, or all of a piece.
func (a *admin) drop(_ context.Context, given fields) (any, error) {
	id := given["snapshot"]
	if (id == "") == (given["piece"] == "") {
		return nil, badRequest("give either piece or snapshot")
	}
	ids := []string{id}
	if id == "" {
		name, err := given.piece()
		if err != nil {
			return nil, err
		}
		if ids = a.Catalog.DropPiece(name); ids == nil {
			return nil, fmt.Errorf("there is no snapshot of %s here: %w", name, fault.NotFound)
		}
	} else if !a.Catalog.Drop(id) {
		return nil, fmt.Errorf("snapshot %.40q is not kept here: %w", id, fault.NotFound)
	}
	return map[string][]string{"dropped": ids}, nil
}

// snapshots lists those of one piece, or all.
func (a *admin) snapshots(_ context.Context, given fields) (any, error) {
	list := make([]snapshotData, 0)
	for _, s := range a.Catalog.List() {
		if given["piece"] == "" || s.Piece().String() == given["piece"] {
			list = append(list, newSnapshotData(s))
		}
	}
	return map[string][]snapshotData{"snapshots": list}, nil
}

// prune forgets superseded snapshots.
func (a *admin) prune(_ context.Context, given fields) (any, error) {
	prune := a.Catalog.Prune
	switch given["all"] {
	case "", "0", "false":
	case "1", "true":
		prune = a.Catalog.PruneAll
	default:
		return nil, badRequest("all is %.40q; use 1 or 0", given["all"])
	}
	n := prune()
	return map[string]int{"forgotten": n, "kept": a.Catalog.Stats().Snapshots}, nil
}

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

// Admin is what the operator's addresses, below /admin/, need.
type Admin struct {
	// Key returns the key that opens them. With "", or nil, they are closed.
	Key func() string
	// SetBase opens the base published at an address and makes it the catalog's.
	SetBase func(ctx context.Context, address string) error
	// Follow looks at the channel that is followed and makes its base the
	// catalog's.
	Follow func(ctx context.Context) error
	// Now is the clock, time.Now if nil.
	Now func() time.Time
}

const (
	// maxAdminBody is what a request may say.
	maxAdminBody = 64 << 10
	// wrongKept is how many addresses with wrong keys are remembered.
	wrongKept = 4096
)

// wrongTries is how often an address may be wrong about the key.
var wrongTries = quota.Quota{Burst: 5, Every: 10 * time.Second}

// An admin answers the operator.
type admin struct {
	*server
	Admin
	mu    sync.Mutex // held from the look into wrong to the entry in it
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

// fields are what a request says.
type fields map[string]string

// An action is one thing that an operator may have done. What it returns is
// the answer's JSON.
type action struct {
	name  string
	knows []string // fields
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

// answering sends none of the headers that let pages elsewhere read answers:
// they have no business here.
func (a *admin) answering(do action) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		from := clientOf(r).Address
		if r.Method != http.MethodPost {
			w.Header().Set("Allow", http.MethodPost)
			a.refuse(w, &statusError{http.StatusMethodNotAllowed, "ask with POST"})
			return
		}
		if err := a.admit(w, r, from); err != nil {
			a.refuse(w, err)
			return
		}
		said, err := readFields(w, r, do.knows)
		var answer any
		if err == nil {
			answer, err = do.do(r.Context(), said)
		}
		if err != nil {
			a.Log.Warn("admin", "do", do.name, "with", said.words(), "from", from, "err", err)
			a.refuse(w, err)
			return
		}
		a.Log.Info("admin", "do", do.name, "with", said.words(), "from", from)
		writeAdmin(w, http.StatusOK, answer)
	})
}

// admit reports why a request may not be answered.
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

// keyOf is the key that a request has, "" if it has none.
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

// sameKey takes the same time wherever the two differ, and however long they
// are.
func sameKey(a, b string) bool {
	x, y := sha256.Sum256([]byte(a)), sha256.Sum256([]byte(b))
	return subtle.ConstantTimeCompare(x[:], y[:]) == 1
}

// refuse answers with an error. The operator is told all that it says.
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
	_ = json.NewEncoder(w).Encode(body) // the client may be gone
}

func badRequest(format string, args ...any) error {
	return &statusError{http.StatusBadRequest, fmt.Sprintf(format, args...)}
}

// readFields reads a form or an object of JSON. It knows no other fields than
// those that it is told, and each once.
func readFields(w http.ResponseWriter, r *http.Request, known []string) (fields, error) {
	if r.URL.RawQuery != "" {
		return nil, badRequest("say it in the body, not behind the address, where logs would keep it")
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
	var said fields
	switch media, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type")); media {
	case "application/x-www-form-urlencoded":
		said, err = parseForm(string(body))
	case "application/json":
		said, err = parseObject(body)
	default:
		return nil, &statusError{http.StatusUnsupportedMediaType, "the body is neither application/x-www-form-urlencoded nor application/json"}
	}
	if err != nil {
		return nil, err
	}
	for name := range said {
		if !slices.Contains(known, name) {
			return nil, badRequest("%.40q is not understood here; what is: %s", name, strings.Join(known, ", "))
		}
	}
	return said, nil
}

func parseForm(body string) (fields, error) {
	form, err := url.ParseQuery(body)
	if err != nil {
		return nil, badRequest("the form cannot be read: %v", err)
	}
	said := fields{}
	for name, values := range form {
		if len(values) > 1 {
			return nil, badRequest("%.40q is given %d times", name, len(values))
		}
		said[name] = values[0]
	}
	return said, nil
}

func parseObject(body []byte) (fields, error) {
	var object map[string]any
	if err := json.Unmarshal(body, &object); err != nil {
		return nil, badRequest("the JSON cannot be read: %v", err)
	}
	said := fields{}
	for name, value := range object {
		switch v := value.(type) {
		case string:
			said[name] = v
		case bool, float64:
			said[name] = fmt.Sprint(v)
		default:
			return nil, badRequest("%.40q is neither a text nor a number nor true or false", name)
		}
	}
	return said, nil
}

// words are the fields for the log, an address without its password.
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

// piece is the field of that name.
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
func (a *admin) refresh(ctx context.Context, said fields) (any, error) {
	name, err := said.piece()
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
func (a *admin) drop(_ context.Context, said fields) (any, error) {
	id := said["snapshot"]
	if (id == "") == (said["piece"] == "") {
		return nil, badRequest("say either piece or snapshot")
	}
	ids := []string{id}
	if id == "" {
		name, err := said.piece()
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

// snapshots lists them, of one piece or of all.
func (a *admin) snapshots(_ context.Context, said fields) (any, error) {
	list := make([]snapshotData, 0)
	for _, s := range a.Catalog.List() {
		if said["piece"] == "" || s.Piece().String() == said["piece"] {
			list = append(list, newSnapshotData(s))
		}
	}
	return map[string][]snapshotData{"snapshots": list}, nil
}

// prune forgets what is superseded.
func (a *admin) prune(_ context.Context, said fields) (any, error) {
	prune := a.Catalog.Prune
	switch said["all"] {
	case "", "0", "false":
	case "1", "true":
		prune = a.Catalog.PruneAll
	default:
		return nil, badRequest("all is %.40q; say 1 or 0", said["all"])
	}
	n := prune()
	return map[string]int{"forgotten": n, "kept": a.Catalog.Stats().Snapshots}, nil
}

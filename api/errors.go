package api

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/http"
	"strconv"
	"strings"
	"time"

	"aesthetic.computer/isofs/bundle"
	"aesthetic.computer/isofs/catalog"
	"aesthetic.computer/isofs/fault"
	"aesthetic.computer/isofs/piece"
)

// A statusError is an answer with its status, and a text that strangers may
// read.
type statusError struct {
	status int
	text   string
}

func (e *statusError) Error() string { return e.text }

// An unreadableError says that an image cannot be read at the moment, as when
// its base's origin does not answer. nginx uses the same status for a file that
// it cannot open.
type unreadableError struct{ err error }

func (e *unreadableError) Error() string {
	return fmt.Sprintf("read the image: %v", e.err)
}

// Unwrap returns the cause.
func (e *unreadableError) Unwrap() error { return e.err }

// A reply is what a client gets for an error.
type reply struct {
	status int
	// text has no path or address of the machine. It comes from an error that
	// is known to have none, never from the errors around that one.
	text string
	// retry is the number of seconds to wait before the next try. 0: another
	// try does not help.
	retry int
}

// defaultRetry is the wait for an error that does not name one.
const defaultRetry = 30 * time.Second

// replies map errors to HTTP: the special cases, and after them the kinds of
// package fault. The first matching row counts.
var replies = []struct {
	is     func(error) bool
	status int
	// text is the error's own if it is empty. If retry is true, the time to try
	// again follows it.
	text  string
	retry bool
}{
	{is[*usageError], http.StatusBadRequest, "", false},
	{is[*bundle.TooLargeError], http.StatusRequestEntityTooLarge, "", false},
	// Not 416: wget and curl take that for "already complete" and keep the
	// part.
	{is[*catalog.StaleError], http.StatusPreconditionFailed, "", false},
	{is[*catalog.LimitError], http.StatusTooManyRequests, "too many requests for new pieces", true},
	{is[*catalog.BusyError], http.StatusServiceUnavailable, "the server is busy fetching other pieces", true},
	{is[*bundle.BusyError], http.StatusServiceUnavailable, "the oven, which packs the pieces, is busy", true},
	{is[*bundle.TimeoutError], http.StatusGatewayTimeout, "the oven, which packs the pieces, takes too long", true},
	{is[*unreadableError], http.StatusServiceUnavailable, "the image cannot be read at the moment", true},
	{ofKind(fault.Corrupt), http.StatusBadGateway, noSource, true},
	{ofKind(fault.Invalid), http.StatusBadRequest, "no image can be made of this piece; the operator's log says why", false},
	{ofKind(fault.NotFound), http.StatusNotFound, "there is no such piece", false},
	{ofKind(fault.Unavailable), http.StatusBadGateway, noSource, true},
}

const noSource = "the source of the piece does not deliver it at the moment"

func is[T error](err error) bool {
	_, ok := errors.AsType[T](err)
	return ok
}

func ofKind(k error) func(error) bool {
	return func(err error) bool { return errors.Is(err, k) }
}

// replyTo returns what a client gets for an error.
func replyTo(err error) reply {
	wait := retryAfter(err)
	if e, ok := errors.AsType[*statusError](err); ok {
		if e.status != http.StatusTooManyRequests && e.status != http.StatusServiceUnavailable {
			wait = 0
		}
		return reply{e.status, e.text, wait}
	}
	for _, row := range replies {
		if !row.is(err) {
			continue
		}
		switch {
		case row.retry:
			return reply{row.status, fmt.Sprintf("%s; try again in %d seconds", row.text, wait), wait}
		case row.text == "":
			return reply{row.status, ownText(err), 0}
		}
		return reply{row.status, row.text, 0}
	}
	return reply{http.StatusInternalServerError, "something went wrong here; the operator's log says what", 0}
}

// ownText is the text of an error that strangers may read.
func ownText(err error) string {
	if e, ok := errors.AsType[*usageError](err); ok {
		return e.text
	}
	if e, ok := errors.AsType[*bundle.TooLargeError](err); ok {
		return e.Error()
	}
	e, _ := errors.AsType[*catalog.StaleError](err)
	return e.Error()
}

// retryAfter is the number of seconds a client should wait, at least one.
func retryAfter(err error) int {
	wait := defaultRetry
	if paused, ok := errors.AsType[*catalog.PausedError](err); ok {
		wait = paused.After
	} else if busy, ok := errors.AsType[*catalog.BusyError](err); ok {
		wait = busy.RetryAfter
	} else if limit, ok := errors.AsType[*catalog.LimitError](err); ok {
		wait = limit.RetryAfter
	}
	return max(1, int(math.Ceil(wait.Seconds())))
}

// A form is the format of an error.
type form int

const (
	asText form = iota
	asJSON
	asPage
)

// formOf is the form that a client wants: a page for a browser, JSON for a
// program that accepts it, else the usual form of the address.
func formOf(r *http.Request, usual form) form {
	accept := r.Header.Get("Accept")
	switch {
	case strings.Contains(accept, "text/html"):
		return asPage
	case strings.Contains(accept, "application/json"):
		return asJSON
	}
	return usual
}

// writeError answers with the reply to an error, in words.
func (s *server) writeError(w http.ResponseWriter, r *http.Request, usual form, reply reply, err error) {
	h := w.Header()
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	if reply.retry > 0 {
		h.Set("Retry-After", strconv.Itoa(reply.retry))
	}
	status, text := reply.status, reply.text
	switch formOf(r, usual) {
	case asPage:
		// The page ends the sentence itself.
		if err := s.pages.write(w, "problem", status, newProblem(status, strings.TrimSuffix(text, "."), err)); err != nil {
			s.Log.Error("page not written", "err", err)
			http.Error(w, text, status)
		}
	case asJSON:
		body := struct {
			Error string            `json:"error"`
			Usage map[string]string `json:"usage,omitempty"`
		}{Error: text}
		if is[*usageError](err) {
			body.Usage = usage
		}
		h.Set("Content-Type", "application/json")
		w.WriteHeader(status)
		_ = json.NewEncoder(w).Encode(body) // the client may have left
	default:
		h.Set("Content-Type", "text/plain; charset=utf-8")
		w.WriteHeader(status)
		fmt.Fprintf(w, "%s\n", text)
	}
}

// nameMissing puts the piece's name into an error that says it does not exist.
func nameMissing(name piece.Name, err error) error {
	if !is[*catalog.StaleError](err) && !is[*unreadableError](err) && errors.Is(err, fault.NotFound) {
		return &statusError{http.StatusNotFound, fmt.Sprintf("there is no piece named %s", name)}
	}
	return err
}

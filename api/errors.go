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
)

// A statusError is an answer that has its status already, and words that a
// stranger may read.
type statusError struct {
	status int
	text   string
}

func (e *statusError) Error() string { return e.text }

// An unreadableError says that an image cannot be read at the moment, as when
// its base's origin does not answer. nginx has the same status for what it cannot open.
type unreadableError struct{ err error }

func (e *unreadableError) Error() string {
	return fmt.Sprintf("read the image: %v", e.err)
}

// Unwrap gives the cause.
func (e *unreadableError) Unwrap() error { return e.err }

// statuses maps errors to HTTP: the special cases, and after them the kinds of
// package fault that they wrap.
var statuses = []struct {
	is     func(error) bool
	status int
}{
	{as[*usageError], http.StatusBadRequest},
	{as[*bundle.TooLargeError], http.StatusRequestEntityTooLarge},
	// Not 416: wget and curl take that for "already complete" and keep the part.
	{as[*catalog.StaleError], http.StatusPreconditionFailed},
	{as[*catalog.LimitError], http.StatusTooManyRequests},
	{as[*catalog.BusyError], http.StatusServiceUnavailable},
	{as[*bundle.BusyError], http.StatusServiceUnavailable},
	{as[*bundle.TimeoutError], http.StatusGatewayTimeout},
	{as[*unreadableError], http.StatusServiceUnavailable},
	{kind(fault.Corrupt), http.StatusBadGateway},
	{kind(fault.Invalid), http.StatusBadRequest},
	{kind(fault.NotFound), http.StatusNotFound},
	{kind(fault.Unavailable), http.StatusBadGateway},
}

func as[T error](err error) bool {
	_, ok := errors.AsType[T](err)
	return ok
}

func kind(k error) func(error) bool {
	return func(err error) bool { return errors.Is(err, k) }
}

// statusOf returns the HTTP status of an error.
func statusOf(err error) int {
	if e, ok := errors.AsType[*statusError](err); ok {
		return e.status
	}
	for _, row := range statuses {
		if row.is(err) {
			return row.status
		}
	}
	return http.StatusInternalServerError
}

// defaultRetry is what a client is told to wait when nobody knows better.
const defaultRetry = 30 * time.Second

// mayPass reports whether a failure with that status may be over by itself.
func mayPass(status int) bool {
	switch status {
	case http.StatusTooManyRequests, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return true
	}
	return false
}

// retryAfter is how many seconds a client is told to wait, at least one.
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

// A form is how an error is written.
type form int

const (
	asText form = iota
	asJSON
	asPage
)

// formOf is the form that a client wants: a page for a browser, JSON for a
// program that asks for it, else the one that is usual at the address.
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

// writeError answers with the error in words.
func (s *server) writeError(w http.ResponseWriter, r *http.Request, usual form, status int, err error) {
	h := w.Header()
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	if mayPass(status) {
		h.Set("Retry-After", strconv.Itoa(retryAfter(err)))
	}
	text := publicText(status, err)
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
		if as[*usageError](err) {
			body.Usage = usage
		}
		h.Set("Content-Type", "application/json")
		w.WriteHeader(status)
		_ = json.NewEncoder(w).Encode(body) // the client may be gone
	default:
		h.Set("Content-Type", "text/plain; charset=utf-8")
		w.WriteHeader(status)
		fmt.Fprintf(w, "%s\n", text)
	}
}

// nameMissing gives an error that says that there is no such piece words that
// name it.
func nameMissing(name bundle.Name, err error) error {
	if !as[*catalog.StaleError](err) && !as[*unreadableError](err) && errors.Is(err, fault.NotFound) {
		return &statusError{http.StatusNotFound, fmt.Sprintf("there is no piece named %s", name)}
	}
	return err
}

// publicText is what a stranger is told: the cause where it is theirs to mend,
// and no path or address of the machine. So the words are those of errors that
// are known to have none, and never those of whatever they are wrapped in.
func publicText(status int, err error) string {
	if e, ok := errors.AsType[*statusError](err); ok {
		return e.text
	}
	if e, ok := errors.AsType[*usageError](err); ok {
		return e.text
	}
	if e, ok := errors.AsType[*bundle.TooLargeError](err); ok {
		return e.Error()
	}
	if e, ok := errors.AsType[*catalog.StaleError](err); ok {
		return e.Error()
	}
	again := fmt.Sprintf("try again in %d seconds", retryAfter(err))
	switch {
	case as[*catalog.LimitError](err):
		return "too many pieces were asked for that are not known here; " + again
	case as[*catalog.BusyError](err):
		return "the server is busy fetching other pieces; " + again
	case as[*bundle.BusyError](err):
		return "the oven, which packs the pieces, is busy; " + again
	case as[*bundle.TimeoutError](err):
		return "the oven, which packs the pieces, takes too long; " + again
	case as[*unreadableError](err):
		return "the image cannot be read at the moment; " + again
	case status == http.StatusBadGateway:
		return "the piece cannot be had from its source at the moment; " + again
	case status == http.StatusNotFound:
		return "there is no such piece"
	case status == http.StatusBadRequest:
		return "no image can be made of this piece; the operator's log says why"
	}
	return "something went wrong here; the operator's log says what"
}

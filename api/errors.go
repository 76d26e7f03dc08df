package api

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"aesthetic.computer/isofs/bundle"
	"aesthetic.computer/isofs/catalog"
	"aesthetic.computer/isofs/fault"
)

// A statusError is an answer that has its status already.
type statusError struct {
	status int
	text   string
}

func (e *statusError) Error() string { return e.text }

// statuses maps the kinds of package fault to HTTP, the special cases before
// the kinds that they wrap.
var statuses = []struct {
	is     func(error) bool
	status int
}{
	{as[*bundle.TooLargeError], http.StatusRequestEntityTooLarge},
	// Not 416: wget and curl take that for "already complete" and keep the part.
	{as[*catalog.StaleError], http.StatusPreconditionFailed},
	{as[*catalog.BusyError], http.StatusServiceUnavailable},
	{kind(fault.Corrupt), http.StatusBadGateway},
	{kind(fault.Invalid), http.StatusBadRequest},
	{kind(fault.NotFound), http.StatusNotFound},
	{kind(fault.Unavailable), http.StatusBadGateway},
}

func as[T error](err error) bool {
	var target T
	return errors.As(err, &target)
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

// retryAfter is what a client is told to wait when it may come again.
func retryAfter(err error) time.Duration {
	if busy, ok := errors.AsType[*catalog.BusyError](err); ok {
		return busy.RetryAfter
	}
	return 30 * time.Second
}

// writeError answers with the error in words: JSON for a client that asks for
// it, else plain text.
func writeError(w http.ResponseWriter, r *http.Request, status int, err error) {
	h := w.Header()
	h.Set("Cache-Control", "no-store")
	if status == http.StatusBadGateway || status == http.StatusServiceUnavailable {
		h.Set("Retry-After", strconv.Itoa(int(retryAfter(err).Seconds())))
	}
	text := publicText(status, err)
	if strings.Contains(r.Header.Get("Accept"), "application/json") {
		h.Set("Content-Type", "application/json")
		w.WriteHeader(status)
		_ = json.NewEncoder(w).Encode(map[string]string{"error": text}) // the client may be gone
		return
	}
	h.Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(status)
	fmt.Fprintf(w, "%s\n", text)
}

// publicText is what a stranger is told: the cause where it is theirs to mend,
// and no address or path of the machine where it is not.
func publicText(status int, err error) string {
	switch {
	case as[*statusError](err) || status < 500:
		return err.Error()
	case as[*catalog.BusyError](err):
		return "the server is busy fetching other pieces; try again in a few seconds"
	case status == http.StatusBadGateway:
		return "the piece cannot be had from its source at the moment; try again in half a minute"
	}
	return "something went wrong here; the operator's log says what"
}

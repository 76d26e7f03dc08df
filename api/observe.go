package api

import (
	"net/http"

	"aesthetic.computer/isofs/catalog"
)

// observed puts the client's address into the context, for the catalog, and
// calls Config.Observe with the answer.
func (s *server) observed(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r = r.WithContext(catalog.AskedBy(r.Context(), clientOf(r).Address))
		answer := &observedWriter{ResponseWriter: w, status: http.StatusOK}
		next.ServeHTTP(answer, r)
		if s.Observe != nil {
			// The mux has set its pattern, and there are only a few.
			s.Observe(r.Pattern, answer.status)
		}
	})
}

// An observedWriter remembers the status.
type observedWriter struct {
	http.ResponseWriter
	status int
}

func (w *observedWriter) WriteHeader(status int) {
	w.status = status
	w.ResponseWriter.WriteHeader(status)
}

// Unwrap is for http.ResponseController: streams flush by it.
func (w *observedWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

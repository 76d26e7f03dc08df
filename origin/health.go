package origin

import "time"

// When an origin is set aside, and for how long.
const (
	tooMany    = 5                // failures one after the other
	tooManyIn  = 10 * time.Second // within this time
	asideFirst = 5 * time.Second  // doubled each time, if it did not work in between
	asideMost  = time.Minute
)

// health is whether one of several mirrors works. A mirror that is set aside is
// used only if all are. When its time is over, one Fetch tries it. Then the
// mirror is set aside again, or used again.
type health struct {
	failures int       // one after the other
	first    time.Time // of them

	since, until time.Time     // it is set aside; zero: it is not
	pause        time.Duration // how long it was the last time; 0: it worked since
	lied         bool          // it is set aside for wrong bytes
	probing      bool          // its time is over and a Fetch tries it
}

func (h *health) aside() bool { return !h.until.IsZero() }

// usable reports whether a Fetch may use the mirror although it has others.
func (h *health) usable(now time.Time) bool {
	return !h.aside() || !h.probing && !now.Before(h.until)
}

// begin notes that a Fetch uses the mirror. It reports whether this Fetch is the
// one that tries a mirror after it was set aside.
func (h *health) begin(now time.Time) (probe bool) {
	if h.aside() && h.usable(now) {
		h.probing = true
		return true
	}
	return false
}

// work notes the success of a request that started then, and reports whether
// the mirror was set aside and no longer is.
func (h *health) work(started time.Time, probe bool) (back bool) {
	if probe {
		h.probing = false
	}
	if h.aside() && !probe && (h.lied || started.Before(h.since)) {
		return false // the request is older than the reason
	}
	back = h.aside()
	*h = health{probing: h.probing}
	return back
}

// fail notes a failure. A single grave one sets the mirror aside. It returns for
// how long the mirror is set aside now; 0 if it is not, or was already.
func (h *health) fail(now time.Time, grave, probe bool) time.Duration {
	switch {
	case probe:
		h.probing = false
	case h.aside():
		return 0
	case grave:
	default:
		if now.Sub(h.first) > tooManyIn {
			h.failures = 0
		}
		if h.failures == 0 {
			h.first = now
		}
		if h.failures++; h.failures < tooMany {
			return 0
		}
	}
	h.failures = 0
	h.pause = min(max(2*h.pause, asideFirst), asideMost)
	h.since, h.until = now, now.Add(h.pause)
	h.lied = false
	return h.pause
}

// giveUp notes that the caller of a Fetch ended it.
func (h *health) giveUp(probe bool) {
	if probe {
		h.probing = false
	}
}

// lie notes wrong bytes, for which the mirror is set aside for this pause. It
// reports whether the mirror was not yet set aside for wrong bytes.
func (h *health) lie(now time.Time, pause time.Duration) bool {
	was := h.lied && now.Before(h.until)
	h.since, h.lied = now, true
	if until := now.Add(pause); until.After(h.until) {
		h.until = until
	}
	return !was
}

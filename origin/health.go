package origin

import "time"

// When an origin is set aside, and for how long.
const (
	tooMany    = 5                // failures one after the other
	tooManyIn  = 10 * time.Second // within this time
	asideFirst = 5 * time.Second  // doubled each time, if it did not work in between
	asideMost  = time.Minute
)

// health is what is known of an origin of several. One that is set aside is
// used only if all are; when its time is over one Fetch tries it, and by that
// it is set aside again or used again.
type health struct {
	failures int       // one after the other
	first    time.Time // of them

	since, until time.Time     // set aside; zero: it is not
	pause        time.Duration // how long it was the last time; 0: it worked since
	lied         bool          // it is set aside for wrong bytes
	probing      bool          // its time is over and a Fetch tries it
}

func (h *health) aside() bool { return !h.until.IsZero() }

// usable reports whether a Fetch may be sent there that others could serve.
func (h *health) usable(now time.Time) bool {
	return !h.aside() || !h.probing && !now.Before(h.until)
}

// begin notes that a Fetch is sent there, and reports whether it is the one
// that tries.
func (h *health) begin(now time.Time) (probe bool) {
	if h.aside() && h.usable(now) {
		h.probing = true
		return true
	}
	return false
}

// work notes a success of what begun then, and reports whether the origin was
// set aside and no longer is.
func (h *health) work(begun time.Time, probe bool) (back bool) {
	if probe {
		h.probing = false
	}
	if h.aside() && !probe && (h.lied || begun.Before(h.since)) {
		return false // it says nothing of the time since
	}
	back = h.aside()
	*h = health{probing: h.probing}
	return back
}

// fail notes a failure, a grave one if it needs no others to set the origin
// aside. It returns for how long it is set aside by this.
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

// giveUp notes that a Fetch was ended by who wanted it.
func (h *health) giveUp(probe bool) {
	if probe {
		h.probing = false
	}
}

// lie notes wrong bytes, for which the origin is set aside for so long. It
// reports whether it was not set aside for that already.
func (h *health) lie(now time.Time, pause time.Duration) bool {
	was := h.lied && now.Before(h.until)
	h.since, h.lied = now, true
	if until := now.Add(pause); until.After(h.until) {
		h.until = until
	}
	return !was
}

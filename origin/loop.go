package origin

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"aesthetic.computer/isofs/fault"
)

// A loop makes the attempts of one read: in rounds, with pauses between them,
// within one deadline. A round makes one attempt at each source until one has
// given the rest.
type loop struct {
	o       Options
	sources []outcome
}

// An outcome is what came of the attempts at one source.
type outcome struct {
	name     fmt.Stringer
	attempts int
	tried    bool  // in this round
	spent    bool  // it is not asked again
	wrongs   int   // answers to something other than the request
	err      error // of the last attempt that was not cut off

	verdict verdict       // of err
	after   time.Duration // the source wants to be left alone for so long
}

// run makes rounds until one succeeds, no source is worth another one, or the
// deadline comes. A round reports whether bytes came: then the pauses start
// small again. Before the first pause, failing gets the error of the first
// round. The error of run wraps one kind of package fault.
func (l *loop) run(ctx context.Context, round func(context.Context) (progress bool, err error), failing func(error)) error {
	within, cancel := context.WithTimeout(ctx, l.o.Timeout)
	defer cancel()
	pause := l.o.Backoff
	for first := true; ; first = false {
		progress, err := round(within)
		switch {
		case err == nil:
			return nil
		case ctx.Err() != nil:
			return canceled(ctx)
		case errors.Is(err, fault.Invalid):
			return err
		case within.Err() != nil:
			return l.failed(fmt.Sprintf("in %v", l.o.Timeout))
		}
		if progress {
			pause = l.o.Backoff
		}
		wait := max(rand.N(pause), l.retryAfter())
		pause = min(2*pause, l.o.MaxBackoff)
		if deadline, _ := within.Deadline(); l.finished() || wait > time.Until(deadline) {
			return l.failed(fmt.Sprintf("as the next one is due in %v", wait.Round(time.Millisecond)))
		}
		if first {
			failing(err)
		}
		if l.o.sleep(within, wait) != nil {
			if ctx.Err() != nil {
				return canceled(ctx)
			}
			return l.failed(fmt.Sprintf("in %v", l.o.Timeout))
		}
		for i := range l.sources {
			l.sources[i].tried = false
		}
	}
}

// untried reports whether a source may still be asked in this round.
func (l *loop) untried(i int) bool { return !l.sources[i].tried && !l.sources[i].spent }

// spent reports whether a source is not to be asked again.
func (l *loop) spent(i int) bool { return l.sources[i].spent }

// note keeps how an attempt at a source failed. An attempt that was cut off
// with its context did not fail by itself: the failure before it says more.
func (l *loop) note(ctx context.Context, i int, err error) {
	s := &l.sources[i]
	s.attempts++
	s.tried = true
	if ctx.Err() != nil && errors.Is(err, ctx.Err()) {
		return
	}
	s.err, s.verdict, s.after = err, again, 0
	if f, ok := errors.AsType[*failure](err); ok {
		s.verdict, s.after = f.verdict, f.after
	} else if errors.Is(err, fault.NotFound) || errors.Is(err, fault.Corrupt) {
		s.verdict = final
	}
	if s.verdict == onceMore {
		s.wrongs++
	}
	s.spent = s.verdict == final || s.wrongs > 1
}

// finished reports whether no source is worth another round.
func (l *loop) finished() bool {
	return !slices.ContainsFunc(l.sources, func(s outcome) bool { return !s.spent && s.verdict != withOthers })
}

// retryAfter is how long the next round has to wait: until the first source
// wants to be asked again.
func (l *loop) retryAfter() time.Duration {
	least := time.Duration(-1)
	for _, s := range l.sources {
		if !s.spent && (least < 0 || s.after < least) {
			least = s.after
		}
	}
	return max(least, 0)
}

// failed returns the error of all sources. It is fault.Unavailable if one of
// them may have the bytes another time.
func (l *loop) failed(why string) error {
	if len(l.sources) == 1 {
		return l.sources[0].failed(why)
	}
	kind, passing := fault.NotFound, false
	var each []string
	for _, s := range l.sources {
		err := s.failed(why)
		each = append(each, fmt.Sprintf("%s: %v", s.name, err))
		switch {
		case errors.Is(err, fault.NotFound):
		case errors.Is(err, fault.Corrupt):
			kind = fault.Corrupt
		default:
			passing = true
		}
	}
	if passing {
		kind = fault.Unavailable
	}
	return fmt.Errorf("%w: none of them gave the bytes: %s", kind, strings.Join(each, "; "))
}

// failed returns the error of one source. If isofs gave up the source although
// its failure may pass, the error keeps the failure's text and not its kind.
func (s *outcome) failed(why string) error {
	switch {
	case s.attempts == 0:
		return fmt.Errorf("%w: it was not asked in time", fault.Unavailable)
	case s.err == nil:
		return fmt.Errorf("%w: no answer %s", fault.Unavailable, why)
	case s.spent, s.verdict == withOthers:
		return s.err
	}
	return fmt.Errorf("%w: gave up after %d attempts, %s: %v", fault.Unavailable, s.attempts, why, s.err)
}

package vfs

import "sync"

const (
	// firstAhead is how far is read ahead of a reader who has just begun,
	// mostAhead of one who read as much already: twice what all connections
	// bring at a time (cache.aheadSpan), so that none is idle while the first
	// of them is late.
	firstAhead = 512 << 10
	mostAhead  = 32 << 20
	// leastAdvice and mostAdvice bound what is asked for at a time: small at
	// the start, so that it is there soon, then large enough to be few calls.
	leastAdvice = 256 << 10
	mostAdvice  = 1 << 20
	// skipped and repeated are how far from where a stream ended a read may
	// begin and still belong to it: nginx's threads overtake each other, and
	// the kernel reads ahead by itself.
	skipped  = 1 << 20
	repeated = 256 << 10
)

// mostStreams bounds the readers of one open file that are followed. A web
// server that keeps files open has one file for all clients that download the
// same image.
const mostStreams = 16

// streams finds the sequential readers of one open file.
type streams struct {
	mu    sync.Mutex // guards what follows
	all   [mostStreams]stream
	count uint64 // reads
}

// A stream is a place where reads follow each other.
type stream struct {
	last   uint64 // read, as counted; 0: there is no stream
	reads  int    // that moved it on
	begin  int64  // of its first read
	end    int64  // of what was read
	asked  int64  // end of what was asked to be read ahead
	window int64  // how far ahead of end that should be
}

// note takes a read of [off, off+n) and returns what should be read ahead then:
// nothing, mostly. A stream begins with its second read, or with one of the
// file's first byte.
func (s *streams) note(off, n int64) (at, bytes int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.count++
	st := s.find(off)
	st.last = s.count
	if st.reads == 0 {
		*st = stream{last: s.count, reads: 1, begin: off, end: off + n, asked: off + n, window: firstAhead}
		if off != 0 {
			return 0, 0
		}
	} else {
		if off+n <= st.end {
			return 0, 0 // late, or once more
		}
		st.reads++
		st.end = off + n
	}
	for st.window < mostAhead && st.end-st.begin >= 2*st.window {
		st.window *= 2
	}
	at = max(st.asked, st.end)
	bytes = st.end + st.window - at
	if bytes < min(max(leastAdvice, st.window/4), mostAdvice) {
		return 0, 0
	}
	st.asked = at + bytes
	return at, bytes
}

// find returns the stream that a read at off belongs to, or else the least
// recently read one, emptied.
func (s *streams) find(off int64) *stream {
	oldest := &s.all[0]
	for i := range s.all {
		st := &s.all[i]
		if st.reads > 0 && st.end-repeated <= off && off <= st.end+skipped {
			return st
		}
		if st.last < oldest.last {
			oldest = st
		}
	}
	*oldest = stream{}
	return oldest
}

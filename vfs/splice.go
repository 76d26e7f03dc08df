package vfs

import (
	"errors"
	"io"
	"log/slog"
	"math/bits"
	"os"
	"sync/atomic"
	"time"
	_ "unsafe" // for go:linkname

	"github.com/hanwen/go-fuse/v2/fuse"
	"github.com/hanwen/go-fuse/v2/splice"
)

const (
	// maxRead is the largest read that the kernel may request.
	maxRead = 1 << 20
	// preferredRead is st_blksize: cp and cat read that much at a time. It is
	// the largest power of two that is spliced with the kernel's default of
	// 1 MiB for the largest pipe.
	preferredRead = 512 << 10
	// spliceMin is where splicing begins to cost less than copying (BenchmarkRead).
	spliceMin = 128 << 10
	// splicesAtOnce bounds the pipes; an answer needs two. An unprivileged user has
	// 64 MiB of pipes (fs.pipe-user-pages-soft), beyond which they cannot be made
	// large enough.
	splicesAtOnce = 16
	// growPause is how long reads are copied after a pipe could not be made large
	// enough, before the next attempt.
	growPause = 30 * time.Second
	// answerHeader is struct fuse_out_header, which precedes the bytes.
	answerHeader = 16
)

// resizable is go-fuse's flag that pipes can be made larger. go-fuse tries that
// once, as the program starts. If other programs of the user have all the pages
// that pipes may have then (fs.pipe-user-pages-soft), it would never splice. A
// splicer tries it again instead.
//
//go:linkname resizable github.com/hanwen/go-fuse/v2/splice.resizable
var resizable bool

func init() { resizable = true }

// SpliceSize returns the largest read, in whole pages, that is answered without
// copying: 1016 KiB by default, more when fs.pipe-max-size was raised before this
// process began. Larger reads are copied. A web server should have output buffers
// of this size.
func SpliceSize() int {
	return min(maxRead, splice.MaxPipeSize()-2*os.Getpagesize())
}

// A splicer makes answers of bytes that lie in a file: the kernel moves their pages
// from the file through a pipe to the reader, and this process never touches them.
//
// go-fuse can do that by itself (fuse.ReadResultFd), but turns a splice that came
// out short, as when the disk fails, into a short answer. So the splicer fills the
// pipe, and passes on only a full one.
type splicer struct {
	page  int
	turns chan struct{} // one element for each answer on its way
	log   *slog.Logger
	pause time.Duration // growPause
	since time.Time     // what copyUntil counts from
	// copyUntil is the time after since until which all is copied, as pipes could
	// not be made larger; 0: they could.
	copyUntil atomic.Int64
}

func newSplicer(log *slog.Logger) *splicer {
	return &splicer{page: os.Getpagesize(), turns: make(chan struct{}, splicesAtOnce), log: log, pause: growPause, since: time.Now()}
}

// load returns an answer of the n > 0 bytes at offset at of f, and calls release
// when it was sent. It returns nil, and does not call release, if they cannot be
// spliced now and must be copied.
func (s *splicer) load(f *os.File, at int64, n int, release func()) *spliced {
	if !s.fits(at, n) || int64(time.Since(s.since)) < s.copyUntil.Load() {
		return nil
	}
	select {
	case s.turns <- struct{}{}:
	default:
		return nil
	}
	if pair := s.fill(f, at, n); pair != nil {
		return &spliced{pair: pair, file: f, at: at, size: n, done: func() {
			splice.Done(pair)
			release()
			<-s.turns
		}}
	}
	<-s.turns
	return nil
}

// fill returns a pipe with the bytes in it, or nil. It makes sure that go-fuse
// finds a pipe for the whole answer, since go-fuse logs a line if it finds none.
func (s *splicer) fill(f *os.File, at int64, n int) *splice.Pair {
	pair, err := splice.Get()
	if err != nil {
		return nil
	}
	ask := answerHeader + n + s.page
	theirs, err := splice.Get()
	if err == nil {
		err = errors.Join(pair.Grow(s.slots(at, n)*s.page), theirs.Grow(ask))
		splice.Done(theirs) // go-fuse takes the one that was given back last
	}
	s.note(err)
	if err == nil {
		if got, err := pair.LoadFromAt(f.Fd(), n, at); err == nil && got == n {
			return pair
		}
	}
	splice.Done(pair) // empties it
	return nil
}

// note logs when pipes cannot be made large enough, and when they can again.
func (s *splicer) note(err error) {
	if err == nil {
		if s.copyUntil.Swap(0) != 0 {
			s.log.Info("reads are spliced again")
		}
		return
	}
	until := int64(time.Since(s.since) + s.pause)
	if s.copyUntil.Swap(until) == 0 {
		s.log.Warn("reads are copied, which costs more of the processor, as pipes cannot be made large enough; other programs of this user may have "+
			"all that fs.pipe-user-pages-soft allows", "tried_again_every", s.pause, "error", err)
	}
}

// slots returns how many pages [at, at+n) touches: a pipe has slots for pages,
// not bytes.
func (s *splicer) slots(at int64, n int) int {
	return (int(at%int64(s.page)) + n + s.page - 1) / s.page
}

// fits reports whether go-fuse's own pipe will hold the answer: header and bytes.
// go-fuse asks for their length and a page, which the kernel rounds up to a power
// of two of slots. That must not exceed the limit: go-fuse would log a line for
// each answer and copy. And the slots must suffice: bytes that lie askew on their
// pages would come out short.
func (s *splicer) fits(at int64, n int) bool {
	ask := answerHeader + n + s.page
	if ask > splice.MaxPipeSize() {
		return false
	}
	pages := (ask + s.page - 1) / s.page
	slots := 1 << bits.Len(uint(pages-1))
	return 1+s.slots(at, n) <= slots
}

// A spliced is an answer whose bytes wait in a pipe. The pipe holds pages of the
// file, not copies, so the file's range stays pinned until Done.
//
// go-fuse calls Done exactly once, whether or not splicing succeeded, if Size is
// not 0 and the status is OK. load ensures the first and Read the second.
type spliced struct {
	pair *splice.Pair
	file *os.File
	at   int64
	size int
	done func()
	fail func(error) // told why Bytes fails
}

var _ fuse.ReadResult = (*spliced)(nil)

// Size returns the number of bytes.
func (r *spliced) Size() int { return r.size }

// Stateful returns the end of the pipe where go-fuse is to take the bytes.
func (r *spliced) Stateful() (fd uintptr, size int) { return r.pair.ReadFd(), r.size }

// Bytes is go-fuse's way out when splicing to the kernel failed. The pipe may be
// half empty by then, so it reads the file, all of it or nothing.
func (r *spliced) Bytes(buf []byte) ([]byte, fuse.Status) {
	if err := readFull(r.file, buf[:r.size], r.at); err != nil {
		r.fail(err)
		return nil, fuse.EIO
	}
	return buf[:r.size], fuse.OK
}

// Done empties the pipe and releases the file's range.
func (r *spliced) Done() { r.done() }

// errOrShort returns err, or the error for a read that is short without an error.
func errOrShort(err error) error {
	if err == nil || errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

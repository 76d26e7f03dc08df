package vfs

import (
	"errors"
	"io"
	"math/bits"
	"os"

	"github.com/hanwen/go-fuse/v2/fuse"
	"github.com/hanwen/go-fuse/v2/splice"
)

const (
	// maxRead is the largest read that the kernel is told to ask for.
	maxRead = 1 << 20
	// preferredRead is st_blksize: cp and cat read that much at a time. It is
	// the largest power of two that is spliced with the kernel's default of
	// 1 MiB for the largest pipe.
	preferredRead = 512 << 10
	// spliceMin is where splicing begins to cost less than copying (BenchmarkRead).
	spliceMin = 128 << 10
	// splicesAtOnce bounds the pipes, of which an answer needs two. An
	// unprivileged user has 64 MiB of pipes (fs.pipe-user-pages-soft), beyond
	// which they cannot be made large enough.
	splicesAtOnce = 16
	// answerHeader is struct fuse_out_header, which precedes the bytes.
	answerHeader = 16
)

// SpliceSize returns the largest read, in whole pages, that is answered without
// copying: 1016 KiB by default, more when fs.pipe-max-size was raised before
// this process began. Larger reads are served, by copying. A web server should
// have output buffers of this size.
func SpliceSize() int {
	return min(maxRead, splice.MaxPipeSize()-2*os.Getpagesize())
}

// A splicer makes answers of bytes that lie in a file: the kernel moves their
// pages from the file through a pipe to the reader, and this process never
// touches them.
//
// go-fuse can do that by itself (fuse.ReadResultFd), but turns a splice that
// came out short, as when the disk fails, into a short answer. So the pipe is
// filled here, and only a full one is handed on.
type splicer struct {
	page  int
	turns chan struct{} // one element for each answer on its way
}

func newSplicer() *splicer {
	return &splicer{page: os.Getpagesize(), turns: make(chan struct{}, splicesAtOnce)}
}

// load returns an answer of the n > 0 bytes at offset at of f, and calls release
// when it was sent. It returns nil, and does not call release, if they cannot
// be spliced now and must be copied.
func (s *splicer) load(f *os.File, at int64, n int, release func()) *spliced {
	if !s.fits(at, n) {
		return nil
	}
	select {
	case s.turns <- struct{}{}:
	default:
		return nil
	}
	pair, err := splice.Get()
	if err != nil {
		<-s.turns
		return nil
	}
	if pair.Grow(s.slots(at, n)*s.page) == nil {
		if got, err := pair.LoadFromAt(f.Fd(), n, at); err == nil && got == n {
			done := func() {
				splice.Done(pair)
				release()
				<-s.turns
			}
			return &spliced{pair: pair, file: f, at: at, size: n, done: done}
		}
	}
	splice.Done(pair) // empties it
	<-s.turns
	return nil
}

// slots returns how many pages [at, at+n) touches: a pipe has slots for pages,
// not bytes.
func (s *splicer) slots(at int64, n int) int {
	return (int(at%int64(s.page)) + n + s.page - 1) / s.page
}

// fits says whether go-fuse's own pipe will hold the answer: header and bytes.
// go-fuse asks for their length and a page, which the kernel rounds up to a
// power of two of slots. It must not be over the limit, as then go-fuse logs a
// line for each answer and copies. And the slots must suffice, as otherwise
// bytes that lie askew on their pages come out short.
func (s *splicer) fits(at int64, n int) bool {
	ask := answerHeader + n + s.page
	if !splice.Resizable() || ask > splice.MaxPipeSize() {
		return false
	}
	pages := (ask + s.page - 1) / s.page
	slots := 1 << bits.Len(uint(pages-1))
	return 1+s.slots(at, n) <= slots
}

// A spliced is an answer whose bytes wait in a pipe. The pipe holds pages of
// the file, not copies, so that the file's range stays pinned until Done.
//
// go-fuse calls Done exactly once, whether or not splicing succeeded, if Size
// is not 0 and the status is OK; load sees to the one and Read to the other.
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
// half empty by then, so it reads the file, and all of it or nothing.
func (r *spliced) Bytes(buf []byte) ([]byte, fuse.Status) {
	if err := readFull(r.file, buf[:r.size], r.at); err != nil {
		r.fail(err)
		return nil, fuse.EIO
	}
	return buf[:r.size], fuse.OK
}

// Done empties the pipe and lets go of the file's range.
func (r *spliced) Done() { r.done() }

// errOrShort returns err, or what a read that is short without an error means.
func errOrShort(err error) error {
	if err == nil || errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

package bundle

import (
	"crypto/sha256"
	"hash"
	"io"
	"time"

	"aesthetic.computer/isofs/piece"
)

// A sink copies a bundle to w, and collects the data of its Info. Not safe for
// concurrent use.
type sink struct {
	w     io.Writer
	name  piece.Name
	limit int64 // bytes; one more is a *TooLargeError

	sum  hash.Hash
	size int64
	head []byte // the first splashRegion bytes
}

func newSink(w io.Writer, name piece.Name, limit int64) *sink {
	return &sink{w: w, name: name, limit: limit, sum: sha256.New()}
}

func (s *sink) Write(p []byte) (int, error) {
	if int64(len(p)) > s.limit-s.size {
		return 0, &TooLargeError{Name: s.name, Limit: s.limit}
	}
	n, err := s.w.Write(p)
	s.sum.Write(p[:n])
	s.size += int64(n)
	s.head = append(s.head, p[:min(n, splashRegion-len(s.head))]...)
	return n, err
}

func (s *sink) info(modTime time.Time) Info {
	info := Info{
		Size: s.size, ModTime: modTime.UTC().Truncate(time.Second),
		Title: title(s.head[:min(titleRegion, len(s.head))]),
	}
	s.sum.Sum(info.SHA256[:0])
	if info.Title == "" {
		info.Title = s.name.String()
	}
	info.take(findSplash(s.head))
	return info
}

package main

import (
	"errors"
	"io"
	"net/http"
	"os"
	"time"
)

// overlayMode makes this program the closest peer: Go's ServeContent over a
// reader that puts a slot, held in memory, over a base.
const overlayMode = "serve-overlay"

// slotAt is the slot's offset in a bench base: 21 MiB before the end.
func slotAt(size int64) int64 { return size - 21*mib }

// serveOverlay serves base with the slot of image.
func serveOverlay(address, basePath, imagePath string) error {
	image, err := os.Open(imagePath)
	if err != nil {
		return err
	}
	fi, err := image.Stat()
	if err != nil {
		return err
	}
	slot := make([]byte, 20*mib)
	if _, err := image.ReadAt(slot, slotAt(fi.Size())); err != nil {
		return err
	}
	base, err := os.Open(basePath)
	if err != nil {
		return err
	}
	return http.ListenAndServe(address, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.ServeContent(w, r, "x.iso", time.Unix(1, 0), io.NewSectionReader(overlay{base, slot, slotAt(fi.Size())}, 0, fi.Size()))
	}))
}

type overlay struct {
	base io.ReaderAt
	slot []byte
	at   int64
}

func (o overlay) ReadAt(p []byte, off int64) (int, error) {
	n, err := o.base.ReadAt(p, off)
	if err != nil && !errors.Is(err, io.EOF) {
		return n, err
	}
	from, to := max(off, o.at), min(off+int64(n), o.at+int64(len(o.slot)))
	if from < to {
		copy(p[from-off:to-off], o.slot[from-o.at:])
	}
	return n, err
}

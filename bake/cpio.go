package bake

import (
	"bytes"
	"fmt"
)

// A cpioWriter makes an archive in the format "newc", which the kernel unpacks
// (kernel documentation, driver-api/early-userspace/buffer-format). It sets
// owner and inode numbers, so the archive depends only on the calls.
type cpioWriter struct {
	buf   bytes.Buffer
	inode int
	epoch int64
}

// File modes of the archive: the type and the permissions.
const (
	modeDir    = 0o040755
	modeFile   = 0o100644
	modeProg   = 0o100755
	modeLink   = 0o120777
	modeCharRW = 0o020600
	modeEnd    = 0
)

// device is the number of a character device.
type device struct{ major, minor int }

// add appends an entry; names have no leading slash. The data of a link is its
// target.
func (w *cpioWriter) add(name string, mode int, dev device, data []byte) {
	w.inode++
	links := 1
	if mode == modeDir {
		links = 2
	}
	fmt.Fprintf(&w.buf, "070701%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%s\x00",
		w.inode, mode, 0, 0, links, w.epoch, len(data), 0, 0, dev.major, dev.minor, len(name)+1, 0, name)
	w.pad()
	w.buf.Write(data)
	w.pad()
}

// pad fills up to a multiple of four bytes.
func (w *cpioWriter) pad() {
	for w.buf.Len()%4 != 0 {
		w.buf.WriteByte(0)
	}
}

// bytes ends the archive and returns it.
func (w *cpioWriter) bytes() []byte {
	w.inode, w.epoch = -1, 0 // the trailer has neither
	w.add("TRAILER!!!", modeEnd, device{}, nil)
	for w.buf.Len()%512 != 0 {
		w.buf.WriteByte(0)
	}
	return w.buf.Bytes()
}

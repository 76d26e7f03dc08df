package stick

import (
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"unsafe"

	"golang.org/x/sys/unix"

	"aesthetic.computer/isofs/fault"
)

// directAlign is the alignment of reads past the cache: 4 KiB suits every disk.
const directAlign = 4096

// A Disk is an open device or file. It is a Target.
type Disk struct {
	file  *os.File
	size  int64
	block bool

	// direct reads past the kernel's cache; nil where that cannot be done.
	direct *os.File
	mu     sync.Mutex // guards buf
	buf    []byte
}

// Open opens a device to be written to, or with write false only to be read. This process
// then has the disk alone, unless it is busy and busy was allowed.
func (d *Device) Open(write bool) (*Disk, error) {
	flags := os.O_RDONLY
	if write {
		flags = os.O_RDWR
		if !d.File && !d.Busy() {
			flags |= unix.O_EXCL
		}
	}
	f, err := os.OpenFile(d.Path, flags, 0)
	if errors.Is(err, unix.EBUSY) {
		return nil, &RefusedError{d.Path, []Refusal{{inUse + "the kernel says that something uses it", false}}}
	}
	if err != nil {
		return nil, fmt.Errorf("open the stick: %w: %w", fault.Unavailable, err)
	}
	disk := &Disk{file: f, block: !d.File}
	if disk.size, err = f.Seek(0, io.SeekEnd); err != nil {
		f.Close()
		return nil, fmt.Errorf("find out how large %s is: %w: %w", d.Path, fault.Unavailable, err)
	}
	if d.File && write {
		if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
			f.Close()
			return nil, &RefusedError{d.Path, []Refusal{{inUse + "another isofs is writing to it", false}}}
		}
	}
	// tmpfs and others cannot. Then Open asks the kernel to drop the pages first.
	if direct, err := os.OpenFile(d.Path, os.O_RDONLY|unix.O_DIRECT, 0); err == nil {
		disk.direct, disk.buf = direct, aligned(chunk+directAlign)
	}
	return disk, nil
}

// aligned makes a buffer that begins at a multiple of directAlign.
func aligned(n int) []byte {
	p := make([]byte, n+directAlign)
	skip := int(-uintptr(unsafe.Pointer(&p[0])) % directAlign)
	return p[skip : skip+n : skip+n]
}

// Size implements Target.
func (d *Disk) Size() int64 { return d.size }

// ReadAt implements Target.
func (d *Disk) ReadAt(p []byte, off int64) (int, error) {
	if d.direct == nil {
		// Advice, which may be left.
		_ = unix.Fadvise(int(d.file.Fd()), off, int64(len(p)), unix.FADV_DONTNEED)
		return d.file.ReadAt(p, off)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	done := 0
	for done < len(p) {
		at := off + int64(done)
		skip := int(at % directAlign)
		want := min(len(p)-done+skip+directAlign-1, len(d.buf)) / directAlign * directAlign
		n, err := d.direct.ReadAt(d.buf[:want], at-int64(skip))
		if n = max(0, n-skip); n > 0 {
			done += copy(p[done:], d.buf[skip:skip+n])
			if done < len(p) && errors.Is(err, io.EOF) {
				return done, io.EOF
			}
			continue
		}
		if err == nil {
			err = io.EOF
		}
		return done, err
	}
	return done, nil
}

// WriteAt implements Target. It refuses to make a file longer.
func (d *Disk) WriteAt(p []byte, off int64) (int, error) {
	if off < 0 || off+int64(len(p)) > d.size {
		return 0, fmt.Errorf("%d bytes at %d end behind the end at %d: %w", len(p), off, d.size, fault.Invalid)
	}
	return d.file.WriteAt(p, off)
}

// Sync implements Target.
func (d *Disk) Sync() error {
	if err := d.file.Sync(); err != nil {
		return err
	}
	if d.block {
		// Drops the kernel's cache of the device. Only root may; reads go past it anyway.
		_ = unix.IoctlSetInt(int(d.file.Fd()), unix.BLKFLSBUF, 0)
	}
	// Advice, which may be left.
	_ = unix.Fadvise(int(d.file.Fd()), 0, 0, unix.FADV_DONTNEED)
	return nil
}

// Reread tells the kernel to read the partition table again.
func (d *Disk) Reread() {
	if d.block {
		// A device without partitions, or with some in use, refuses; nothing depends on
		// it.
		_ = unix.IoctlSetInt(int(d.file.Fd()), unix.BLKRRPART, 0)
	}
}

// Close closes the device.
func (d *Disk) Close() error {
	err := d.file.Close()
	if d.direct != nil {
		err = errors.Join(err, d.direct.Close())
	}
	return err
}

package vfs

import (
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"strconv"
	"testing"

	"golang.org/x/sys/unix"
)

// childMode is the environment variable that makes this program one of children.
const childMode = "ISOFS_VFS_CHILD"

// children are what child processes of the tests do.
var children = map[string]func(args []string) error{
	"pread":    childPread,
	"mmap":     childMmap,
	"sendfile": childSendfile,
	"stay":     childStay,
	"write":    childWrite,
	"serve":    childServe,
}

func TestMain(m *testing.M) {
	if mode := os.Getenv(childMode); mode != "" {
		if err := children[mode](os.Args[1:]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// fileArgs reads: path, seed, size.
func fileArgs(args []string) (f *os.File, seed uint64, size int64, err error) {
	if seed, err = strconv.ParseUint(args[1], 10, 64); err != nil {
		return
	}
	if size, err = strconv.ParseInt(args[2], 10, 64); err != nil {
		return
	}
	f, err = os.Open(args[0])
	return
}

func differs(got []byte, seed uint64, off int64) error {
	want := make([]byte, len(got))
	fill(want, seed, off)
	if !bytes.Equal(got, want) {
		return fmt.Errorf("wrong bytes in [%d, +%d)", off, len(got))
	}
	return nil
}

// childPread reads at random: path, seed, size, border, number. Half of the
// reads lie about border.
func childPread(args []string) error {
	f, seed, size, err := fileArgs(args)
	if err != nil {
		return err
	}
	border, _ := strconv.ParseInt(args[3], 10, 64)
	count, _ := strconv.Atoi(args[4])
	buf := make([]byte, 5<<18)
	for i := range count {
		n := rand.Int64N(1 << (4 + rand.IntN(17)))
		off := rand.Int64N(size + 1)
		if i%2 == 0 {
			off = max(0, border-rand.Int64N(n+1))
		}
		got, err := f.ReadAt(buf[:n], off)
		want := min(n, size-off)
		if int64(got) != want || err != nil && err != io.EOF {
			return fmt.Errorf("pread of %d at %d: got %d, want %d: %w", n, off, got, want, err)
		}
		if err := differs(buf[:got], seed, off); err != nil {
			return err
		}
	}
	return nil
}

func childMmap(args []string) error {
	f, seed, size, err := fileArgs(args)
	if err != nil {
		return err
	}
	data, err := unix.Mmap(int(f.Fd()), 0, int(size), unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		return err
	}
	return differs(data, seed, 0)
}

// childSendfile sends the file into a socket, as a web server does.
func childSendfile(args []string) error {
	f, seed, size, err := fileArgs(args)
	if err != nil {
		return err
	}
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	if err != nil {
		return err
	}
	sent := make(chan error, 1)
	go func() {
		defer unix.Close(pair[0])
		for left := size; left > 0; {
			n, err := unix.Sendfile(pair[0], int(f.Fd()), nil, int(left))
			if err != nil || n == 0 {
				sent <- fmt.Errorf("sendfile with %d left: %d, %w", left, n, err)
				return
			}
			left -= int64(n)
		}
		sent <- nil
	}()
	data, err := io.ReadAll(os.NewFile(uintptr(pair[1]), "socket"))
	if err != nil {
		return err
	}
	if err := <-sent; err != nil {
		return err
	}
	if int64(len(data)) != size {
		return fmt.Errorf("%d bytes of %d arrived", len(data), size)
	}
	return differs(data, seed, 0)
}

// childStay reads, which must fail, and lives on until the test ends it.
func childStay(args []string) error {
	if data, err := os.ReadFile(args[0]); err == nil {
		return fmt.Errorf("read %d bytes", len(data))
	}
	_, err := io.ReadAll(os.Stdin)
	return err
}

// childWrite tries to change the mount in each way, and prints the results.
func childWrite(args []string) error {
	dir, file := args[0], args[0]+"/"+args[1]
	folder := dir + "/" + snapshotsName
	open := func(path string, flags int) error {
		fd, err := unix.Open(path, flags, 0o644)
		if err == nil {
			unix.Close(fd)
		}
		return err
	}
	times := []unix.Timeval{{}, {}}
	for _, try := range []struct {
		what string
		err  error
	}{
		{"open to write", open(file, unix.O_WRONLY)},
		{"open to read and write", open(file, unix.O_RDWR)},
		{"open to truncate", open(file, unix.O_RDONLY|unix.O_TRUNC)},
		{"open to append", open(file, unix.O_WRONLY|unix.O_APPEND)},
		{"create", open(dir+"/new", unix.O_CREAT|unix.O_RDWR)},
		{"create an image", open(dir+"/new-os.iso", unix.O_CREAT|unix.O_RDWR|unix.O_EXCL)},
		{"truncate", unix.Truncate(file, 1)},
		{"unlink", unix.Unlink(file)},
		{"rmdir", unix.Rmdir(folder)},
		{"mkdir", unix.Mkdir(dir+"/new", 0o755)},
		{"mknod", unix.Mknod(dir+"/new", unix.S_IFIFO|0o644, 0)},
		{"symlink", unix.Symlink("x", dir+"/new")},
		{"link", unix.Link(file, dir+"/new")},
		{"rename", unix.Rename(file, dir+"/new")},
		{"chmod", unix.Chmod(file, 0o777)},
		{"chown", unix.Chown(file, 1, 1)},
		{"utimes", unix.Utimes(file, times)},
	} {
		fmt.Printf("%s: %v\n", try.what, try.err)
	}
	return nil
}

// childServe serves one small image until it is killed: the folder to mount on,
// or "" to serve the device that it inherited.
func childServe(args []string) error {
	img := &fakeImage{id: fmt.Sprintf("%032x", 9), name: "child-os.iso", size: 100_000, seed: 9}
	c := Config{Mountpoint: args[0], Log: slog.New(slog.DiscardHandler)}
	if c.Mountpoint == "" {
		c.Device = os.NewFile(3, "/dev/fuse")
	}
	s, err := Mount(c, newTree(img))
	if err != nil {
		return err
	}
	fmt.Println("serving as", os.Geteuid())
	s.Wait()
	fmt.Println("gone")
	return nil
}

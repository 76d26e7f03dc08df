package integration

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"aesthetic.computer/isofs/integration/testkit"
	"golang.org/x/sys/unix"
)

func TestRow12DiskFull(t *testing.T) {
	t.Parallel()
	needRoot(t)
	for name, c := range map[string]struct{ options, more string }{
		"bytes": {"size=8m", "size=200m"},
		// The folder itself uses the one inode.
		"inodes": {"size=200m,nr_inodes=1", "nr_inodes=1000"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			need(t, "nginx")
			p := newFaultProxy(t)
			s := newServer(t, "--base", p.url())
			dir, address := tmpfs(t, s.path("cache"), c.options), freeAddress(t)
			s.args = append(s.args, "--cache", dir, "--metrics-listen", address)
			s.start()
			s.all()
			s.all()
			degraded := func() string { values, _ := metrics(t, address); return values["isofs_cache_degraded"] }
			if want := map[string]string{"bytes": "0", "inodes": "1"}[name]; degraded() != want {
				t.Errorf("isofs_cache_degraded is %s, want %s", degraded(), want)
			}
			remount(t, dir, 0, c.more)
			// isofs does not use a disk for a while after several refusals.
			testkit.Eventually(t, "a block to be kept", func() bool { _ = s.ask(places[0], some); return degraded() == "0" })
			// After a while the cache recovers without help: it keeps all blocks that it reads.
			testkit.Eventually(t, "the cache to keep blocks again", func() bool {
				before := len(p.requests())
				s.all()
				return len(p.requests()) == before
			})
			p.add(&fault{all: true, spoil: status(http.StatusForbidden)})
			s.all()
		})
	}
}

func TestRow13CacheTakenAway(t *testing.T) {
	t.Parallel()
	needRoot(t)
	t.Run("folder deleted", func(t *testing.T) {
		t.Parallel()
		p, s := faulty(t)
		s.fine(places[0], some)
		if err := os.RemoveAll(s.path("state/cache")); err != nil {
			t.Fatal(err)
		}
		s.all()
		// isofs makes the folder again, and then keeps all blocks.
		testkit.Eventually(t, "the folder to be there again", func() bool {
			_, err := os.Stat(s.path("state/cache"))
			return err == nil
		})
		s.all()
		before := len(p.requests())
		s.all()
		if n := len(p.requests()) - before; n != 0 {
			t.Errorf("%d requests for what should be in the new folder", n)
		}
		s.stop()
		s.start()
		p.add(&fault{all: true, spoil: status(http.StatusForbidden)})
		s.all()
	})
	t.Run("read-only", func(t *testing.T) {
		t.Parallel()
		need(t, "nginx")
		p := newFaultProxy(t)
		s := newServer(t, "--base", p.url())
		dir := tmpfs(t, s.path("cache"), "size=200m")
		s.args = append(s.args, "--cache", dir)
		s.start()
		s.fine(places[0], some)
		// A file system cannot become read-only while a file is open for writing; a broken disk
		// can. So the cache is opened after the change.
		s.stop()
		remount(t, dir, unix.MS_RDONLY, "size=200m")
		s.start()
		s.all()
		s.all()
		s.stop()
		remount(t, dir, 0, "size=200m")
		s.start()
		s.all()
		p.add(&fault{all: true, spoil: status(http.StatusForbidden)})
		s.all()
	})
}

// remount changes a mounted tmpfs.
func remount(t *testing.T, dir string, flags uintptr, options string) {
	t.Helper()
	if err := unix.Mount("tmpfs", dir, "tmpfs", unix.MS_REMOUNT|flags, options); err != nil {
		t.Fatal(err)
	}
}

// damages are ways to damage the file with the blocks.
var damages = map[string]func(f *os.File) error{
	"flipped bits": func(f *os.File) error {
		var all error
		for at := int64(1<<20 + 17); at < 38<<20; at += 3<<20 + 4099 {
			b := make([]byte, 1)
			_, err := f.ReadAt(b, at)
			b[0] ^= 4
			_, werr := f.WriteAt(b, at)
			all = errors.Join(all, err, werr)
		}
		return all
	},
	"truncated": func(f *os.File) error { return f.Truncate(11<<20 + 4321) },
	"emptied":   func(f *os.File) error { return f.Truncate(0) },
	"longer":    func(f *os.File) error { return f.Truncate(int64(len(reference())) + 1<<30) },
	"swapped blocks": func(f *os.File) error {
		a, b := make([]byte, 1<<20), make([]byte, 1<<20)
		_, err1 := f.ReadAt(a, 4<<20)
		_, err2 := f.ReadAt(b, 9<<20)
		_, err3 := f.WriteAt(b, 4<<20)
		_, err4 := f.WriteAt(a, 9<<20)
		return errors.Join(err1, err2, err3, err4)
	},
	"zeroed pages": func(f *os.File) error {
		_, err1 := f.WriteAt(make([]byte, pageSize), 6<<20+pageSize)
		_, err2 := f.WriteAt(make([]byte, 2<<20), 20<<20)
		return errors.Join(err1, err2)
	},
	"a hole": func(f *os.File) error {
		return unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, 13<<20+pageSize, 3<<20)
	},
}

func TestRow14DamagedCache(t *testing.T) {
	t.Parallel()
	// One server fills a cache; each case damages a copy of it.
	_, whole := faulty(t, unanswered)
	whole.all()
	whole.stop()
	for name, damage := range damages {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newFaultProxy(t)
			s := newServer(t, "--base", p.url(), unanswered)
			must(t, "cp", "-a", "--sparse=always", whole.path("state"), s.path("state"))
			hurt := func() {
				f, err := os.OpenFile(s.blocks(), os.O_RDWR, 0)
				if err == nil {
					err = errors.Join(damage(f), f.Close())
				}
				if err != nil {
					t.Fatal(err)
				}
			}
			hurt()
			// First isofs cannot fetch anything to repair the cache.
			forbidden := &fault{all: true, spoil: status(http.StatusForbidden)}
			p.add(forbidden)
			s.start()
			for at := int64(0); at < 38<<20; at += 1 << 20 {
				_ = s.ask(at, 1<<20) // right or refused
			}
			p.heal()
			s.all()
			// The second damage comes after a start, while the file is open and no block was
			// compared yet.
			s.stop()
			s.start()
			hurt()
			s.all()
		})
	}
}

func TestRow19MemoryIsBounded(t *testing.T) {
	t.Parallel()
	const handles, most = 200, 128 << 20
	p := newFaultProxy(t)
	need(t, "nginx")
	s := newServer(t, "--base", p.url(), "--cache-size", "16MiB")
	s.bin = plainBinary(t)
	s.start()
	child := s.cmd.Process.Pid
	if os.Geteuid() == 0 {
		child = s.named(filepath.Base(s.bin))
	}
	var all sync.WaitGroup
	for i := range handles {
		f, err := os.Open(s.mount() + matrixImage)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		all.Go(func() { s.wander(f, uint64(i)) })
	}
	all.Wait()
	if peak := peakMemory(t, child); peak > most {
		t.Errorf("the serving process took %d MiB for %d open files, want at most %d", peak>>20, handles, most>>20)
	} else {
		t.Logf("%d MiB for %d open files", peak>>20, handles)
	}
	s.all()
}

// wander reads a file at random places, or a part of it in order.
func (s *server) wander(f *os.File, seed uint64) {
	r := rand.New(rand.NewPCG(seed, 19))
	const step = 128 << 10
	body := make([]byte, step)
	at := r.Int64N(36 << 20)
	for range 16 {
		if _, err := f.ReadAt(body, at); err != nil || !bytes.Equal(body, reference()[at:at+step]) {
			s.t.Errorf("%d bytes from %d: wrong, or %v", step, at, err)
			return
		}
		if at += step; seed%2 == 1 || at > 36<<20 {
			at = r.Int64N(36 << 20)
		}
	}
}

// plainBinary is isofs without the race detector, which needs memory itself.
func plainBinary(t *testing.T) string {
	t.Helper()
	path, err := buildPlain()
	if err != nil {
		t.Fatal(err)
	}
	return path
}

var buildPlain = sync.OnceValues(func() (path string, err error) {
	if !*thorough {
		return isofs, nil
	}
	path = filepath.Join(workDir, "isofs-plain")
	return path, buildProgram(path, "-race=false")
})

// peakMemory is the most memory that a process ever had resident, mapped files included.
func peakMemory(t *testing.T, pid int) int64 {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(text), "VmHWM:")
	kib, err := strconv.ParseInt(strings.Fields(rest + " 0")[0], 10, 64)
	if err != nil || kib == 0 {
		t.Fatalf("no VmHWM in %s", text)
	}
	return kib << 10
}

func TestRow20CacheSmallerThanAnImage(t *testing.T) {
	t.Parallel()
	for _, limit := range []int64{1 << 20, 2 << 20} {
		t.Run(fmt.Sprintf("%d MiB", limit>>20), func(t *testing.T) {
			t.Parallel()
			p, s := faulty(t, "--cache-size", fmt.Sprint(limit))
			var all sync.WaitGroup
			for range 3 {
				all.Go(s.all)
			}
			all.Wait()
			var st unix.Stat_t
			if err := unix.Stat(s.blocks(), &st); err != nil {
				t.Fatal(err)
			}
			if took := st.Blocks * 512; took > limit+1<<20 {
				t.Errorf("the cache takes %d bytes, and may take %d", took, limit)
			}
			s.recovered(p)
		})
	}
}

func TestRow22SecondIsofsOnTheCache(t *testing.T) {
	t.Parallel()
	need(t, "nginx")
	_, first := faulty(t)
	second := newServer(t, "--cache", first.path("state/cache"))
	second.fails("another isofs is using it")
	second.says(first.path("state/cache"))
	if code := second.cmd.ProcessState.ExitCode(); code != 1 {
		t.Errorf("exit status %d, want 1", code)
	}
	if second.mounted() {
		t.Error("it left a mount")
	}
	first.all()
	first.endsClean()
}

func TestRow25WrongClocks(t *testing.T) {
	t.Parallel()
	for name, when := range map[string]time.Time{
		"1970": time.Unix(0, 0), "2106": time.Unix(1<<32-1, 0),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p, s := faulty(t)
			stamp := when.UTC().Format(http.TimeFormat)
			clock := &fault{all: true, spoil: func(a *answer) {
				a.header.Set("Date", stamp)
				a.header.Set("Last-Modified", stamp)
				a.header.Set("Expires", stamp)
			}}
			p.add(clock)
			s.all()
			s.stop()
			// Its files on disk are from another time, too.
			err := filepath.WalkDir(s.path("state"), func(path string, _ fs.DirEntry, err error) error {
				return errors.Join(err, os.Chtimes(path, when, when))
			})
			if err != nil {
				t.Fatal(err)
			}
			before := len(p.requests())
			s.start()
			s.all()
			if n := len(p.requests()) - before; n != 0 {
				t.Errorf("files of %s were fetched again: %d requests", name, n)
			}
			p.heal()
			p.add(&fault{all: true, times: 3, spoil: status(503, "Retry-After", stamp)})
			_ = s.ask(places[1], some)
			s.recovered(p)
		})
	}
}

// TestCacheInMemory: without a cache directory isofs serves everything in both profiles, and
// fetches each block once.
func TestCacheInMemory(t *testing.T) {
	t.Parallel()
	for _, profile := range []string{"direct", "page-cache"} {
		t.Run(profile, func(t *testing.T) {
			t.Parallel()
			p, s := faulty(t, "--cache", "memory", "--profile", profile)
			s.all()
			p.add(&fault{all: true, spoil: status(http.StatusForbidden)})
			s.all()
			for at := int64(1 << 20); at < 30<<20; at += 3<<20 + 1234 {
				if err := s.pread(at, some); err != nil {
					t.Error(err)
				}
			}
			if _, err := os.Stat(s.path("state/cache")); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("there is a directory of the cache: %v", err)
			}
			s.endsClean()
		})
	}
}

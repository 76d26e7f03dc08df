package vfs

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"testing"

	"github.com/hanwen/go-fuse/v2/fs"

	"aesthetic.computer/isofs/integration/testkit"
)

// resident sums up what the kernel keeps of the files.
func resident(t testing.TB, paths ...string) int64 {
	t.Helper()
	sum := int64(0)
	for _, line := range strings.Fields(run(t, "fincore", append([]string{"--bytes", "--noheadings", "--output", "RES"}, paths...)...)) {
		n, err := strconv.ParseInt(line, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		sum += n
	}
	return sum
}

// unmounted unmounts, so that no read-ahead of the kernel is under way when the
// files below are removed.
func (m testMount) unmounted(t testing.TB) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := m.server.Unmount(ctx); err != nil {
		t.Error(err)
	}
}

// TestPageLimit: however many images are read, the kernel keeps no more than the
// limit of all together, of the last read ones. All reads are right.
func TestPageLimit(t *testing.T) {
	const (
		each  = 4 << 20
		limit = 10 << 20
		slack = 1 << 20 // what was read ahead while pages were dropped
	)
	var images []*fakeImage
	var paths []string
	for i := range uint64(6) {
		images = append(images, newImage(t, fmt.Sprintf("p%d-os.iso", i), i+1, each, 100_000))
	}
	m := mountTree(t, newTree(images...), withProfile(PageCache), func(c *Config) { c.PageLimit = limit })
	for _, img := range images {
		path := m.path(img.name)
		paths = append(paths, path)
		if out, err := child(t, "mmap", path, img.seed, img.size).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		testkit.Eventually(t, "the kernel keeps no more than the limit", func() bool { return resident(t, paths...) <= limit+slack })
	}
	if got := resident(t, paths[5]); got != each {
		t.Errorf("the kernel keeps %d bytes of the image that was read last, of %d", got, each)
	}
	if got := resident(t, paths[0], paths[1], paths[2]); got != 0 {
		t.Errorf("the kernel keeps %d bytes of the images that were read first", got)
	}
	m.unmounted(t)
}

// TestPageLimitBelowOneImage: a reader whose pages are dropped under it reads
// on.
func TestPageLimitBelowOneImage(t *testing.T) {
	const size, limit = 12 << 20, 2 << 20
	img := newImage(t, "notepat-os.iso", 3, size, 100_000)
	m := mountTree(t, newTree(img), withProfile(PageCache), func(c *Config) { c.PageLimit = limit })
	for range 3 {
		if out, err := child(t, "sendfile", m.path(img.name), img.seed, img.size).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	testkit.Eventually(t, "the kernel keeps less than the image", func() bool { return resident(t, m.path(img.name)) < size/2 })
	m.unmounted(t)
}

func TestPagesAccount(t *testing.T) {
	a, b := new(fs.Inode), new(fs.Inode)
	p := newPages(100)
	p.asked(a, 60, 80)
	p.asked(a, 60, 80) // read again after the kernel dropped pages by itself
	if p.sum != 80 || p.victim() != nil || len(p.full) != 0 {
		t.Fatalf("sum %d, %d signals", p.sum, len(p.full))
	}
	p.asked(b, 30, 80)
	if len(p.full) != 1 || p.victim() != a || p.sum != 30 || p.victim() != nil {
		t.Fatalf("the inode that was asked for first must go; sum %d", p.sum)
	}
	p.forget(a)
	p.forget(b)
	if p.sum != 0 || p.recent.Len() != 0 {
		t.Fatalf("sum %d, %d inodes after all were forgotten", p.sum, p.recent.Len())
	}
}

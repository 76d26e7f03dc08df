package stick

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"aesthetic.computer/isofs/base"
	"aesthetic.computer/isofs/extent"
	"aesthetic.computer/isofs/image"
	"aesthetic.computer/isofs/piece"

	"github.com/diskfs/go-diskfs/backend"
	"github.com/diskfs/go-diskfs/partition/gpt"
)

const (
	mib = 1 << 20
	// The slot begins and ends within blocks of the base, and a tail of more
	// than the backup table lies behind it.
	slotStart = 5*mib + 4096
	slotSize  = 3 * mib
	total     = slotStart + slotSize + 60<<10
)

// TestMain is also the program that TestKilledWhileWriting kills.
func TestMain(m *testing.M) {
	if os.Getenv(killAfter) != "" {
		writeAndHang()
	}
	os.Exit(m.Run())
}

// A memory is an image in memory, and a Target without faults.
type memory struct{ data []byte }

func (m *memory) Size() int64 { return int64(len(m.data)) }
func (m *memory) Sync() error { return nil }
func (m *memory) ReadAt(p []byte, off int64) (int, error) {
	return bytes.NewReader(m.data).ReadAt(p, off)
}
func (m *memory) WriteAt(p []byte, off int64) (int, error) { return copy(m.data[off:], p), nil }

// storage adapts a memory to go-diskfs.
type storage struct{ *memory }

var _ backend.Storage = storage{}

func (s storage) Seek(off int64, _ int) (int64, error)    { return s.Size() + off, nil }
func (s storage) Stat() (fs.FileInfo, error)              { return nil, errors.ErrUnsupported }
func (s storage) Read([]byte) (int, error)                { return 0, errors.ErrUnsupported }
func (s storage) Close() error                            { return nil }
func (s storage) Sys() (*os.File, error)                  { return nil, backend.ErrNotSuitable }
func (s storage) Writable() (backend.WritableFile, error) { return s, nil }
func (s storage) Path() string                            { return "" }

// newBase makes a base with noise that depends on the seed: an ESP, FEDAC-LIVE
// and the slot, at the same places and with the same names.
func newBase(t testing.TB, seed byte) image.Base {
	t.Helper()
	m := &memory{make([]byte, total)}
	_, _ = rand.NewChaCha8([32]byte{seed}).Read(m.data[mib : slotStart-mib/2])
	table := &gpt.Table{GUID: "15050F00-0000-4000-8000-000000000000", ProtectiveMBR: true}
	for i, p := range []struct {
		name     string
		from, to int64
	}{{"EFI", mib, 2 * mib}, {"FEDAC-LIVE", 2 * mib, slotStart}, {base.SlotLabel, slotStart, slotStart + slotSize}} {
		table.Partitions = append(table.Partitions, &gpt.Partition{
			Index: i + 1, Start: uint64(p.from / sector), End: uint64(p.to/sector - 1), Type: gpt.LinuxFilesystem, Name: p.name,
			GUID: "15050F00-0000-4000-8000-00000000000" + string(rune('1'+i)),
		})
	}
	if err := table.Write(storage{m}, total); err != nil {
		t.Fatal(err)
	}
	// An empty slot, as package base wants it.
	copy(m.data[slotStart+1024+0x38:], []byte{0x53, 0xef})
	copy(m.data[slotStart+1024+0x78:], base.SlotLabel)
	made, err := base.Index(t.Context(), m, total, base.IndexOptions{
		Version: fmt.Sprintf("2026-11-01.%d", seed), Flavor: "tiny", Arch: "amd64", CreatedAt: "2026-11-01T00:00:00Z", BlockSize: 16 << 10,
	})
	if err != nil {
		t.Fatal(err)
	}
	return image.Base{Manifest: made, Bytes: extent.Bytes(m.data)}
}

// A published is an image on the fake server.
type published struct {
	id    string
	name  piece.Name
	image []byte
	m     *base.Manifest
}

func (p *published) slot() []byte { return p.image[slotStart : slotStart+slotSize] }

// publish makes an image of a piece.
func publish(t testing.TB, b image.Base, title, html string) *published {
	t.Helper()
	name, err := piece.ParseName(title)
	if err != nil {
		t.Fatal(err)
	}
	in := image.Inputs{Piece: name.String(), Title: title, Bundle: sha256.Sum256([]byte(html)), BundleSize: int64(len(html)), Time: 1_790_000_000}
	img, err := image.Compose(b, in, extent.Bytes([]byte(html)))
	if err != nil {
		t.Fatal(err)
	}
	data, err := io.ReadAll(io.NewSectionReader(img.Map, 0, img.Map.Size()))
	if err != nil {
		t.Fatal(err)
	}
	return &published{image.ID(b.Manifest, in), name, data, b.Manifest}
}

// onStick returns a stick that the image was written to, with room behind it.
func (p *published) onStick() *memory {
	return &memory{append(bytes.Clone(p.image), make([]byte, 2*mib)...)}
}

// A fakeServer has images, and answers as docs/http.md describes.
type fakeServer struct {
	*httptest.Server
	mu      sync.Mutex
	images  map[string]*published // by id
	current map[string]*published // by file name
	change  map[string][]byte     // by the last part of a path: what is there instead
	cut     int                   // that many answers more break off in the middle
	asked   []string
}

func newServer(t testing.TB, images ...*published) *fakeServer {
	s := &fakeServer{images: map[string]*published{}, current: map[string]*published{}, change: map[string][]byte{}}
	for _, p := range images {
		s.images[p.id] = p
		s.current[p.name.FileName()], s.current[p.name.SlotFileName()] = p, p
	}
	s.Server = httptest.NewServer(s)
	t.Cleanup(s.Close)
	return s
}

func (s *fakeServer) set(change func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change()
}

func (s *fakeServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked = append(s.asked, r.Method+" "+r.URL.Path+" "+r.Header.Get("Range"))
	path := r.URL.Path
	if path == "/os" {
		name, err := piece.ParseName(r.URL.Query().Get("piece"))
		p := s.current[name.FileName()]
		if err != nil || p == nil {
			http.NotFound(w, r)
			return
		}
		http.Redirect(w, r, "/s/"+p.id+"/"+name.FileName(), http.StatusFound)
		return
	}
	file := path[strings.LastIndexByte(path, '/')+1:]
	p := s.current[file]
	if parts := strings.Split(path, "/"); len(parts) == 4 && parts[1] == "s" {
		p = s.images[parts[2]]
	}
	content, ok := s.content(p, file)
	if !ok {
		http.NotFound(w, r)
		return
	}
	w.Header().Set("X-Isofs-Snapshot", p.id)
	w.Header().Set("Link", fmt.Sprintf(`</s/%s/%s>; rel="canonical", </s/%[1]s/%[2]s.sha256>; rel="describedby"`, p.id, file))
	if s.cut > 0 && r.Method == http.MethodGet && len(content) > mib {
		s.cut--
		w = &cutting{w, 700_000}
	}
	http.ServeContent(w, r, file, time.Unix(1, 0), bytes.NewReader(content))
}

func (s *fakeServer) content(p *published, file string) ([]byte, bool) {
	if p == nil {
		return nil, false
	}
	if other, ok := s.change[file]; ok {
		return other, other != nil
	}
	iso, img := p.name.FileName(), p.name.SlotFileName()
	switch file {
	case iso:
		return p.image, true
	case img:
		return p.slot(), true
	case iso + ".sha256":
		return fmt.Appendf(nil, "%x  %s\n", sha256.Sum256(p.image), iso), true
	case img + ".sha256":
		return fmt.Appendf(nil, "%x  %s\n", sha256.Sum256(p.slot()), img), true
	case iso + ".manifest":
		data, err := p.m.Marshal()
		return data, err == nil
	case iso + ".asc":
		return fmt.Appendf(nil, "signed %x", sha256.Sum256(p.image)), true
	case img + ".asc":
		return fmt.Appendf(nil, "signed %x", sha256.Sum256(p.slot())), true
	}
	return nil, false
}

// A cutting ends the connection after some bytes.
type cutting struct {
	http.ResponseWriter
	left int
}

func (c *cutting) Write(p []byte) (int, error) {
	if len(p) >= c.left {
		_, _ = c.ResponseWriter.Write(p[:c.left])
		panic(http.ErrAbortHandler)
	}
	c.left -= len(p)
	return c.ResponseWriter.Write(p)
}

// client returns one that waits for nothing.
func (s *fakeServer) client() *Client {
	return &Client{HTTP: s.Client(), Pause: func(context.Context, int) error { return nil }}
}

func (s *fakeServer) resolve(t testing.TB, path string) *Download {
	t.Helper()
	snap, err := s.client().Resolve(t.Context(), s.URL+path)
	if err != nil {
		t.Fatal(err)
	}
	return snap
}

// lacks skips a test that lacks a program or right, by name; in CI it fails.
func lacks(t *testing.T, what string) {
	t.Helper()
	if os.Getenv("CI") != "" {
		t.Fatal("needs " + what)
	}
	t.Skip("needs " + what)
}

// tool runs a program of the distribution and returns its output.
func tool(t *testing.T, name string, args ...string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		path = filepath.Join("/usr/sbin", name)
		if _, err := os.Stat(path); err != nil {
			lacks(t, name)
		}
	}
	out, err := exec.Command(path, args...).Output()
	if err != nil {
		t.Fatalf("%s %q: %v\n%s", name, args, err, out)
	}
	return string(out)
}

// judged lets e2fsck and debugfs look at the slot of a stick, and returns the
// bundle in it.
func judged(t *testing.T, data []byte) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "slot")
	if err := os.WriteFile(file, data[slotStart:slotStart+slotSize], 0o600); err != nil {
		t.Fatal(err)
	}
	if out := tool(t, "e2fsck", "-fn", file); !strings.Contains(out, "FEDAC-PIECE: ") || strings.Contains(strings.ToLower(out), "fix") {
		t.Errorf("e2fsck says:\n%s", out)
	}
	return tool(t, "debugfs", "-R", "cat piece.html", file)
}

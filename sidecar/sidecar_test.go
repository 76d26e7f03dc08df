package sidecar_test

import (
	"bytes"
	"crypto/sha1"
	"crypto/sha256"
	"encoding"
	"encoding/binary"
	"encoding/hex"
	"encoding/xml"
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"aesthetic.computer/isofs/base"
	"aesthetic.computer/isofs/extent"
	"aesthetic.computer/isofs/fault"
	"aesthetic.computer/isofs/image"
	"aesthetic.computer/isofs/sidecar"
)

// midstatesOf computes the midstates of head with the standard library.
func midstatesOf(t testing.TB, head []byte) base.Midstates {
	t.Helper()
	h256, h1 := sha256.New(), sha1.New()
	h256.Write(head)
	h1.Write(head)
	state256, err := h256.(encoding.BinaryMarshaler).MarshalBinary()
	if err != nil {
		t.Fatal(err)
	}
	state1, err := h1.(encoding.BinaryMarshaler).MarshalBinary()
	if err != nil {
		t.Fatal(err)
	}
	return base.Midstates{SHA256: hex.EncodeToString(state256[4:36]), SHA1: hex.EncodeToString(state1[4:24])}
}

func TestZsyncIsThatOfZsyncmake(t *testing.T) {
	s := newSample(t)
	got, err := sidecar.Zsync(s.img, s.about)
	if err != nil {
		t.Fatal(err)
	}
	out := filepath.Join(t.TempDir(), "made.zsync")
	mustRun(t, "zsyncmake", "zsync", "-u", s.about.Path, "-f", s.about.FileName, "-o", out, s.path)
	want, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		g, _, _ := bytes.Cut(got, []byte("\n\n"))
		w, _, _ := bytes.Cut(want, []byte("\n\n"))
		t.Errorf("got %d bytes\n%s\nzsyncmake %d\n%s", len(got), g, len(want), w)
	}
}

// bmaptool accepts the bmap, verifies by it, and writes all except the empty
// ranges.
func TestBmapIsReadByBmaptool(t *testing.T) {
	s := newSample(t)
	content, err := sidecar.Bmap(s.img)
	bmap := s.write(t, "bmap", content, err)
	target := filepath.Join(t.TempDir(), "stick")
	mustRun(t, "bmaptool", "bmap-tools", "copy", "--bmap", bmap, s.path, target)
	got, err := os.ReadFile(target)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, s.bytes) {
		t.Error("what bmaptool wrote is not the image")
	}
	// A stick has other bytes before, and keeps them where the map has no
	// range. bmaptool first empties a file, so the test itself writes the
	// ranges.
	stick := bytes.Repeat([]byte{0xA5}, len(s.bytes))
	ranges := regexp.MustCompile(`> (\d+)-(\d+) </Range>`).FindAllSubmatch(content, -1)
	for _, r := range ranges {
		first, _ := strconv.Atoi(string(r[1]))
		last, _ := strconv.Atoi(string(r[2]))
		copy(stick[first*4096:min((last+1)*4096, len(stick))], s.bytes[first*4096:])
	}
	// The superblock has the number of free blocks. All are at the end.
	freeBlocks := int(binary.LittleEndian.Uint32(s.bytes[5*mib+1024+12:]))
	for off, is := range stick {
		free := off >= 3*mib && off < 4*mib || off >= 9*mib-4096*freeBlocks && off < 9*mib
		if free && is != 0xA5 || !free && is != s.bytes[off] {
			t.Fatalf("byte %d is %#x, is %#x in the image, and free is %v", off, is, s.bytes[off], free)
		}
	}
	if len(ranges) < 5 || len(ranges) != count(content, "<Range ") {
		t.Errorf("%d ranges with a first and last block", len(ranges))
	}
}

func TestBmaptoolRefusesWhatWasTamperedWith(t *testing.T) {
	s := newSample(t)
	content, err := sidecar.Bmap(s.img)
	bmap := s.write(t, "bmap", content, err)
	target := filepath.Join(t.TempDir(), "stick")
	for name, off := range map[string]int64{"base": 100, "zeroes of a file": 2*mib + 7, "slot": 5*mib + 200_000, "tail": int64(len(s.bytes)) - 1} {
		out, err := run(t, "bmaptool", "bmap-tools", "copy", "--bmap", bmap, damaged(t, s.path, off), target)
		if err == nil || !strings.Contains(out, "checksum mismatch") {
			t.Errorf("%s: %v\n%s", name, err, out)
		}
	}
	out, err := run(t, "bmaptool", "bmap-tools", "copy", "--bmap", damaged(t, bmap, int64(bytes.Index(content, []byte("chksum="))+9)), s.path, target)
	if err == nil || !strings.Contains(out, "checksum mismatch for bmap file") {
		t.Errorf("the bmap: %v\n%s", err, out)
	}
}

// The pieces are those of the file, with any contents, and the text is XML.
func TestMetalink(t *testing.T) {
	s := newSample(t)
	s.about.Servers = []string{"https://images.example", "http://other.example/a&b"}
	content, err := sidecar.Metalink(s.img, s.about)
	if err != nil {
		t.Fatal(err)
	}
	var got struct {
		XMLName xml.Name `xml:"urn:ietf:params:xml:ns:metalink metalink"`
		File    struct {
			Name   string `xml:"name,attr"`
			Size   int64  `xml:"size"`
			Hash   string `xml:"hash"`
			Pieces struct {
				Length int64    `xml:"length,attr"`
				Type   string   `xml:"type,attr"`
				Hashes []string `xml:"hash"`
			} `xml:"pieces"`
			URLs []string `xml:"url"`
		} `xml:"file"`
	}
	if err := xml.Unmarshal(content, &got); err != nil {
		t.Fatal(err)
	}
	f := got.File
	if f.Name != s.about.FileName || f.Size != int64(len(s.bytes)) || f.Hash != s.about.SHA256.String() || f.Pieces.Length != 256<<10 || f.Pieces.Type != "sha-256" {
		t.Errorf("got %+v", f)
	}
	if len(f.URLs) != 2 || f.URLs[0] != "https://images.example"+s.about.Path || f.URLs[1] != "http://other.example/a&b"+s.about.Path {
		t.Errorf("URLs are %q", f.URLs)
	}
	for i := 0; i*256<<10 < len(s.bytes); i++ {
		sum := sha256.Sum256(s.bytes[i*256<<10 : min((i+1)*256<<10, len(s.bytes))])
		if i >= len(f.Pieces.Hashes) || f.Pieces.Hashes[i] != hex.EncodeToString(sum[:]) {
			t.Fatalf("piece %d of %d differs", i, len(f.Pieces.Hashes))
		}
	}
}

// An error says what a base lacks for a sidecar.
func TestSidecarsThatCannotBe(t *testing.T) {
	m := manifestOf(t, noise(1, mib), mib, mib/2)
	m.Zsync = nil
	img := imageOf(t, m, noise(2, 100))
	about := aboutOf(base.Hash{1})
	if _, err := sidecar.Zsync(img, about); fault.Kind(err) != fault.NotFound || !strings.Contains(err.Error(), "isofs base index") {
		t.Errorf("no sums: %v", err)
	}
	about.Servers = nil
	if _, err := sidecar.Metalink(img, about); fault.Kind(err) != fault.NotFound || !strings.Contains(err.Error(), "--public-url") {
		t.Errorf("no address: %v", err)
	}
	about.Servers = []string{"http://h"}
	uneven := imageOf(t, manifestOf(t, noise(1, mib+4096), mib, mib), noise(2, 100))
	if sidecar.HasBlocks(uneven.Manifest) || !sidecar.HasBlocks(m) {
		t.Error("HasBlocks is wrong")
	}
	if _, err := sidecar.Bmap(uneven); fault.Kind(err) != fault.NotFound {
		t.Errorf("bmap of an uneven slot: %v", err)
	}
	if _, err := sidecar.Metalink(uneven, about); fault.Kind(err) != fault.NotFound {
		t.Errorf("Metalink of an uneven slot: %v", err)
	}
}

// failing is a bundle on a disk that fails.
type failing struct{ size int64 }

func (f failing) Size() int64                       { return f.size }
func (f failing) ReadAt([]byte, int64) (int, error) { return 0, errors.New("input/output error") }

func TestAFailingBundleFailsTheSidecars(t *testing.T) {
	m := manifestOf(t, noise(1, mib), mib, mib/2)
	img, err := image.Compose(image.Base{Manifest: m, Bytes: untouchable{t, m.TotalSize}},
		image.Inputs{Piece: "notepat", Bundle: base.Hash{1}, BundleSize: 5000, Time: 1}, extent.Source(failing{5000}))
	if err != nil {
		t.Fatal(err)
	}
	_, zsync := sidecar.Zsync(img, aboutOf(base.Hash{1}))
	_, bmap := sidecar.Bmap(img)
	_, metalink := sidecar.Metalink(img, aboutOf(base.Hash{1}))
	for _, err := range []error{zsync, bmap, metalink} {
		if fault.Kind(err) != fault.Unavailable {
			t.Errorf("got %v", err)
		}
	}
}

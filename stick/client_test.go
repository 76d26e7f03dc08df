package stick

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"aesthetic.computer/isofs/fault"
)

func TestDownloads(t *testing.T) {
	b := newBase(t, 1)
	other := newBase(t, 2)
	wanted := publish(t, b, "tone", "<p>new")
	damaged := bytes.Clone(wanted.slot())
	damaged[7]++
	manifest, err := other.Manifest.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	const sum = "tone-piece.img.sha256"
	for _, c := range []struct {
		what   string
		change func(s *fakeServer)
		kind   error // nil: the download succeeds
	}{
		{"whole", func(*fakeServer) {}, nil},
		{"broken off, and continued", func(s *fakeServer) { s.cut = 4 }, nil},
		{"damaged", func(s *fakeServer) { s.change["tone-piece.img"] = damaged }, fault.Corrupt},
		{"damaged, with a digest to match", func(s *fakeServer) {
			s.change["tone-piece.img"] = damaged
			s.change[sum] = fmt.Appendf(nil, "%x  tone-piece.img\n", sha256.Sum256(damaged))
		}, fault.Corrupt},
		{"short", func(s *fakeServer) { s.change["tone-piece.img"] = damaged[:mib] }, fault.Corrupt},
		{"long", func(s *fakeServer) { s.change["tone-piece.img"] = append(damaged, 0) }, fault.Corrupt},
		{"of another base", func(s *fakeServer) { s.change["tone-os.iso.manifest"] = manifest }, fault.Corrupt},
		{"without a manifest", func(s *fakeServer) { s.change["tone-os.iso.manifest"] = nil }, fault.NotFound},
		{"with a manifest that is none", func(s *fakeServer) { s.change["tone-os.iso.manifest"] = []byte("{}") }, fault.Invalid},
		{"with a digest that is none", func(s *fakeServer) { s.change[sum] = []byte("<html>") }, fault.Corrupt},
		{"gone meanwhile", func(s *fakeServer) { s.change["tone-piece.img"] = nil }, fault.NotFound},
	} {
		s := newServer(t, wanted)
		s.set(func() { c.change(s) })
		snap, err := s.client().Resolve(t.Context(), s.URL+"/tone-os.iso")
		var slot []byte
		if err == nil {
			slot, err = snap.Slot(t.Context(), nil)
		}
		if fault.Kind(err) != c.kind || err == nil && !bytes.Equal(slot, wanted.slot()) {
			t.Errorf("%s: %d bytes, %v, want %v", c.what, len(slot), err, c.kind)
		}
	}
}

func TestAddresses(t *testing.T) {
	s := newServer(t, publish(t, newBase(t, 1), "tone", "<p>new"))
	for _, address := range []string{"", "tone", "/dev/sdb", "ftp://x/tone-os.iso", "https:///tone-os.iso", s.URL + "/", s.URL + "/none", "http://%zz/"} {
		if _, err := s.client().Resolve(t.Context(), address); !errors.Is(err, fault.Invalid) {
			t.Errorf("%q: %v", address, err)
		}
	}
	// The address is fine, but the piece does not exist.
	for _, address := range []string{"/none-os.iso", "/os:none", "/os?piece=none", "/none-piece.img"} {
		_, err := s.client().Resolve(t.Context(), s.URL+address)
		if !errors.Is(err, fault.NotFound) || !strings.Contains(err.Error(), `no piece named "none"`) {
			t.Errorf("%s: %v", address, err)
		}
	}
	// Nor is a part of an address left out.
	for _, address := range []string{"/foo", "/s", "/tone-os.iso/foo", "/os"} {
		if _, err := s.client().ByID(t.Context(), s.URL+address, strings.Repeat("0", 32), "tone"); !errors.Is(err, fault.Invalid) || !strings.Contains(err.Error(), address) {
			t.Errorf("by id, %s: %v", address, err)
		}
	}
	for _, address := range []string{"", "/", "/tone-os.iso", "/os:tone", "/s/" + strings.Repeat("1", 32) + "/tone-os.iso"} {
		if _, err := s.client().ByID(t.Context(), s.URL+address, strings.Repeat("0", 32), "tone"); !errors.Is(err, fault.NotFound) {
			t.Errorf("by id, %s: %v", address, err)
		}
	}
	s.Close()
	if _, err := s.client().Resolve(t.Context(), s.URL+"/tone-os.iso"); !errors.Is(err, fault.Unavailable) {
		t.Errorf("a server that is not there: %v", err)
	}
}

// knows takes "signed <sha256>" for a signature.
type knows struct{}

func (knows) Verify(signed io.Reader, signature []byte) (string, error) {
	h := sha256.New()
	if _, err := io.Copy(h, signed); err != nil {
		return "", err
	}
	if want := fmt.Sprintf("signed %x", h.Sum(nil)); want != string(signature) {
		return "", fmt.Errorf("a bad signature: %w", fault.Corrupt)
	}
	return "somebody", nil
}

func TestVerify(t *testing.T) {
	b := newBase(t, 1)
	image, other := publish(t, b, "tone", "<p>new"), publish(t, b, "tone", "<p>old")
	s := newServer(t, image, other)
	for _, c := range []struct {
		what   string
		change func(m *memory)
		says   string // "" if it is the same
	}{
		{"as it was flashed", func(*memory) {}, ""},
		{"with something behind it", func(m *memory) { m.data[total+5] = 1 }, ""},
		{"without room behind it", func(m *memory) { m.data = m.data[:total] }, ""},
		{"a bit in FEDAC-LIVE", func(m *memory) { m.data[3*mib] ^= 1 }, "block 192 (bytes 3145728 to 3162111, partition 2 (FEDAC-LIVE))"},
		{"all of the ESP", func(m *memory) { clear(m.data[mib : 2*mib]) }, "and 59 blocks more"},
		{"a bit of the piece", func(m *memory) { m.data[slotStart+123_456] ^= 1 }, "(FEDAC-PIECE) differs from byte 123456 of it on"},
		{"a bit next to the slot", func(m *memory) { m.data[slotStart-1] ^= 1 }, "in a block that the slot begins or ends in"},
		{"too short", func(m *memory) { m.data = m.data[:total-512] }, "it has"},
	} {
		for _, verifier := range []Verifier{nil, knows{}} {
			stick := image.onStick()
			c.change(stick)
			client := s.client()
			client.Verifier = verifier
			snap, err := client.ByID(t.Context(), s.URL, image.id, "tone")
			if err != nil {
				t.Fatal(err)
			}
			v, err := Verify(t.Context(), stick, snap, nil)
			if err != nil {
				t.Errorf("%s: %v", c.what, err)
				continue
			}
			err = v.Err()
			if v.Same != (c.says == "") || (err == nil) != v.Same || err != nil && (!errors.Is(err, fault.Corrupt) || !strings.Contains(err.Error(), c.says)) {
				t.Errorf("%s: %+v: %v", c.what, v, err)
			}
			if v.Same && (v.SignedBy == "somebody") != (verifier != nil) {
				t.Errorf("%s: signed by %q", c.what, v.SignedBy)
			}
		}
	}
	if has, err := WhatItCarries(image.onStick()); err != nil || has.Snapshot != image.id || has.Piece != "tone" {
		t.Errorf("it carries %+v (%v)", has, err)
	}
	if _, err := WhatItCarries(&memory{make([]byte, mib)}); !errors.Is(err, fault.Invalid) {
		t.Errorf("zeroes carry: %v", err)
	}
	if _, err := s.client().ByID(t.Context(), s.URL+"/tone-os.iso", strings.Repeat("0", 32), "tone"); !errors.Is(err, fault.NotFound) {
		t.Errorf("a snapshot that the server has no more: %v", err)
	}
	if _, err := s.client().ByID(t.Context(), s.URL, "../../x", "tone"); !errors.Is(err, fault.Corrupt) {
		t.Errorf("an id from a hostile stick: %v", err)
	}
}

// What no known key signed is neither written nor accepted.
func TestSignatures(t *testing.T) {
	image := publish(t, newBase(t, 1), "tone", "<p>new")
	s := newServer(t, image)
	client := s.client()
	client.Verifier = knows{}
	for text, kind := range map[string]error{"signed 00": fault.Corrupt, "": fault.NotFound} {
		s.set(func() {
			s.change["tone-piece.img.asc"], s.change["tone-os.iso.asc"] = []byte(text), []byte(text)
			if text == "" {
				s.change["tone-piece.img.asc"], s.change["tone-os.iso.asc"] = nil, nil
			}
		})
		snap, err := client.Resolve(t.Context(), s.URL+"/tone-os.iso")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := snap.Slot(t.Context(), nil); !errors.Is(err, kind) {
			t.Errorf("signature %q: the piece: %v", text, err)
		}
		if _, err := Verify(t.Context(), image.onStick(), snap, nil); !errors.Is(err, kind) {
			t.Errorf("signature %q: the stick: %v", text, err)
		}
	}
}

// stalling is a transport whose first answer never ends.
type stalling struct {
	http.RoundTripper
	stalled bool
}

func (s *stalling) RoundTrip(r *http.Request) (*http.Response, error) {
	content := []byte("0123456789")
	resp := &http.Response{StatusCode: http.StatusPartialContent, Header: http.Header{}, Request: r, ContentLength: 10}
	var from int
	if _, err := fmt.Sscanf(r.Header.Get("Range"), "bytes=%d-9", &from); err != nil {
		return nil, err
	}
	resp.Header.Set("Content-Range", fmt.Sprintf("bytes %d-9/10", from))
	resp.Body = io.NopCloser(bytes.NewReader(content[from:]))
	if !s.stalled {
		s.stalled = true
		resp.Body = io.NopCloser(io.MultiReader(bytes.NewReader(content[:4]), waiting{r.Context()}))
	}
	return resp, nil
}

type waiting struct{ ctx context.Context }

func (w waiting) Read([]byte) (int, error) {
	<-w.ctx.Done()
	return 0, w.ctx.Err()
}

func TestAStalledDownloadIsGoneOnWith(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &Download{client: &Client{HTTP: &http.Client{Transport: &stalling{}}}, folder: &url.URL{Scheme: "http", Host: "x"}}
		var got []byte
		err := s.fetch(t.Context(), "file", span{0, 10, 10}, func(p []byte) error {
			time.Sleep(time.Hour) // a slow stick does not stall the download
			got = append(got, p...)
			return nil
		}, nil)
		if err != nil || string(got) != "0123456789" {
			t.Errorf("%q (%v)", got, err)
		}
	})
}

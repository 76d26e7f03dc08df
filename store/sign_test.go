package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
	"testing"
	"time"

	"aesthetic.computer/isofs/base"
	"aesthetic.computer/isofs/fault"
)

// A stamp stands in for a key.
type stamp string

func (s stamp) SignData(text []byte, at time.Time) ([]byte, error) {
	return fmt.Appendf(nil, "%s %s %d", s, tagOf(text), at.Unix()), nil
}

func (s stamp) VerifyOwn(text, signature []byte) error {
	if !bytes.HasPrefix(signature, []byte(string(s)+" "+tagOf(text)+" ")) {
		return errors.New("not mine")
	}
	return nil
}

// wantSigned wants sign's signature on the channel and all that it names.
func wantSigned(t *testing.T, s Store, sign Signer) {
	t.Helper()
	c, data, _, err := tiny(s).readChannel(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	check := func(name string, text []byte) {
		t.Helper()
		sig, _, err := s.Read(t.Context(), name, base.MaxSignatureSize)
		if err == nil {
			err = sign.VerifyOwn(text, sig)
		}
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	check(base.ChannelSignaturePath(c, data), data)
	for _, e := range append([]base.Entry{c.Current}, c.Previous...) {
		_, text, err := readManifest(t.Context(), s, e.Path)
		if err != nil {
			t.Fatal(err)
		}
		check(path.Join(e.Path, base.ManifestSignatureName), text)
	}
}

func signed(version string, seed byte, sign Signer) Publication {
	p := newBase(version, seed)
	p.Sign = sign
	return p
}

func TestSignedPlace(t *testing.T) {
	places(t, func(t *testing.T, s Store) {
		us, now := stamp("us"), time.Unix(1793491200, 0)
		published(t, s, newBase(day+"01", 1))
		// With a key, what is there already is signed, if it is what we have.
		if r := published(t, s, signed(day+"01", 1, us)); !r.Already || r.Channel.Revision != 1 {
			t.Errorf("%+v", r)
		}
		wantSigned(t, s, us)
		for _, v := range []string{"02", "03"} {
			published(t, s, signed(day+v, 1, us))
			wantSigned(t, s, us)
		}
		// A publisher cannot take the signature off by mistake.
		_, err := Publish(t.Context(), s, newBase(day+"04", 1))
		_, err2 := tinyAt(s, nil, now).Rollback(t.Context(), "")
		_, err3 := tinyAt(s, nil, now).Prune(t.Context(), 1, false)
		for _, err := range []error{err, err2, err3} {
			if !errors.Is(err, fault.Invalid) || !strings.Contains(err.Error(), "give --sign-key") {
				t.Errorf("without a key: %v", err)
			}
		}
		if _, err := tinyAt(s, us, now).Rollback(t.Context(), ""); err != nil {
			t.Fatal(err)
		}
		wantSigned(t, s, us)
		// Another key: existing files are not its own, until the operator says
		// so.
		them := stamp("them")
		if _, err := tinyAt(s, them, now).Rollback(t.Context(), day+"03"); !errors.Is(err, fault.Invalid) || !strings.Contains(err.Error(), "isofs base sign") {
			t.Errorf("a manifest of another's: %v", err)
		}
		if names, err := tinyAt(s, them, now).SignAll(t.Context()); err != nil || len(names) != 3 || !strings.HasPrefix(names[2], "channels/") {
			t.Errorf("%q, %v", names, err)
		}
		wantSigned(t, s, them)
		if removed, err := tinyAt(s, them, now).Prune(t.Context(), 1, false); err != nil || !slices.Equal(removed, []string{day + "01"}) {
			t.Errorf("%q, %v", removed, err)
		}
		wantSigned(t, s, them)
		if left, err := s.List(t.Context(), base.VersionPath("tiny", "amd64", day+"01")); err != nil || len(left) != 0 {
			t.Errorf("%v is left, %v", left, err)
		}
	})
}

// A manifest of the same base that says other things is not signed.
func TestForeignManifestIsNotSigned(t *testing.T) {
	places(t, func(t *testing.T, s Store) {
		other := newBase(day+"01", 1)
		m := *other.Manifest
		m.CreatedAt = "2026-11-01T00:00:01Z"
		other.Manifest = &m
		published(t, s, other)
		_, err := Publish(t.Context(), s, signed(day+"01", 1, stamp("us")))
		if !errors.Is(err, fault.Invalid) || !strings.Contains(err.Error(), "is not signed by this key") {
			t.Errorf("%v", err)
		}
	})
}

// A killStore ends its publisher before its nth write.
type killStore struct {
	Store
	left int
}

func (k *killStore) Put(ctx context.Context, name string, data []byte, tag string) error {
	if k.left--; k.left < 0 {
		return errKilled
	}
	return k.Store.Put(ctx, name, data, tag)
}

// Wherever a publisher is killed, the channel and what it names are signed. The
// next publisher finishes it.
func TestKilledWhileSigning(t *testing.T) {
	places(t, func(t *testing.T, s Store) {
		us := stamp("us")
		published(t, s, signed(day+"01", 1, us))
		for n := range 3 { // the manifest with its signature, and that of the channel
			if _, err := Publish(t.Context(), &killStore{s, n}, signed(day+"02", 2, us)); !errors.Is(err, errKilled) {
				t.Errorf("killed before writing %d: %v", n, err)
			}
			wantSigned(t, s, us)
		}
		published(t, s, signed(day+"02", 2, us))
		wantSigned(t, s, us)
		is(t, s, "02 01 of 02 01")
	})
}

// The signatures of the last revisions stay, for a client that has an older
// channel from a cache. Older ones are removed.
func TestOldSignaturesGo(t *testing.T) {
	places(t, func(t *testing.T, s Store) {
		us := stamp("us")
		published(t, s, signed(day+"01", 1, us))
		published(t, s, signed(day+"02", 1, us))
		for i := range keptSignatures + 3 {
			version := day + "01"
			if i%2 == 1 {
				version = day + "02"
			}
			if _, err := tinyAt(s, us, time.Unix(1793491200+int64(i), 0)).Rollback(t.Context(), version); err != nil {
				t.Fatal(err)
			}
		}
		wantSigned(t, s, us)
		files, err := s.List(t.Context(), base.ChannelDir())
		if err != nil {
			t.Fatal(err)
		}
		var revisions []int64
		for name := range files {
			if r, ok := base.SplitChannelSignature(name, "tiny", "amd64"); ok {
				revisions = append(revisions, r)
			}
		}
		slices.Sort(revisions)
		if len(revisions) != keptSignatures || revisions[0] != 6 || revisions[len(revisions)-1] != keptSignatures+5 {
			t.Errorf("signatures of %v", revisions)
		}
	})
}

func TestSplitChannelSignature(t *testing.T) {
	c := &base.Channel{Flavor: "tiny", Arch: "amd64", Revision: 7}
	if r, ok := base.SplitChannelSignature(base.ChannelSignaturePath(c, nil), "tiny", "amd64"); !ok || r != 7 {
		t.Errorf("%d, %v", r, ok)
	}
	for _, name := range []string{"channels/tiny-amd64.json", "channels/tiny-amd64.7.asc", "channels/tiny-arm64.7-00.asc", "channels/tiny-amd64.x-00.asc", "channels/tiny-amd64.-1-0.asc", "channels/tiny-amd64.7-00", ""} {
		if _, ok := base.SplitChannelSignature(name, "tiny", "amd64"); ok {
			t.Errorf("%q is one", name)
		}
	}
}

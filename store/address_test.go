package store

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"aesthetic.computer/isofs/base"
	"aesthetic.computer/isofs/fault"
	"aesthetic.computer/isofs/integration/s3test"
	"aesthetic.computer/isofs/origin"
)

// meansOnePlace publishes at an address, lists there, and reads what a server
// would read from it.
func meansOnePlace(t *testing.T, address string, how origin.Options) {
	t.Helper()
	s, err := At(address, how)
	if err != nil {
		t.Errorf("%s: %v", address, err)
		return
	}
	p := newBase(day+"01", 1)
	if _, err := Publish(t.Context(), s, p); err != nil {
		t.Errorf("%s: %v", address, err)
		return
	}
	all, err := Channels(t.Context(), s)
	if err != nil || len(all) != 1 || state(t, s) != "01 of 01" {
		t.Errorf("%s: listed are %v, %q (%v)", address, all, state(t, s), err)
	}
	// The channel, and the folder that it names.
	data, err := how.ReadAll(t.Context(), origin.Join(address, base.ChannelPath("tiny", "amd64")), base.MaxChannelSize)
	if err != nil {
		t.Errorf("%s: served: %v", address, err)
		return
	}
	c, err := base.ParseChannel(data)
	if err != nil {
		t.Fatal(err)
	}
	folder := origin.Join(address, c.Current.Path)
	if data, err = how.ReadAll(t.Context(), origin.Join(folder, base.ManifestName), base.MaxManifestSize); err != nil {
		t.Errorf("%s: served: %v", address, err)
	}
	if m, err := base.Parse(data); err == nil && m.SHA256 != p.Manifest.SHA256 {
		t.Errorf("%s: another base is served", address)
	}
}

// Publishers, lists and servers mean the same place by an address.
func TestAnAddressMeansOnePlace(t *testing.T) {
	t.Run("folder", func(t *testing.T) {
		t.Chdir(t.TempDir())
		here, err := os.Getwd()
		if err != nil {
			t.Fatal(err)
		}
		// link/.. is not this folder, but the one where the link leads to.
		if err := errors.Join(os.MkdirAll("far/away", 0o755), os.Symlink("far/away", "link")); err != nil {
			t.Fatal(err)
		}
		for _, address := range []string{"x//y", "./cur", "slash///", "link/../up", "link/../../over", "file://" + here + "/a%20b", "file://localhost" + here + "/c"} {
			meansOnePlace(t, address, origin.Options{})
		}
		for _, path := range []string{"far/up", "over", "a b"} {
			if _, err := os.Stat(filepath.Join(path, "channels")); err != nil {
				t.Error(err)
			}
		}
	})
	t.Run("bucket", func(t *testing.T) {
		server := s3test.Start(t)
		t.Setenv("AWS_ACCESS_KEY_ID", s3test.Access)
		t.Setenv("AWS_SECRET_ACCESS_KEY", s3test.Secret)
		how := origin.Options{S3: origin.S3{Endpoint: server.Endpoint()}}
		for _, key := range []string{"/x/y", "/slash//", "", "/a b+c", "/%41ü"} {
			meansOnePlace(t, "s3://"+s3test.Bucket+key, how)
		}
	})
	// Servers disagree about these, so nothing is published there.
	for _, key := range []string{"x//y", "./cur", "x/../y", "/x"} {
		if _, err := At("s3://bucket/"+key, origin.Options{}); !errors.Is(err, fault.Invalid) {
			t.Errorf("%s: %v", key, err)
		}
	}
	for _, address := range []string{"file://host/x", "file://", "ftp://h/x"} {
		_, err := At(address, origin.Options{})
		_, openErr := origin.Open(address, 1)
		if !errors.Is(err, fault.Invalid) || !errors.Is(openErr, fault.Invalid) {
			t.Errorf("%s: %v, and %v", address, err, openErr)
		}
	}
}

// A link to a folder or to a file is published as well.
func TestLinkedVersions(t *testing.T) {
	for _, link := range []string{"bases/tiny/amd64/" + day + "01", "bases/tiny", "channels", "bases/tiny/amd64/" + day + "01/base.iso", ""} {
		root := filepath.Join(t.TempDir(), "www")
		s, err := At(root, origin.Options{})
		if err != nil {
			t.Fatal(err)
		}
		published(t, s, newBase(day+"01", 1))
		at, elsewhere := filepath.Join(root, link), filepath.Join(t.TempDir(), "elsewhere")
		if err := errors.Join(os.Rename(at, elsewhere), os.Symlink(elsewhere, at)); err != nil {
			t.Fatal(err)
		}
		is(t, s, "01 of 01")
		if r, err := Publish(t.Context(), s, newBase(day+"01", 1)); err != nil || !r.Already {
			t.Errorf("%q is a link: %+v, %v", link, r, err)
		}
		published(t, s, newBase(day+"02", 2))
		is(t, s, "02 01 of 02 01")
		// A link that leads in circles is not a version.
		if err := os.Symlink("..", filepath.Join(root, "bases/tiny/amd64", day+"03")); err != nil {
			t.Fatal(err)
		}
		if _, err := tiny(s).Versions(t.Context()); err != nil {
			t.Errorf("%q is a link, and another leads in circles: %v", link, err)
		}
	}
}

package base

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"aesthetic.computer/isofs/fault"
)

var channelTime = time.Date(2026, 11, 26, 12, 0, 0, 7, time.UTC)

// entryOf is an entry whose digest follows from its version.
func entryOf(version string) Entry {
	h := Hash{1}
	copy(h[1:], version)
	return Entry{version, h, VersionPath("tiny", "amd64", version)}
}

func channelOf(versions ...string) *Channel {
	c := (&Channel{Flavor: "tiny", Arch: "amd64", Current: entryOf(versions[0])}).Next(channelTime)
	for _, v := range versions[1:] {
		c.Previous = append(c.Previous, entryOf(v))
	}
	return c
}

func namesOf(c *Channel) string {
	var names []string
	for _, e := range c.entries() {
		names = append(names, strings.TrimPrefix(e.Version, "2026-11-"))
	}
	return strings.Join(names, " ")
}

func TestChannelMoves(t *testing.T) {
	c := channelOf("2026-11-03", "2026-11-02", "2026-11-01")
	n := c.Next(channelTime)
	for _, step := range []struct{ to, want string }{
		{"2026-11-04", "04 03 02 01"}, {"2026-11-03", "03 02 01"}, {"2026-11-02", "02 01"},
		{"2026-11-02", "02 01"}, {"2026-11-04", "04 02 01"},
	} {
		if n.Move(entryOf(step.to)); namesOf(n) != step.want {
			t.Errorf("to %s: %s, want %s", step.to, namesOf(n), step.want)
		}
	}
	if namesOf(c) != "03 02 01" || c.Revision != 1 || n.Revision != 2 {
		t.Errorf("the next one changed the one before: %s, revisions %d and %d", namesOf(c), c.Revision, n.Revision)
	}
}

func TestChannelKeeps(t *testing.T) {
	for _, c := range []struct {
		name     string
		channel  *Channel
		removing []string
		keep     int
		there    []string
		names    string
		want     []string
	}{
		{"nothing too much", channelOf("2026-11-02", "2026-11-01"), nil, 3, []string{"2026-11-01", "2026-11-02"}, "02 01", nil},
		{"one", channelOf("2026-11-04", "2026-11-03", "2026-11-02", "2026-11-01"), nil, 3,
			[]string{"2026-11-01", "2026-11-02", "2026-11-03", "2026-11-04"}, "04 03 02", []string{"2026-11-01"}},
		{"after a rollback the newest stay, and the named", channelOf("2026-11-02", "2026-11-01"), nil, 3,
			[]string{"2026-11-05", "2026-11-04", "2026-11-03", "2026-11-02", "2026-11-01"}, "02 01", nil},
		{"the tenth of a day is after the ninth", channelOf("2026-11-01.10"), nil, 1,
			[]string{"2026-11-01.9", "2026-11-01.10", "2026-11-01"}, "01.10", []string{"2026-11-01.9", "2026-11-01"}},
		{"a started removal continues", channelOf("2026-11-02"), []string{"2026-11-01", "2026-10-01"}, 3,
			[]string{"2026-11-01", "2026-11-02"}, "02", []string{"2026-11-01"}},
	} {
		c.channel.Removing = c.removing
		c.channel.Keep(c.keep, c.there)
		if namesOf(c.channel) != c.names || !slices.Equal(c.channel.Removing, c.want) {
			t.Errorf("%s: names %s, removes %v; want %s and %v", c.name, namesOf(c.channel), c.channel.Removing, c.names, c.want)
		}
		if err := c.channel.Validate(); err != nil {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

func TestChannelIsReadStrictly(t *testing.T) {
	good, err := channelOf("2026-11-02", "2026-11-01").Marshal()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ParseChannel(good); err != nil {
		t.Fatal(err)
	}
	if _, err := ParseChannel([]byte(strings.Replace(string(good), "{", `{"later": {"x": [1]},`, 1))); err != nil {
		t.Errorf("a field of a later isofs: %v", err)
	}
	replaced := func(old, with string) string {
		if !strings.Contains(string(good), old) {
			t.Fatalf("no %s in %s", old, good)
		}
		return strings.Replace(string(good), old, with, 1)
	}
	for name, text := range map[string]string{
		"nothing":            "",
		"cut off":            string(good[:len(good)-3]),
		"more behind it":     string(good) + "{}",
		"a list":             "[]",
		"twice":              replaced(`"revision"`, `"revision": 9, "revision"`),
		"in other letters":   replaced(`"revision"`, `"Revision"`),
		"revision 0":         replaced(`"revision": 1`, `"revision": 0`),
		"no time":            replaced("2026-11-26T12:00:00Z", "yesterday"),
		"another flavor":     replaced(`"tiny"`, `"ti-ny"`),
		"a path elsewhere":   replaced("bases/tiny/amd64/2026-11-01", "../../2026-11-01"),
		"of another version": replaced("bases/tiny/amd64/2026-11-01", "bases/tiny/amd64/2026-11-02"),
		"no such day":        replaced(`"version": "2026-11-01"`, `"version": "2026-11-31"`),
		"one version twice":  strings.ReplaceAll(string(good), "2026-11-01", "2026-11-02"),
		"no digest":          replaced(entryOf("2026-11-02").SHA256.String(), strings.Repeat("0", 64)),
		"named and removed":  replaced(`"previous"`, `"removing": ["2026-11-01"], "previous"`),
		"too long":           replaced("{", "{"+strings.Repeat(" ", MaxChannelSize)),
	} {
		_, err := ParseChannel([]byte(text))
		if kind := fault.Kind(err); kind != fault.Invalid && kind != fault.Corrupt {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func FuzzParseChannel(f *testing.F) {
	good, _ := channelOf("2026-11-02", "2026-11-01").Marshal()
	f.Add(good)
	f.Add([]byte(`{"flavor":"a","arch":"b","revision":1,"removing":["2026-01-01.3"]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := ParseChannel(data)
		if err != nil {
			if fault.Kind(err) == nil {
				t.Errorf("an error of no kind: %v", err)
			}
			return
		}
		again, err := c.Marshal()
		if err != nil {
			t.Fatalf("what was read cannot be written: %v", err)
		}
		back, err := ParseChannel(again)
		if err != nil || namesOf(back) != namesOf(c) {
			t.Errorf("what was written cannot be read: %v", err)
		}
		n := c.Next(channelTime)
		n.Keep(1, []string{"2026-01-01", c.Current.Version})
		if _, err := n.Marshal(); err != nil && !strings.Contains(err.Error(), "revision") {
			t.Errorf("its next one cannot be written: %v", err)
		}
	})
}

func TestWhereAChannelIs(t *testing.T) {
	for address, root := range map[string]string{
		"channels/tiny-amd64.json":                       ".",
		"/channels/tiny-amd64.json":                      "/",
		"/srv/www/channels/tiny-amd64.json":              "/srv/www",
		"s3://bucket/channels/tiny-amd64.json":           "s3://bucket",
		"https://cdn.example/x/channels/tiny-amd64.json": "https://cdn.example/x",
	} {
		got, flavor, arch, err := SplitChannelPath(address)
		if err != nil || got != root || flavor != "tiny" || arch != "amd64" {
			t.Errorf("%s: %q %q %q %v", address, got, flavor, arch, err)
		}
	}
	for _, address := range []string{
		"", "tiny-amd64.json", "channels/tiny.json", "channels/tiny-amd64", "channels/tiny-amd64.json?x=1",
		"mychannels/tiny-amd64.json", "channels/Tiny-amd64.json", "channels/-.json", "channels/tiny-amd64.json.asc",
	} {
		if _, _, _, err := SplitChannelPath(address); !errors.Is(err, fault.Invalid) {
			t.Errorf("%s: %v", address, err)
		}
	}
	if CompareVersions("2026-11-01.2", "2026-11-01.10") >= 0 || CompareVersions("2026-11-02", "2026-11-01.10") <= 0 || CompareVersions("2026-11-01", "2026-11-01") != 0 {
		t.Error("versions are in another order")
	}
}

package upstream

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"aesthetic.computer/isofs/base"
	"aesthetic.computer/isofs/fault"
)

// A fakeChannel is what a follower under test reads.
type fakeChannel struct {
	*Follower
	text   string // "": the channel cannot be read
	fail   error  // of open
	bad    error  // of its signature
	open   []string
	logged strings.Builder
}

func channelManifest(version string) *base.Manifest {
	h := base.Hash{1}
	copy(h[1:], version)
	return &base.Manifest{Version: version, Flavor: "tiny", Arch: "amd64", SHA256: h}
}

func newFakeChannel(t *testing.T) *fakeChannel {
	t.Helper()
	c := &fakeChannel{}
	opened := func(version string) (*Base, error) {
		c.open = append(c.open, version)
		return &Base{Manifest: channelManifest(version)}, c.fail
	}
	c.Follower = &Follower{
		followedChannel: followedChannel{"https://h/x/channels/tiny-amd64.json", "https://h/x", "tiny", "amd64"},
		poll:            5 * time.Minute, memory: filepath.Join(t.TempDir(), "channel-1"),
		log: slog.New(slog.NewTextHandler(&c.logged, nil)), again: make(chan struct{}, 1),
		read: func(context.Context) ([]byte, error) {
			if c.text == "" {
				return nil, fault.Unavailable
			}
			return []byte(c.text), nil
		},
		trust: func(context.Context, *base.Channel, []byte) error { return c.bad },
		open: func(_ context.Context, address string, now *base.Channel) (*Base, error) {
			if want := "https://h/x/bases/tiny/amd64/" + now.Current.Version; address != want {
				t.Errorf("opened at %s, want %s", address, want)
			}
			return opened(now.Current.Version)
		},
		known: func(sum base.Hash) (*Base, error) {
			return opened("known " + strings.TrimRight(string(sum[1:11]), "\x00"))
		},
	}
	return c
}

// says makes the channel name a version, in its nth revision.
func (c *fakeChannel) says(t *testing.T, version string, n int64) {
	t.Helper()
	now := base.NewChannel(channelManifest(version), time.Unix(0, 0))
	now.Revision = n
	text, err := now.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	c.text = string(text)
}

func TestFollowWhatAChannelSays(t *testing.T) {
	c := newFakeChannel(t)
	if _, err := c.start(t.Context()); !errors.Is(err, fault.Unavailable) {
		t.Errorf("a first start without the channel: %v", err)
	}
	c.says(t, "2026-11-01", 3)
	now, err := c.start(t.Context())
	if err != nil || now.Manifest.Version != "2026-11-01" || now.named.Revision != 3 {
		t.Fatalf("%+v, %v", now, err)
	}
	// Nothing new: nothing is opened.
	if again, err := c.look(t.Context(), now); err != nil || again.named != now.named || len(c.open) != 1 {
		t.Errorf("%+v, %v, opened %q", again, err, c.open)
	}
	good := c.text
	for name, text := range map[string]string{
		"cannot be had":     "",
		"damaged":           good[:40],
		"of another flavor": strings.ReplaceAll(good, "tiny", "debian"),
		"an old copy":       strings.Replace(good, `"revision": 3`, `"revision": 2`, 1),
	} {
		c.text = text
		if _, err := c.look(t.Context(), now); fault.Kind(err) == nil {
			t.Errorf("a channel that is %s: %v", name, err)
		}
		// A restart does not use it either.
		if last, err := c.start(t.Context()); err != nil || last.named != now.named {
			t.Errorf("a start with a channel that is %s: %+v, %v", name, last, err)
		}
	}
	// The new base cannot be read.
	c.says(t, "2026-11-02", 4)
	c.fail = fault.NotFound
	if _, err := c.look(t.Context(), now); !errors.Is(err, fault.NotFound) || !strings.Contains(err.Error(), "2026-11-02") {
		t.Error(err)
	}
	c.fail = nil
	next, err := c.look(t.Context(), now)
	if err != nil || next.Manifest.Version != "2026-11-02" {
		t.Fatalf("%+v, %v", next, err)
	}
	if err := c.remember(next); err != nil {
		t.Fatal(err)
	}
	// A start with a channel that says the same needs no network for the base.
	c.open = nil
	if last, err := c.start(t.Context()); err != nil || last.named != next.named || fmt.Sprint(c.open) != "[known 2026-11-02]" {
		t.Errorf("%+v, %v, opened %q", last, err, c.open)
	}
	// The record is damaged: the follower starts as without one.
	if err := os.WriteFile(c.memory, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	c.text = good
	if last, err := c.start(t.Context()); err != nil || last.named.Revision != 3 {
		t.Errorf("%+v, %v", last, err)
	}
}

func TestFollowEveryNowAndThen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newFakeChannel(t)
		ctx, cancel := context.WithCancel(t.Context())
		var looks []time.Duration
		started, last := time.Now(), time.Now()
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			c.Run(ctx, func(context.Context) error {
				looks = append(looks, time.Since(last))
				last = time.Now()
				return fault.Unavailable
			})
		}()
		time.Sleep(time.Hour)
		synctest.Wait()
		if n := len(looks); n < 10 || n > 14 {
			t.Errorf("%d looks in an hour", n)
		}
		same := true
		for _, d := range looks {
			same = same && d == looks[0]
			if d < 4*time.Minute+30*time.Second || d > 5*time.Minute+30*time.Second {
				t.Errorf("a look after %v", d)
			}
		}
		if same {
			t.Error("all pauses are the same")
		}
		n := len(looks)
		c.LookAgain()
		synctest.Wait()
		if len(looks) != n+1 || time.Since(started) != time.Hour {
			t.Errorf("a hangup made %d looks", len(looks)-n)
		}
		if got := strings.Count(c.logged.String(), "the base stays"); got != len(looks) {
			t.Errorf("%d looks failed, the log tells of %d", len(looks), got)
		}
		cancel()
		<-ended
	})
}

// A channel whose signature is not good is not followed; a start then uses the
// base that was followed last.
func TestUntrustedChannel(t *testing.T) {
	c := newFakeChannel(t)
	c.says(t, "2026-11-01", 3)
	c.bad = fault.Corrupt
	if now, err := c.start(t.Context()); !errors.Is(err, fault.Corrupt) || now != nil || len(c.open) != 0 {
		t.Errorf("a first start: %+v, %v, opened %q", now, err, c.open)
	}
	c.bad = nil
	now, err := c.start(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	c.says(t, "2026-11-02", 4)
	c.bad = fault.Corrupt
	if next, err := c.look(t.Context(), now); !errors.Is(err, fault.Corrupt) {
		t.Errorf("%+v, %v", next, err)
	}
	if again, err := c.start(t.Context()); err != nil || again.named.Version != "2026-11-01" || !strings.Contains(c.logged.String(), "using the base that it named last") {
		t.Errorf("a start: %+v, %v", again, err)
	}
}

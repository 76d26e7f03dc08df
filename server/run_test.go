package server

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"aesthetic.computer/isofs/base"
	"aesthetic.computer/isofs/cache"
	"aesthetic.computer/isofs/catalog"
	"aesthetic.computer/isofs/integration/testkit"
	"aesthetic.computer/isofs/nginx"
	"aesthetic.computer/isofs/origin"
	"aesthetic.computer/isofs/upstream"
	"aesthetic.computer/isofs/vfs"
)

// writeBase writes a small base, with its manifest, into a folder.
func writeBase(t *testing.T, dir string) {
	t.Helper()
	data, err := testkit.BaseImage(20)
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, base.ImageName), data, 0o644)
	}
	if err != nil {
		t.Fatal(err)
	}
	f, size, err := base.OpenFile(filepath.Join(dir, base.ImageName))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	m, err := base.Index(t.Context(), f, size, base.IndexOptions{
		Version: "2026-11-01", Flavor: "tiny", Arch: "amd64", CreatedAt: "2026-11-01T00:00:00Z",
	})
	if err != nil {
		t.Fatal(err)
	}
	text, err := m.Marshal()
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, base.ManifestName), text, 0o644)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// configIn is the Config of a server whose directories are below dir.
func configIn(dir string, log *testkit.Buffer) Config {
	logger := slog.New(slog.NewTextHandler(log, nil))
	return Config{
		Stack: StackConfig{
			State: filepath.Join(dir, "state"), Cache: cache.Config{Memory: true, MaxBytes: 64 << 20, Fetches: 4},
			Limits: catalog.Limits{Retain: time.Hour},
			Bases:  upstream.Config{Dir: filepath.Join(dir, "state/bases"), Address: dir, Origin: origin.Options{Timeout: time.Minute}},
			Pieces: Pieces{Sources: []string{Embedded}, Density: 8, Timeout: time.Minute, Refresh: time.Hour}, Log: logger,
		},
		Mount:  vfs.Config{Mountpoint: filepath.Join(dir, "mnt"), Profile: vfs.Direct, PageLimit: vfs.DefaultPageLimit, Log: logger},
		RunDir: filepath.Join(dir, "run"), Services: ServicesConfig{Watchers: 10, Log: logger}, Log: logger,
	}
}

// TestRun: a Config is all that a server needs. It serves until its context ends, and leaves
// no mount behind.
func TestRun(t *testing.T) {
	if _, err := os.Stat("/dev/fuse"); os.Geteuid() != 0 || err != nil {
		testkit.Lack(t, "root and /dev/fuse")
	}
	dir := t.TempDir()
	writeBase(t, dir)
	var log testkit.Buffer
	c := configIn(dir, &log)
	hangups, reloaded := make(chan os.Signal, 1), make(chan bool, 1)
	c.Process = Process{Hangups: hangups, Reload: func(s *Services, web *nginx.Server) error {
		reloaded <- s != nil && web == nil
		return nil
	}}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- Run(ctx, c) }()
	testkit.Eventually(t, "the mount", func() bool { return strings.Contains(log.String(), "mounted") })

	// The base is probed after the start.
	testkit.Eventually(t, "the server to be ready", func() bool {
		var ready struct{ Ready bool }
		err := (Client{Socket: c.socket()}).Get(t.Context(), "/readyz", &ready)
		return err == nil && ready.Ready
	})
	// By another process: one that reads its own mount waits for itself.
	image := filepath.Join(c.Mount.Mountpoint, "notepat-os.iso")
	out, err := exec.Command("sh", "-c", fmt.Sprintf("cat %q.sha256; sha256sum < %q", image, image)).Output()
	if digests := strings.Fields(string(out)); err != nil || len(digests) != 4 || digests[0] != digests[2] || len(digests[0]) != 2*sha256.Size {
		t.Errorf("the image and its digest: %q, %v", out, err)
	}
	hangups <- os.Interrupt
	if !<-reloaded {
		t.Error("a hangup gets other than the services, without nginx")
	}
	if _, err := Lock(c.RunDir, SettingRun); err == nil {
		t.Error("another server may take the same directory")
	}
	stop()
	if err := <-ended; err != nil {
		t.Errorf("the end: %v\n%s", err, &log)
	}
	if mounts, err := os.ReadFile("/proc/self/mounts"); err != nil || strings.Contains(string(mounts), c.Mount.Mountpoint) {
		t.Errorf("a mount is left: %v", err)
	}
}

// TestRunRefuses: wrong values and an address in use end a start before anything is made.
func TestRunRefuses(t *testing.T) {
	dir := t.TempDir()
	c := configIn(dir, &testkit.Buffer{})
	c.Mount.PageLimit = 1
	c.Web = &WebConfig{Nginx: nginx.Config{Listen: []string{"nowhere"}}}
	err := Run(t.Context(), c)
	for _, setting := range []string{SettingPages, nginx.SettingListen, nginx.SettingMount} {
		if err == nil || !strings.Contains(err.Error(), setting) {
			t.Errorf("%s is not named: %v", setting, err)
		}
	}
	if _, err := os.Stat(c.RunDir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a directory was made: %v", err)
	}
}

package boottest

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"aesthetic.computer/isofs/fault"
	"aesthetic.computer/isofs/integration/testkit"
)

// A bad image fails at once, with our own message.
func TestNoImage(t *testing.T) {
	// A QEMU that waits for ever: no case below may start it.
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, qemu), []byte("#!/bin/sh\nexec sleep 1000\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	fifo := filepath.Join(dir, "fifo")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	socket, err := net.Listen("unix", filepath.Join(dir, "socket"))
	if err != nil {
		t.Fatal(err)
	}
	defer socket.Close()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/busy.iso":
			w.WriteHeader(http.StatusServiceUnavailable)
		case "/whole.iso":
			w.Header().Set("Content-Length", "1000")
		default:
			http.NotFound(w, r)
		}
	}))
	defer server.Close()
	ctx, cancel := context.WithTimeout(t.Context(), startPatience)
	defer cancel()
	for image, c := range map[string]struct {
		kind error
		says string
	}{
		fifo:                         {fault.Invalid, "neither a file nor a disk"},
		filepath.Join(dir, "socket"): {fault.Invalid, "neither a file nor a disk"},
		os.DevNull:                   {fault.Invalid, "neither a file nor a disk"},
		dir:                          {fault.Invalid, "a folder"},
		dir + "/none.iso":            {fault.NotFound, "no such file"},
		server.URL + "/none.iso":     {fault.NotFound, "404 Not Found"},
		server.URL + "/busy.iso":     {fault.Unavailable, "503 Service Unavailable"},
		server.URL + "/whole.iso":    {fault.Invalid, "Accept-Ranges"},
		"http://127.0.0.1:1/x.iso":   {fault.Unavailable, "ask the server"},
		"http://[::1/x.iso":          {fault.Invalid, "not an address"},
	} {
		_, err := Run(ctx, Options{Image: image, Firmware: "bios", Accel: "tcg", Timeout: time.Minute, Expect: Expect{Piece: "x"}})
		if fault.Kind(err) != c.kind || !strings.Contains(err.Error(), c.says) || strings.Contains(err.Error(), "QEMU") {
			t.Errorf("%s: %v, want %v with %q", image, err, c.kind, c.says)
		}
	}
	t.Setenv("TMPDIR", filepath.Join(dir, strings.Repeat("long", 30)))
	if err := os.Mkdir(os.Getenv("TMPDIR"), 0o755); err != nil {
		t.Fatal(err)
	}
	if _, err := Run(ctx, Options{Image: filepath.Join(dir, qemu), Firmware: "bios", Accel: "tcg", Timeout: time.Minute, Expect: Expect{Piece: "x"}}); !errors.Is(err, fault.Invalid) || !strings.Contains(err.Error(), "TMPDIR") {
		t.Errorf("a long TMPDIR: %v", err)
	}
}

// QEMU takes the beginning of some names for a protocol, and a comma for the
// end of an option. A machine that shows nothing has started all the same.
func TestNamesForQEMU(t *testing.T) {
	testkit.NeedTool(t, qemu, "qemu-system-x86")
	t.Chdir(t.TempDir())
	if err := os.Mkdir("tmp:x,y", 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("TMPDIR", "tmp:x,y")
	for _, image := range []string{"os:n.iso", "nbd:a,b.iso", "json:{}.iso"} {
		if err := os.WriteFile(image, make([]byte, 1<<20), 0o644); err != nil {
			t.Fatal(err)
		}
		r, err := Run(t.Context(), Options{Image: image, As: "disk", Firmware: "bios", Accel: "tcg", Memory: 128, Timeout: time.Millisecond,
			Expect: Expect{Serial: []*regexp.Regexp{regexp.MustCompile("never")}}})
		if err != nil || r.Image != image || !strings.Contains(r.Reason, "not seen within") {
			t.Errorf("%s: %+v, %v", image, r, err)
		}
	}
	if left, err := os.ReadDir("tmp:x,y"); err != nil || len(left) != 0 {
		t.Errorf("%v is left (%v)", left, err)
	}
}

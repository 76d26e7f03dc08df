package boottest

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"aesthetic.computer/isofs/fault"
)

func TestParsePPM(t *testing.T) {
	good := "P6\n2 1\n255\n\x0a\x0b\x0c\xff\x00\x0a"
	s, err := parsePPM([]byte(good))
	if err != nil || s.width != 2 || s.height != 1 || string(s.pixels) != good[len(good)-6:] {
		t.Errorf("%+v, %v", s, err)
	}
	for _, bad := range []string{"", "P5" + good[2:], good[:len(good)-1], strings.Replace(good, "255", "65535", 1),
		strings.Replace(good, "2 1", "-2 1", 1), strings.Replace(good, "2 1", "99999 999999", 1)} {
		if _, err := parsePPM([]byte(bad)); err == nil {
			t.Errorf("%q is taken for a picture", bad)
		}
	}
}

// A fake QEMU that answers each line with the next of the answers.
func TestMonitor(t *testing.T) {
	path := filepath.Join(t.TempDir(), "qmp")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	asked := make(chan []string, 1)
	go func() {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		fmt.Fprintln(conn, `{"QMP": {"version": {}, "capabilities": []}}`)
		in := bufio.NewReader(conn)
		var lines []string
		for _, answer := range []string{
			`{"return": {}}`,
			`{"event": "RESET", "data": {}}` + "\n" + `{"return": {}}`,
			`{"error": {"class": "GenericError", "desc": "no such file"}}`,
		} {
			line, _ := in.ReadString('\n')
			lines = append(lines, strings.TrimSpace(line))
			fmt.Fprintln(conn, answer)
		}
		asked <- lines
	}()
	m, err := dialMonitor(path)
	if err != nil {
		t.Fatal(err)
	}
	defer m.conn.Close()
	if err := m.execute("screendump", map[string]any{"filename": "a b"}); err != nil {
		t.Error(err)
	}
	if err := m.execute("screendump", nil); err == nil || !strings.Contains(err.Error(), "no such file") {
		t.Errorf("a refusal: %v", err)
	}
	want := []string{`{"execute":"qmp_capabilities"}`, `{"arguments":{"filename":"a b"},"execute":"screendump"}`, `{"execute":"screendump"}`}
	if got := <-asked; !slices.Equal(got, want) {
		t.Errorf("asked %q", got)
	}
	if err := m.execute("stop", nil); err == nil {
		t.Error("no error from a QEMU that has ended")
	}
}

func TestRunRefuses(t *testing.T) {
	image := filepath.Join(t.TempDir(), "a,b.iso")
	if err := os.WriteFile(image, make([]byte, 1<<20), 0o644); err != nil {
		t.Fatal(err)
	}
	good := Options{Image: image, Timeout: time.Second, Expect: Expect{Piece: "x"}}
	for _, tt := range []struct {
		name   string
		change func(*Options)
		kind   error
		want   string
	}{
		{"medium", func(o *Options) { o.As = "tape" }, fault.Invalid, "usb, disk, sata, cd, virtio-cd"},
		{"firmware", func(o *Options) { o.Firmware = "coreboot" }, fault.Invalid, "uefi, secureboot, bios"},
		{"accelerator", func(o *Options) { o.Accel = "hvf" }, fault.Invalid, "auto, kvm, tcg"},
		{"memory", func(o *Options) { o.Memory = 1 }, fault.Invalid, "1 MiB"},
		{"timeout", func(o *Options) { o.Timeout = 0 }, fault.Invalid, "timeout"},
		{"nothing expected", func(o *Options) { o.Expect = Expect{} }, fault.Invalid, "nothing is expected"},
		{"fraction", func(o *Options) { o.Expect.Color, o.Expect.Fraction = &pink, 1.5 }, fault.Invalid, "fraction 1.5"},
		{"image", func(o *Options) { o.Image += "x" }, fault.NotFound, "no such file"},
		{"no QEMU", func(o *Options) { o.Accel = "tcg"; t.Setenv("PATH", "/nowhere") }, fault.NotFound, "apt-get install qemu-system-x86"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			o := good
			tt.change(&o)
			_, err := Run(t.Context(), o)
			if err == nil || fault.Kind(err) != tt.kind || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want kind %v with %q", err, tt.kind, tt.want)
			}
		})
	}
}

// A QEMU that is only a script: its standard output is the serial port, and it
// has no monitor.
func TestQEMUThatEndsAtOnce(t *testing.T) {
	dir := t.TempDir()
	fake := "#!/bin/sh\necho 'qemu: cannot do that' >&2\nexit 1\n"
	if err := os.WriteFile(filepath.Join(dir, qemu), []byte(fake), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	image := filepath.Join(dir, "i")
	if err := os.WriteFile(image, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	_, err := Run(t.Context(), Options{Image: image, Firmware: "bios", Accel: "tcg", Timeout: time.Minute, Expect: Expect{Serial: []*regexp.Regexp{regexp.MustCompile("x")}}})
	if fault.Kind(err) != fault.Unavailable || !strings.Contains(err.Error(), "QEMU: qemu: cannot do that") {
		t.Errorf("got %v", err)
	}
}

// A cancelled Run leaves no machine behind.
func TestTheMachineEndsWithTheTest(t *testing.T) {
	dir := t.TempDir()
	fifo := filepath.Join(dir, "pid")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	// It makes no monitor, so Run waits for that.
	fake := "#!/bin/sh\necho $$ >" + fifo + "\nexec sleep 1000\n"
	if err := os.WriteFile(filepath.Join(dir, qemu), []byte(fake), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	ended := make(chan error, 1)
	go func() {
		_, err := Run(ctx, Options{Image: filepath.Join(dir, qemu), Firmware: "bios", Accel: "tcg", Timeout: time.Minute, Expect: Expect{Piece: "x"}})
		ended <- err
	}()
	text, err := os.ReadFile(fifo)
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		t.Fatal(err)
	}
	cancel()
	if err := <-ended; fault.Kind(err) != fault.Unavailable || !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	if err := syscall.Kill(pid, 0); !errors.Is(err, syscall.ESRCH) {
		t.Errorf("the machine is still there (%v)", err)
	}
}

func TestArguments(t *testing.T) {
	for _, as := range Media {
		o := Options{drives: "/a,b", As: as, Firmware: "bios", Memory: 512}
		args, err := o.arguments(t.TempDir(), "tcg")
		all := strings.Join(args, " ")
		if err != nil || !strings.Contains(all, "file=/a,,b,") || strings.Count(all, "bootindex=0") != 1 {
			t.Errorf("%s: %q, %v", as, all, err)
		}
		if cd := strings.Contains(all, "media=cdrom"); cd != strings.HasSuffix(as, "cd") || !cd && !strings.Contains(all, "snapshot=on") {
			t.Errorf("%s: %q", as, all)
		}
		o.drives = "https://h/a,b"
		if args, err = o.arguments(t.TempDir(), "tcg"); err != nil || !strings.Contains(strings.Join(args, " "), "file.driver=https,file.timeout=120,file.url=https://h/a,,b") {
			t.Errorf("%s from a server: %q, %v", as, args, err)
		}
	}
}

func TestLongLinesDoNotBlock(t *testing.T) {
	m := &machine{serial: make(chan string), stopped: make(chan struct{})}
	r, w := io.Pipe()
	go m.listen(r)
	go func() {
		fmt.Fprintln(w, "first")
		_, _ = w.Write(make([]byte, 3*maxLine))
		w.Close()
	}()
	var got []string
	for line := range m.lines() {
		got = append(got, line)
	}
	if !slices.Equal(got, []string{"first"}) {
		t.Errorf("%d lines", len(got))
	}
}

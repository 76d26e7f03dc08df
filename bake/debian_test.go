package bake

import (
	"bufio"
	"context"
	"crypto/sha256"
	"flag"
	"fmt"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// A base of flavor debian is too much for every run of the tests: make
// base-debian bakes one, make boot-debian boots it by this test.
var debianImage = flag.String("bake.debian", "", "base.iso of the flavor debian to boot")

// The machine says which piece it carries, and that the browser painted it.
func TestDebianBoots(t *testing.T) {
	if *debianImage == "" {
		t.Skip("needs a base: make base-debian boot-debian")
	}
	qemu := needTool(t, "qemu-system-x86_64", "qemu-system-x86")
	code, vars := needFirmware(t)
	// Emulated, and a browser: a limit, not a measure.
	ctx, cancel := context.WithTimeout(t.Context(), 9*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, qemu, "-machine", "q35", "-accel", "tcg,thread=multi", "-cpu", "max", "-smp", "2", "-m", "3072",
		"-drive", "if=pflash,format=raw,readonly=on,file="+code, "-drive", "if=pflash,format=raw,file="+vars,
		"-device", "qemu-xhci", "-device", "usb-kbd",
		"-drive", "if=none,id=stick,format=raw,snapshot=on,file="+*debianImage, "-device", "usb-storage,drive=stick",
		"-device", "virtio-vga", "-nic", "none", "-display", "none", "-no-reboot", "-serial", "stdio", "-monitor", "none")
	serial, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}()
	start := time.Now()
	want := fmt.Sprintf("ISOFS-PIECE - sha256=%x size=%d", sha256.Sum256(placeholderHTML), len(placeholderHTML))
	piece := false
	for lines := bufio.NewScanner(serial); lines.Scan(); {
		line := strings.TrimRight(lines.Text(), "\r")
		i := strings.Index(line, "ISOFS-")
		if i < 0 {
			continue
		}
		t.Logf("%v: %s", time.Since(start).Round(time.Second), line[i:])
		switch line = line[i:]; {
		case line == want:
			piece = true
		case strings.HasPrefix(line, "ISOFS-FAIL"):
			t.Fatal(line)
		case strings.HasPrefix(line, "ISOFS-SHOWN") && piece:
			return
		}
	}
	t.Fatalf("the browser painted nothing in %v; the piece's line was there: %v", time.Since(start).Round(time.Second), piece)
}

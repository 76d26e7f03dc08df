package bake

import (
	"bufio"
	"context"
	"crypto/sha256"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// The firmware of Debian's package ovmf, 4 MB or older 2 MB.
var firmware = [][2]string{
	{"/usr/share/OVMF/OVMF_CODE_4M.fd", "/usr/share/OVMF/OVMF_VARS_4M.fd"},
	{"/usr/share/OVMF/OVMF_CODE.fd", "/usr/share/OVMF/OVMF_VARS.fd"},
}

// needFirmware returns code and a writable copy of the variables.
func needFirmware(t *testing.T) (code, vars string) {
	t.Helper()
	for _, f := range firmware {
		data, err := os.ReadFile(f[1])
		if err != nil {
			continue
		}
		vars = filepath.Join(t.TempDir(), "vars.fd")
		if err := os.WriteFile(vars, data, 0o600); err != nil {
			t.Fatal(err)
		}
		return f[0], vars
	}
	missing(t, "ovmf", "ovmf")
	return "", ""
}

// boot starts a machine with the image as its only disk and returns what it
// says, up to ISOFS-OK or ISOFS-FAIL. Emulated, since a /dev/kvm that is there
// need not run guests.
func boot(t *testing.T, image string) []string {
	t.Helper()
	qemu := needTool(t, "qemu-system-x86_64", "qemu-system-x86")
	code, vars := needFirmware(t)
	// A limit and not a measure: 10 s on a quiet machine.
	ctx, cancel := context.WithTimeout(t.Context(), 120*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, qemu, "-machine", "q35", "-accel", "tcg,thread=multi", "-cpu", "max", "-smp", "2", "-m", "512",
		"-drive", "if=pflash,format=raw,readonly=on,file="+code, "-drive", "if=pflash,format=raw,file="+vars,
		"-drive", "if=virtio,format=raw,snapshot=on,file="+image,
		"-nic", "none", "-display", "none", "-no-reboot", "-serial", "stdio", "-monitor", "none")
	serial, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	var complaints strings.Builder
	cmd.Stderr = &complaints
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}()
	var said, all []string
	for lines := bufio.NewScanner(serial); lines.Scan(); {
		line := strings.TrimRight(lines.Text(), "\r")
		all = append(all, line)
		if i := strings.Index(line, "ISOFS-"); i >= 0 {
			said = append(said, line[i:])
		}
		if strings.Contains(line, "ISOFS-OK") || strings.Contains(line, "ISOFS-FAIL") {
			return said
		}
	}
	t.Fatalf("the machine stopped, or did not boot in time (%v); stderr %q, serial:\n%s", ctx.Err(), complaints.String(), strings.Join(all, "\n"))
	return nil
}

// testBoots compares what the machine says with what was baked.
func testBoots(t *testing.T, r *Result) {
	said := boot(t, r.Image)
	id := "tiny 2026-11-01 amd64 "
	for i, line := range said {
		if strings.TrimSpace(line) != line {
			t.Errorf("line %d ends in a space: %q", i+1, line)
		}
	}
	for i, want := range []string{
		"ISOFS-BOOT flavor=tiny version=2026-11-01",
		"ISOFS-LIVE " + id,
		fmt.Sprintf("ISOFS-PIECE sha256=%x size=%d", sha256.Sum256(placeholderHTML), len(placeholderHTML)),
		"ISOFS-TITLE No piece loaded",
		`ISOFS-JSON {"base":"` + id,
		"ISOFS-OK",
	} {
		if i >= len(said) || !strings.HasPrefix(said[i], want) {
			t.Errorf("line %d: want %q; the machine said:\n%s", i+1, want, strings.Join(said, "\n"))
			break
		}
	}
}

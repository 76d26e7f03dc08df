package bake

import (
	"crypto/sha256"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"aesthetic.computer/isofs/boottest"
	"aesthetic.computer/isofs/fault"
	"aesthetic.computer/isofs/integration/testkit"
)

// Boots are slow on an emulated machine. Secure Boot takes a minute each, and
// so do SATA and USB with a kernel for real machines. `make boot-matrix`
// includes them.
var matrix = flag.Bool("bake.matrix", false, "boot every way, and bake every form of a live root")

// bootPatience is a limit and not a measure: a boot takes 10 to 30 s on a quiet
// machine.
const bootPatience = 300 * time.Second

// boot starts a machine with the image and returns its output, up to the
// expected line. It emulates, since an existing /dev/kvm may not run guests.
func boot(t *testing.T, image, as, firmware, expect string) *boottest.Result {
	t.Helper()
	r, err := boottest.Run(t.Context(), boottest.Options{
		Image: image, As: as, Firmware: firmware, Accel: "tcg", Memory: 512, Timeout: bootPatience,
		Expect: boottest.Expect{Serial: []*regexp.Regexp{regexp.MustCompile(expect)}},
	})
	if errors.Is(err, fault.NotFound) {
		testkit.Lack(t, "QEMU and its firmware: apt-get install qemu-system-x86 ovmf")
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%s by %s: %.1f s to %q", as, firmware, r.Times.End, expect)
	if !r.Passed {
		t.Fatalf("%s by %s: %s; the machine said:\n%s", as, firmware, r.Reason, strings.Join(r.Serial, "\n"))
	}
	return r
}

// A way is a way to boot an image, and the machine's output.
type way struct {
	as, firmware string
	says         string // in the line ISOFS-MEDIUM
}

// testBoots boots r in the ways, and compares the machine's output with the
// bake.
func testBoots(t *testing.T, r *Result, ways ...way) {
	for _, w := range ways {
		t.Run(w.firmware+" "+w.as, func(t *testing.T) {
			var lines []string
			for _, line := range boot(t, r.Image, w.as, w.firmware, "^ISOFS-OK$").Serial {
				if strings.HasPrefix(line, "ISOFS-") {
					lines = append(lines, line)
				}
			}
			checkLines(t, lines, w.says)
		})
	}
}

func checkLines(t *testing.T, lines []string, medium string) {
	t.Helper()
	id := "tiny 2026-11-01 amd64 "
	for i, line := range lines {
		if strings.TrimSpace(line) != line {
			t.Errorf("line %d ends in a space: %q", i+1, line)
		}
	}
	for i, want := range []string{
		"ISOFS-BOOT flavor=tiny version=2026-11-01",
		"ISOFS-MEDIUM " + medium,
		"ISOFS-LIVE " + id,
		fmt.Sprintf("ISOFS-PIECE sha256=%x size=%d", sha256.Sum256(placeholderHTML), len(placeholderHTML)),
		"ISOFS-TITLE No piece loaded",
		`ISOFS-JSON {"base":"` + id,
		"ISOFS-OK",
	} {
		if i >= len(lines) || !strings.HasPrefix(lines[i], want) {
			t.Errorf("line %d: want %q; the machine printed:\n%s", i+1, want, strings.Join(lines, "\n"))
			break
		}
	}
}

// The ways of the kernel for virtual machines.
var (
	virtualWays = []way{
		{"disk", "uefi", "medium=disk device=/dev/vda2 firmware=uefi secureboot=off"},
		{"virtio-cd", "uefi", "medium=cd device=/dev/sr0 firmware=uefi secureboot=off"},
		{"disk", "bios", "medium=disk device=/dev/vda2 firmware=bios secureboot=off"},
		{"virtio-cd", "bios", "medium=cd device=/dev/sr0 firmware=bios secureboot=off"},
	}
	secureWays = []way{
		{"disk", "secureboot", "medium=disk device=/dev/vda2 firmware=uefi secureboot=on"},
		{"virtio-cd", "secureboot", "medium=cd device=/dev/sr0 firmware=uefi secureboot=on"},
	}
	// The hardware of real machines, with a kernel for it.
	realWays = []way{
		{"usb", "uefi", "medium=disk device=/dev/sda2 firmware=uefi secureboot=off"},
		{"sata", "uefi", "medium=disk device=/dev/sda2 firmware=uefi secureboot=off"},
		{"cd", "uefi", "medium=cd device=/dev/sr0 firmware=uefi secureboot=off"},
		{"usb", "secureboot", "medium=disk device=/dev/sda2 firmware=uefi secureboot=on"},
		{"usb", "bios", "medium=disk device=/dev/sda2 firmware=bios secureboot=off"},
		{"sata", "bios", "medium=disk device=/dev/sda2 firmware=bios secureboot=off"},
		{"cd", "bios", "medium=cd device=/dev/sr0 firmware=bios secureboot=off"},
	}
)

// A kernel with one bit changed has no valid signature.
func testUnsigned(t *testing.T, r *Result, image []byte) {
	kernel, ok := r.Manifest.BootFile("kernel")
	if !ok {
		t.Fatal("no kernel in the manifest")
	}
	// In the compressed part, outside of any header that a loader reads.
	image[kernel.Offset+kernel.Length/2] ^= 1
	path := filepath.Join(t.TempDir(), "unsigned.iso")
	if err := os.WriteFile(path, image, 0o644); err != nil {
		t.Fatal(err)
	}
	lines := boot(t, path, "disk", "secureboot", "bad shim signature").Serial
	if strings.Contains(strings.Join(lines, "\n"), "ISOFS-BOOT") {
		t.Errorf("the machine started it:\n%s", strings.Join(lines, "\n"))
	}
}

// All ways, with Secure Boot and the kernel for real machines, and the flavor
// fedora: some ten minutes.
func TestMatrix(t *testing.T) {
	if !*matrix {
		t.Skip("only with -bake.matrix, as in make boot-matrix")
	}
	cloud := bakeTiny(t, TinyOptions{OutDir: t.TempDir()})
	testBoots(t, cloud, append(virtualWays, secureWays...)...)
	image, err := os.ReadFile(cloud.Image)
	if err != nil {
		t.Fatal(err)
	}
	t.Run("unsigned kernel", func(t *testing.T) { testUnsigned(t, cloud, image) })
	testBoots(t, bakeTiny(t, TinyOptions{OutDir: t.TempDir(), KernelPackage: "linux-image-amd64"}), realWays...)
	t.Run("fedora", func(t *testing.T) {
		fedoraNeeds(t)
		j, parts := debianParts(t)
		boot(t, bakeFedora(t, j, parts, "erofs").Image, "disk", "uefi", "^ISOFS-OK$")
	})
}

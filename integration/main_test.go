// Package integration tests isofs from outside: the real binary, nginx, the kernel's FUSE and loop
// devices, download clients and QEMU.
//
// Of isofs it imports only integration/testkit and integration/s3test. So it sees of isofs what a
// user sees.
package integration

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"

	"aesthetic.computer/isofs/integration/testkit"
)

// make thorough sets thorough. isofs then has the race detector, which makes it half as fast, and
// no test is left out.
var thorough = flag.Bool("thorough", false, "build isofs with the race detector, and run also the tests that make test leaves out")

// leftOut skips a test that proves little more than the other one.
func leftOut(t *testing.T, other string) {
	t.Helper()
	if !*thorough {
		t.Skipf("%s is much the same; make thorough runs both", other)
	}
}

// TestMain makes these once for all tests.
var (
	isofs   string // the binary
	baseDir string // a folder with base.iso and manifest.json, readable by all
	workDir string // readable by all; the tests' folders are in it
)

func TestMain(m *testing.M) {
	if folders := os.Getenv(loopback); folders != "" {
		if err := serveLoopback(folders); err != nil {
			fmt.Fprintln(os.Stderr, "integration:", err)
			os.Exit(1)
		}
		return
	}
	status, err := run(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, "integration:", err)
		status = 1
	}
	os.Exit(status)
}

func run(m *testing.M) (int, error) {
	flag.Parse()
	if os.Getenv(pagesVar) != "" {
		return m.Run(), nil // TestMain outside of the name spaces has made everything
	}
	// It must not be below root's home, which the user that isofs runs as cannot enter.
	dir, err := os.MkdirTemp("/var/tmp", "isofs-test-")
	if err != nil {
		return 0, err
	}
	defer os.RemoveAll(dir)
	if err := os.Chmod(dir, 0o755); err != nil {
		return 0, err
	}
	workDir = dir
	if err := errors.Join(raceOptions(), adopt(), build(dir)); err != nil {
		return 0, err
	}
	defer reap()
	// Most of these tests wait for other programs. So more of them run at a time than there are
	// processors. -parallel on the command line wins.
	if err := flag.Set("test.parallel", "6"); err != nil {
		return 0, err
	}
	return m.Run(), nil
}

func command(name string, args ...string) error {
	var out bytes.Buffer
	cmd := exec.Command(name, args...)
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%s %s: %w\n%s", name, strings.Join(args, " "), err, out.String())
	}
	return nil
}

// need skips the test, and names the command that the machine lacks. In CI it fails.
func need(t *testing.T, commands ...string) {
	t.Helper()
	for _, c := range commands {
		if _, err := exec.LookPath(c); err == nil {
			continue
		}
		if _, err := exec.LookPath("/usr/sbin/" + c); err == nil {
			continue
		}
		testkit.Lack(t, ""+c+"; isofs doctor test says how to install it")
	}
}

// needRoot is need for root's rights.
func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		testkit.Lack(t, "root")
	}
}

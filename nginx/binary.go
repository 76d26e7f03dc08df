package nginx

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"time"

	"aesthetic.computer/isofs/fault"
)

// The oldest nginx that the configuration was tried with.
const oldestMajor, oldestMinor = 1, 22

var versionLine = regexp.MustCompile(`(?m)^\w+ version: \w+/((\d{1,9})\.(\d{1,9})[.\d]*)`)

// Version returns the version of binary (a path, or a name in $PATH), such as
// "1.22.1". It refuses an nginx that cannot serve isofs with fault.Invalid: one
// older than 1.22, or one built without threads. fault.NotFound means that the
// program does not exist.
func Version(ctx context.Context, binary string) (string, error) {
	out, err := run(ctx, binary, "-V")
	if err != nil {
		return "", fmt.Errorf("ask %s for its version: %w", binary, err)
	}
	version, err := parseVersion(out)
	if err != nil {
		return "", fmt.Errorf("%s: %w", binary, err)
	}
	return version, nil
}

// parseVersion reads the output of nginx -V.
func parseVersion(text string) (string, error) {
	m := versionLine.FindStringSubmatch(text)
	if m == nil {
		return "", fmt.Errorf("%w: it is not nginx: -V says %q", fault.Invalid, firstLine(text))
	}
	major, _ := strconv.Atoi(m[2]) // nine digits at most
	minor, _ := strconv.Atoi(m[3])
	if major < oldestMajor || major == oldestMajor && minor < oldestMinor {
		return "", fmt.Errorf("%w: nginx %s is older than %d.%d; install a newer one (Debian 12 and later have it)", fault.Invalid, m[1], oldestMajor, oldestMinor)
	}
	if !strings.Contains(text, "--with-threads") {
		return "", fmt.Errorf("%w: nginx %s was built without --with-threads, and would stop for all clients while one block is fetched; install your distribution's", fault.Invalid, m[1])
	}
	return m[1], nil
}

// Check lets binary test the configuration file. That opens its logs and makes
// its temporary directories, but leaves its addresses alone if they are in use.
// nginx's complaint is the text of the error (fault.Invalid).
func Check(ctx context.Context, binary string, confPath string) error {
	out, err := run(ctx, binary, "-t", "-q", "-e", "stderr", "-c", confPath)
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.Exited() {
		return fmt.Errorf("check %s: %w: %s", confPath, fault.Invalid, strings.TrimSpace(out))
	}
	if err != nil {
		return fmt.Errorf("check %s: %w", confPath, err)
	}
	return nil
}

// run returns binary's standard output and error.
func run(ctx context.Context, binary string, args ...string) (string, error) {
	path, err := find(binary)
	if err != nil {
		return "", err
	}
	cmd := exec.CommandContext(ctx, path, args...)
	// A child of it that survives a cancellation could hold the pipe open.
	cmd.WaitDelay = time.Second
	out, err := cmd.CombinedOutput()
	if err != nil {
		if ctx.Err() != nil {
			err = ctx.Err()
		}
		return string(out), fmt.Errorf("%w: %w", fault.Unavailable, err)
	}
	return string(out), nil
}

// find returns the path of binary. Debian has nginx in /usr/sbin, which is not
// in the $PATH of ordinary users.
func find(binary string) (string, error) {
	path, err := exec.LookPath(binary)
	if err != nil && !strings.Contains(binary, "/") {
		path, err = exec.LookPath("/usr/sbin/" + binary)
	}
	if err != nil {
		return "", fmt.Errorf("%w: no program %q; install nginx (apt-get install nginx-light), or say where it is", fault.NotFound, binary)
	}
	return path, nil
}

func firstLine(text string) string {
	line, _, _ := strings.Cut(strings.TrimSpace(text), "\n")
	return line
}

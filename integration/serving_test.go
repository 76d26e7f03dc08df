package integration

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/BurntSushi/toml"
)

// A running is a command of a page that serves until it is stopped.
type running struct {
	at, line  string
	who       *person
	pid       int
	log       string
	addresses []string // of the web server, as http://127.0.0.1:8080; empty: it only mounts
	mount     string   // only without a web server
}

// output is the beginning and the end of its output.
func (s *running) output() string {
	const most = 3000
	text, _ := os.ReadFile(s.log)
	if len(text) > 2*most {
		text = slices.Concat(text[:most], []byte("\n[...]\n"), text[len(text)-most:])
	}
	return string(text)
}

var (
	beforeCommand = regexp.MustCompile(`(?s)^((?:cd [^\n]+\n)?(?:[A-Z_]+=\S+ )*)(.*)$`)
	mounting      = regexp.MustCompile(`^isofs mount\b.* (/\S+)$`)
	listening     = regexp.MustCompile(`--listen[ =](\S+)|DEMO_LISTEN=(\S+)`)
	named         = regexp.MustCompile(`--server-name[ =](\S+)`)
	configured    = regexp.MustCompile(`--config[ =](\S+)`)
)

// serves stops the running command, starts the page's, waits until it serves, and checks it.
func (r *reader) serves(at string, who *person, c typed) bool {
	if !r.stop(at) {
		return false
	}
	_, line, _ := strings.Cut("\n"+c.plain(), "\n")
	line = strings.TrimSpace(line)
	s := &running{at: at, line: line, who: who}
	if m := mounting.FindStringSubmatch(line); m != nil {
		s.mount = m[1]
	} else if s.addresses = addressesOf(line); len(s.addresses) == 0 {
		return r.fails(at, "%s: it does not say where it listens", line)
	}
	m := beforeCommand.FindStringSubmatch(c.text)
	return r.start(s, m[1]+"exec "+m[2])
}

// start runs a shell's text in the background, and waits until it serves.
func (r *reader) start(s *running, text string) bool {
	dir := filepath.Join(scratch, "running")
	entries, _ := os.ReadDir(dir) // it does not exist the first time
	s.log = filepath.Join(dir, fmt.Sprintf("%d.log", len(entries)))
	if err := errors.Join(os.MkdirAll(dir, 0o777), os.Chmod(dir, 0o777)); err != nil {
		r.t.Fatal(err)
	}
	shown := s.who.must("( exec >" + s.log + " 2>&1\n" + text + "\n) &\necho $!")
	pid, err := strconv.Atoi(strings.TrimSpace(shown))
	if err != nil {
		r.t.Fatalf("%s: %v", s.line, err)
	}
	s.pid, r.running = pid, s
	wait := patience
	if strings.Contains(s.line, "make demo") {
		wait = demoPatience
	}
	for deadline := time.Now().Add(wait); !s.isUp(); time.Sleep(50 * time.Millisecond) {
		if !isRunning(pid) {
			defer func() { r.running = nil }()
			return r.fails(s.at, "%s (as %s) ended before it served", s.line, s.who.name)
		}
		if time.Now().After(deadline) {
			return r.fails(s.at, "%s (as %s) does not serve", s.line, s.who.name)
		}
	}
	return r.judge(s)
}

func (s *running) isUp() bool {
	if s.mount != "" {
		mounts, _ := os.ReadFile("/proc/self/mountinfo")
		return bytes.Contains(mounts, []byte(" "+s.mount+" "))
	}
	for _, address := range s.addresses {
		if !answers(address + "/healthz") {
			return false
		}
	}
	return true
}

// stop ends the running command as an operator does, and checks that it ended well.
func (r *reader) stop(at string) bool {
	s := r.running
	if s == nil {
		return true
	}
	demo := strings.Contains(s.line, "make demo")
	target, signal := s.pid, syscall.SIGTERM
	if demo { // by ctrl-C, as its output says
		target, signal = -s.pid, syscall.SIGINT
	}
	if err := syscall.Kill(target, signal); err != nil && !errors.Is(err, syscall.ESRCH) {
		r.t.Fatal(err)
	}
	_, status, err := s.who.types("wait " + strconv.Itoa(s.pid))
	switch {
	case err != nil:
		return r.fails(s.at, "%s does not end: %v", s.line, err)
	case demo && !strings.Contains(s.output(), "stopped and unmounted"), !demo && status != 0:
		return r.fails(s.at, "%s ended with status %d before %s", s.line, status, at)
	}
	r.running = nil
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		r.t.Fatal(err)
	}
	for line := range strings.Lines(string(mounts)) {
		if strings.Contains(line, "fuse") && !strings.Contains(line, scratch+"/images/") {
			return r.fails(s.at, "%s left a mount: %s", s.line, line)
		}
	}
	return true
}

// addressesOf returns where a command, or its settings, say that it listens.
func addressesOf(line string) []string {
	listen, config := []string{"127.0.0.1:8080"}, "/etc/isofs.toml"
	if m := configured.FindStringSubmatch(line); m != nil {
		config = m[1]
	}
	var settings struct{ Listen []string }
	if _, err := toml.DecodeFile(config, &settings); err == nil && settings.Listen != nil {
		listen = settings.Listen
	}
	if m := listening.FindStringSubmatch(line); m != nil {
		listen = strings.Split(m[1]+m[2], ",")
	}
	var addresses []string
	for _, l := range listen {
		if !strings.Contains(l, ":") {
			l = ":" + l
		}
		host, port, err := net.SplitHostPort(l)
		switch {
		case err != nil:
			return nil
		case host == "":
			host = "127.0.0.1"
		case host == "::":
			host = "::1"
		}
		address := "http://" + net.JoinHostPort(host, port)
		// The certificate is for the name.
		if m := named.FindStringSubmatch(line); m != nil && strings.Contains(line, "--tls-cert") {
			address = "https://" + net.JoinHostPort(m[1], port)
		}
		addresses = append(addresses, address)
	}
	return addresses
}

// judge checks the served image. Its sidecar and isofs pack must give its digest, and a range of it
// must be right.
func (r *reader) judge(s *running) bool {
	if s.mount != "" {
		f, err := os.Open(filepath.Join(s.mount, "notepat-os.iso"))
		if err != nil {
			return r.fails(s.at, "%s: %v", s.line, err)
		}
		defer f.Close()
		sum := sha256.New()
		n, err := io.Copy(sum, f)
		if got := hex.EncodeToString(sum.Sum(nil)); err != nil || got != r.image {
			return r.fails(s.at, "%s: the mounted image of %d bytes has %s, the packed one %s (%v)", s.line, n, got, r.image, err)
		}
		return true
	}
	r.signed = r.signed || strings.Contains(s.line, "sign-key")
	for i, address := range s.addresses {
		if err := r.judgeAt(address+"/notepat-os.iso", i == 0); err != nil {
			return r.fails(s.at, "%s (as %s), at %s: %v", s.line, s.who.name, address, err)
		}
	}
	return true
}

func (r *reader) judgeAt(url string, all bool) error {
	var listed, part, packed bytes.Buffer
	if err := fetched(&listed, url+".sha256", http.StatusOK, ""); err != nil || !all {
		return err
	}
	// The first request starts a download, so isofs sends later ranges from the same image.
	sum := sha256.New()
	if err := fetched(sum, url, http.StatusOK, ""); err != nil {
		return err
	}
	const from, to = 1<<20 - 10, 1<<20 + 9 // across the border of two blocks
	if err := fetched(&part, url, http.StatusPartialContent, fmt.Sprintf("bytes=%d-%d", from, to)); err != nil {
		return err
	}
	base, err := os.Open(elseBase + "/base.iso")
	if err != nil {
		return err
	}
	defer base.Close()
	if _, err := io.Copy(&packed, io.NewSectionReader(base, from, to+1-from)); err != nil {
		return err
	}
	got := hex.EncodeToString(sum.Sum(nil))
	switch {
	case listed.String() != got+"  notepat-os.iso\n":
		return fmt.Errorf("the image has the SHA-256 %s; .sha256 says %s", got, listed.String())
	case !bytes.Equal(part.Bytes(), packed.Bytes()):
		return errors.New("a range is not that part of the image")
	case got != r.image && !r.signed && !answers(url+".asc"): // a signed image contains a signature, and differs
		return fmt.Errorf("the image has the SHA-256 %s; isofs pack makes %s", got, r.image)
	}
	return nil
}

// fetched copies what an address sends, or a span of it.
func fetched(to io.Writer, url string, status int, span string) error {
	req, err := http.NewRequest(http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	if span != "" {
		req.Header.Set("Range", span)
	}
	resp, err := noRedirects.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != status {
		body, _ := io.ReadAll(io.LimitReader(resp.Body, 200)) // for the message; the status says enough
		return fmt.Errorf("%s: %s: %s", url, resp.Status, body)
	}
	_, err = io.Copy(to, resp.Body)
	return err
}

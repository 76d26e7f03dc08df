package integration

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/pem"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"aesthetic.computer/isofs/integration/testkit"
)

// A secureServer serves https as downloads.example with a self-signed certificate, and http at
// another address.
type secureServer struct {
	*server
	port, plain string
	cert, key   string
	now         tls.Certificate
}

func newSecureServer(t *testing.T, flags ...string) *secureServer {
	t.Helper()
	s := &secureServer{server: newServer(t), plain: freeAddress(t)}
	_, s.port, _ = net.SplitHostPort(s.addr)
	s.cert, s.key = s.path("tls/fullchain.pem"), s.path("tls/privkey.pem")
	if err := os.Mkdir(s.path("tls"), 0o755); err != nil {
		t.Fatal(err)
	}
	s.renew()
	s.args = append(s.args, "--server-name", ownName, "--tls-cert", s.cert, "--tls-key", s.key, "--redirect-from", s.plain)
	s.args = append(s.args, flags...)
	return s
}

// renew replaces the certificate.
func (s *secureServer) renew() {
	s.t.Helper()
	s.now = selfSigned(s.t, []string{ownName})
	writePair(s.t, s.now, s.cert, s.key)
}

// up starts the server, and waits until it answers https.
func (s *secureServer) up() {
	s.t.Helper()
	s.launch()
	testkit.Eventually(s.t, "https", func() bool {
		select {
		case <-s.ended:
			s.t.Fatalf("isofs ended: %v\n%s", s.err, s.log.String())
		default:
		}
		return s.presents(s.now)
	})
}

// presents reports whether the server shows that certificate. The client trusts no other.
func (s *secureServer) presents(c tls.Certificate) bool {
	leaf, err := x509.ParseCertificate(c.Certificate[0])
	if err != nil {
		s.t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(leaf)
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, ServerName: ownName}, DisableKeepAlives: true}
	resp, err := (&http.Client{Transport: transport}).Get("https://" + s.addr + "/healthz")
	if err != nil {
		return false
	}
	resp.Body.Close()
	return resp.StatusCode == http.StatusOK
}

// curl runs curl, for which the name is this server's and the certificate trusted.
func (s *secureServer) curl(args ...string) (string, error) {
	host, plainPort, _ := net.SplitHostPort(s.plain)
	args = append([]string{"-sS", "--fail", "--cacert", s.cert, "--resolve", ownName + ":" + s.port + ":" + strings.Split(s.addr, ":")[0], "--resolve", ownName + ":" + plainPort + ":" + host}, args...)
	out, err := exec.Command("curl", args...).CombinedOutput()
	return string(out), err
}

// TestHTTPS: curl, wget from http on, and Chromium get the image. Links are https.
func TestHTTPS(t *testing.T) {
	t.Parallel()
	need(t, "nginx", "curl", "openssl", "node", "chromium")
	s := newSecureServer(t)
	s.up()
	address := "https://" + ownName + ":" + s.port
	file := s.path("by-curl.iso")
	if out, err := s.curl("-o", file, address+"/notepat-os.iso"); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	want := packedSHA256(t, "notepat")
	if got := sha256File(t, file); got != want {
		t.Errorf("curl got %s, packed is %s", got, want)
	}
	_, plainPort, _ := net.SplitHostPort(s.plain)
	if out, err := s.curl("-L", "-r", "0-9", "-o", s.path("part"), "-w", "%{url_effective} %{http_code}", "http://"+ownName+":"+plainPort+"/notepat-os.iso"); err != nil || out != address+"/notepat-os.iso 206" {
		t.Errorf("by way of http: %v: %s", err, out)
	}
	for path, link := range map[string]string{"/os?piece=notepat&format=stream": address + "/s/", "/os:notepat": "etcher://"} {
		if out, err := s.curl(address + path); err != nil || !strings.Contains(out, link) || strings.Contains(out, "http://"+ownName) {
			t.Errorf("%s: %v, wants %s:\n%s", path, err, link, out)
		}
	}
	if out, err := s.curl("-o", os.DevNull, "-w", "%{redirect_url}", address+"/os?piece=notepat"); err != nil || !strings.HasPrefix(out, address+"/s/") {
		t.Errorf("/os leads to %s (%v)", out, err)
	}
	// Chromium trusts the key of the certificate.
	leaf, err := x509.ParseCertificate(s.now.Certificate[0])
	if err != nil {
		t.Fatal(err)
	}
	spki := sha256.Sum256(leaf.RawSubjectPublicKeyInfo)
	cmd := exec.Command("node", "download.mjs")
	cmd.Dir = "browser"
	cmd.Env = append(os.Environ(), "ISOFS_ADDRESS="+address+"/notepat-os.iso", "ISOFS_DOWNLOADS="+t.TempDir(), "ISOFS_CHROMIUM=/usr/bin/chromium",
		"ISOFS_SPKI="+base64.StdEncoding.EncodeToString(spki[:]), "ISOFS_RULES=MAP "+ownName+" "+strings.Split(s.addr, ":")[0])
	out, err := cmd.CombinedOutput()
	if got := strings.TrimSpace(string(out)); err != nil || got != want {
		t.Errorf("Chromium got %s (%v), packed is %s", got, err, want)
	}
	s.stop()
}

// TestCertificateIsRenewed: after SIGHUP isofs serves a new certificate, and cuts no download. A
// wrong one changes nothing, and makes a start fail.
func TestCertificateIsRenewed(t *testing.T) {
	t.Parallel()
	need(t, "nginx", "curl")
	s := newSecureServer(t, "--limit-rate", "20MiB")
	s.up()
	file := s.path("slow.iso")
	started, ended := make(chan struct{}), make(chan error, 1)
	go func() {
		// This curl trusts the first certificate, whatever the file has later.
		first := s.path("first.pem")
		writePair(t, s.now, first, s.path("first.key"))
		close(started)
		out, err := s.curl("--cacert", first, "-o", file, "https://"+ownName+":"+s.port+"/notepat-os.iso")
		if err != nil {
			t.Logf("%s", out)
		}
		ended <- err
	}()
	<-started
	testkit.Eventually(t, "the download to begin", func() bool { fi, err := os.Stat(file); return err == nil && fi.Size() > 0 })
	old := s.now
	s.renew()
	s.hangup("nginx has new settings")
	testkit.Eventually(t, "the new certificate", func() bool { return s.presents(s.now) && !s.presents(old) })
	if err := os.WriteFile(s.key, []byte("no key\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	s.hangup("nginx stays as it was")
	if !s.presents(s.now) || !strings.Contains(s.log.String(), "--tls-cert "+s.cert+", with the key "+s.key) {
		t.Error("a wrong key was taken over, or the log does not name it and its flag")
	}
	if err := <-ended; err != nil {
		t.Errorf("the download that ran: %v", err)
	} else if got, want := sha256File(t, file), packedSHA256(t, "notepat"); got != want {
		t.Errorf("the download that ran is %s, packed is %s", got, want)
	}
	s.stop()

	s.fails("the key " + s.key)
	s.renew()
	other := s.path("tls/other.pem")
	writePair(t, selfSigned(t, []string{"else.example"}), other, s.key)
	s.fails("private key does not match")
	s.renew()
	s.args = append(s.args, "--server-name", "else.example")
	s.fails("is not for server name else.example")
}

// TestCertificateAtTheBorder: root refuses a certificate that other users could replace.
func TestCertificateAtTheBorder(t *testing.T) {
	t.Parallel()
	servingUser(t)
	s := newSecureServer(t)
	theirs := s.theirs("theirs")
	writePair(t, s.now, filepath.Join(theirs, "cert.pem"), filepath.Join(theirs, "key.pem"))
	link := s.path("tls/link.pem")
	if err := os.Symlink(filepath.Join(theirs, "key.pem"), link); err != nil {
		t.Fatal(err)
	}
	own := s.args
	for _, flags := range [][]string{{"--tls-cert", filepath.Join(theirs, "cert.pem")}, {"--tls-key", filepath.Join(theirs, "key.pem")}, {"--tls-key", link}} {
		s.args = append(own[:len(own):len(own)], flags...)
		s.fails(theirs + " belongs to the user isofs")
	}
	// Links like those of certbot belong to root, and are accepted.
	s.args = own
	if err := os.Remove(link); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("privkey.pem", link); err != nil {
		t.Fatal(err)
	}
	s.args = append(own[:len(own):len(own)], "--tls-key", link)
	s.up()
	if out, err := exec.Command(isofs, append([]string{"doctor"}, append([]string{"serve"}, s.args[1:]...)...)...).CombinedOutput(); !strings.Contains(string(out), "ok       the address "+s.plain) {
		t.Errorf("doctor does not know the server at %s: %v\n%s", s.plain, err, out)
	}
	_ = syscall.Kill(s.cmd.Process.Pid, syscall.SIGTERM)
	s.wait()
}

// writePair writes a certificate and its key as PEM.
func writePair(t *testing.T, c tls.Certificate, cert, key string) {
	t.Helper()
	secret, err := x509.MarshalPKCS8PrivateKey(c.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	for path, block := range map[string]*pem.Block{cert: {Type: "CERTIFICATE", Bytes: c.Certificate[0]}, key: {Type: "PRIVATE KEY", Bytes: secret}} {
		if err := os.WriteFile(path, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func sha256File(t *testing.T, path string) string {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	sum := sha256.New()
	if _, err := io.Copy(sum, f); err != nil {
		t.Fatal(err)
	}
	return hex.EncodeToString(sum.Sum(nil))
}
